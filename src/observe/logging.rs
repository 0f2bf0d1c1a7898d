//! Structured logs on the standard error, and what a panic says there.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{IsTerminal, stderr},
    panic::PanicHookInfo,
    thread,
};

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use super::stderr::{Stderr, write_lines};
use crate::policy::LogFormat;

/// Installs the process's one subscriber; a second call changes nothing. `RUST_LOG` overrides the
/// level, and colour is for terminals only. Control characters in values are escaped; `notify` tells
/// names as they are, and only below its warnings, so nothing else of it is ever let through.
pub fn init(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new(format!("{level},notify=warn,hyper=warn,hyper_util=warn"))
    });
    let filter = match "notify=warn".parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(_) => filter,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let installed = match format {
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(|| Stderr)).try_init()
        }
        LogFormat::Text => {
            let layer = fmt::layer().with_target(false).with_ansi(stderr().is_terminal());
            registry.with(layer.with_writer(|| Stderr)).try_init()
        }
    };
    // Already installed, by a test or by a program that uses this as a library.
    drop(installed);
}

/// Reports a panic as the library does, without waiting for the reader.
pub fn report_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let mut text = format!("\nthread '{}' {panic}\n", thread.name().unwrap_or("<unnamed>"));
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        text += &format!("stack backtrace:\n{trace}\n");
    }
    write_lines(text.as_bytes());
}
