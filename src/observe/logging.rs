//! Structured logs on the standard error, and the report of a panic there.
//!
//! A text line is logfmt, in the order of its values' use: `time=… level=… event=… msg=… key=…`. The
//! message is for people; programs and alert rules match `event`, which stays the same.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fmt::{self, Write as _},
    io::{IsTerminal, stderr},
    panic::PanicHookInfo,
    thread,
    time::Duration,
};

use tracing::{Event, Level, Subscriber, field::Field};
use tracing_subscriber::{
    EnvFilter,
    field::Visit,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer, layer},
    prelude::*,
    registry::LookupSpan,
};

use super::stderr::{Stderr, write_lines};
use crate::policy::LogFormat;

/// Installs the process's one subscriber; a second call changes nothing. `RUST_LOG` overrides the
/// level, and colour is for terminals only. Control characters in values are escaped; `notify` logs
/// names as they are, and only below its warnings, so nothing else of it is ever let through.
pub fn init(format: LogFormat, level: &str) {
    let default = || EnvFilter::new(format!("{level},notify=warn,hyper=warn,hyper_util=warn"));
    let asked = std::env::var("RUST_LOG").ok().filter(|asked| !asked.is_empty());
    let parsed = asked.map(|asked| EnvFilter::try_new(&asked).map_err(|error| (asked, error)));
    let (filter, refused) = match parsed {
        Some(Ok(filter)) => (filter, None),
        Some(Err(refused)) => (default(), Some(refused)),
        None => (default(), None),
    };
    let filter = match "notify=warn".parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(_) => filter,
    };
    let registry = tracing_subscriber::registry().with(filter);
    let installed = match format {
        LogFormat::Json => {
            let json = layer().json().flatten_event(true).with_target(false);
            registry.with(json.with_writer(|| Stderr)).try_init()
        }
        LogFormat::Text => {
            let text = layer().with_ansi(is_coloured()).event_format(Logfmt);
            registry.with(text.with_writer(|| Stderr)).try_init()
        }
    };
    // Already installed, by a test or by a program that uses this as a library.
    drop(installed);
    if let Some((value, error)) = refused {
        tracing::warn!(event = "log.filter_ignored", value, %error, "cannot parse RUST_LOG, ignored");
    }
}

/// Whether the standard error takes colours: by `NO_COLOR` and `CLICOLOR_FORCE` (<https://no-color.org>,
/// <https://bixense.com/clicolors>), else where it is a terminal.
#[must_use]
pub fn is_coloured() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_forced =
        std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != *"0");
    !is_set("NO_COLOR") && (is_forced || stderr().is_terminal())
}

/// A duration in seconds with three decimals, as log lines have it.
#[must_use]
pub fn log_seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::default();
        event.record(&mut line);
        let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
        let level = *event.metadata().level();
        if writer.has_ansi_escapes() {
            let colour = match level {
                Level::ERROR => "31",
                Level::WARN => "33",
                Level::INFO => "32",
                _ => "34",
            };
            write!(writer, "\x1b[2mtime={time}\x1b[0m level=\x1b[{colour}m{level}\x1b[0m")?;
        } else {
            write!(writer, "time={time} level={level}")?;
        }
        if !line.event.is_empty() {
            write!(writer, " event={}", line.event)?;
        }
        write!(writer, " msg={}", Value(&line.message))?;
        writeln!(writer, "{}", line.fields)
    }
}

/// What one line has, as it is collected from its event.
#[derive(Default)]
struct Line {
    event: String,
    message: String,
    /// ` key=value` for each of the rest.
    fields: String,
}

impl Line {
    fn add(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            "event" => self.event = value,
            name => {
                // Into a string: it cannot fail.
                write!(self.fields, " {name}={}", Value(&value)).ok();
            }
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }
}

/// A value of logfmt: quoted, with the escapes of JSON, where it is empty or has a blank, a quote, an
/// equals sign or a control character.
struct Value<'a>(&'a str);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_special = |one: char| one.is_whitespace() || one.is_control() || "\"=".contains(one);
        if !self.0.is_empty() && !self.0.contains(is_special) {
            return f.write_str(self.0);
        }
        f.write_char('"')?;
        for one in self.0.chars() {
            match one {
                '"' | '\\' => write!(f, "\\{one}")?,
                '\n' => f.write_str("\\n")?,
                one if one.is_control() => write!(f, "\\u{:04x}", u32::from(one))?,
                one => f.write_char(one)?,
            }
        }
        f.write_char('"')
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_quoted_where_logfmt_needs_it() {
        let of = |value| Value(value).to_string();
        assert_eq!(of("in/a.log"), "in/a.log");
        assert_eq!(of(r"a\x1b"), r"a\x1b");
        assert_eq!(of(""), r#""""#);
        assert_eq!(of("two words"), r#""two words""#);
        assert_eq!(of("a=b \"c\" \\ \n\u{1b}"), r#""a=b \"c\" \\ \n\u001b""#);
    }

    #[test]
    fn seconds_have_three_decimals() {
        assert!((log_seconds(Duration::from_nanos(11_010_399_686)) - 11.01).abs() < 1e-9);
    }
}
