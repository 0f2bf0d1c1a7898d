//! Structured logs on the standard error, and the report of a panic there.
//!
//! A text line is logfmt: `time=… level=… event=… msg=… key=…`. The message is for people; programs and
//! alert rules match `event`, which is stable.

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

/// The target of lines that no level filters: the end of a `--once`, and panics.
pub const UNFILTERED: &str = "tidemill::unfiltered";

/// Installs the process's one subscriber; a second call changes nothing. `RUST_LOG` overrides the
/// level. Control characters in values are escaped; the crate `notify` logs names unescaped below the
/// level of warnings, so only its warnings pass.
pub fn init(format: LogFormat, level: &str) {
    let default = || EnvFilter::new(format!("{level},notify=warn,hyper=warn,hyper_util=warn"));
    let value = std::env::var("RUST_LOG").ok().filter(|value| !value.is_empty());
    let parsed = value.map(|value| EnvFilter::try_new(&value).map_err(|error| (value, error)));
    let (filter, invalid) = match parsed {
        Some(Ok(filter)) => (filter, None),
        Some(Err(invalid)) => (default(), Some(invalid)),
        None => (default(), None),
    };
    let fixed = ["notify=warn".to_owned(), format!("{UNFILTERED}=info")];
    let fixed = fixed.iter().filter_map(|directive| directive.parse().ok());
    let filter = fixed.fold(filter, EnvFilter::add_directive);
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
    // A test, or a program that uses this as a library, may have installed one before.
    drop(installed);
    if let Some((value, error)) = invalid {
        tracing::warn!(event = "log.filter_ignored", value, %error, "cannot parse RUST_LOG, ignored");
    }
}

/// Returns whether standard error is coloured: as `NO_COLOR` and `CLICOLOR_FORCE` decide
/// (<https://no-color.org>, <https://bixense.com/clicolors>), else if it is a terminal.
#[must_use]
pub fn is_coloured() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_forced =
        std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != *"0");
    !is_set("NO_COLOR") && (is_forced || stderr().is_terminal())
}

/// Returns a duration in seconds with three decimals, as in log lines.
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

/// The parts of one line, collected from its event.
#[derive(Default)]
struct Line {
    event: String,
    message: String,
    /// ` key=value` for each other field.
    fields: String,
}

impl Line {
    fn add(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            "event" => self.event = value,
            name => {
                // Writing to a string cannot fail.
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

/// A value of logfmt. It is quoted, with the escapes of JSON, if it is empty or contains a blank, a
/// quote, an equals sign or a control character.
struct Value<'a>(&'a str);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_special =
            |char: char| char.is_whitespace() || char.is_control() || "\"=".contains(char);
        if !self.0.is_empty() && !self.0.contains(is_special) {
            return f.write_str(self.0);
        }
        f.write_char('"')?;
        for char in self.0.chars() {
            match char {
                '"' | '\\' => write!(f, "\\{char}")?,
                '\n' => f.write_str("\\n")?,
                char if char.is_control() => write!(f, "\\u{:04x}", u32::from(char))?,
                char => f.write_char(char)?,
            }
        }
        f.write_char('"')
    }
}

/// Reports a panic without waiting for the reader: as a line of the log, or, in a command that has none,
/// in the form of the standard library.
pub fn report_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("<unnamed>");
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
    if tracing::dispatcher::has_been_set() {
        tracing::error!(
            target: UNFILTERED,
            event = "service.panic",
            thread,
            location = panic.location().map(display),
            error = panic.payload_as_str(),
            backtrace = backtrace.as_ref().map(display),
            "thread panicked"
        );
        return;
    }
    let mut text = format!("\nthread '{thread}' {panic}\n");
    if let Some(backtrace) = backtrace {
        text += &format!("stack backtrace:\n{backtrace}\n");
    }
    write_lines(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_quoted_if_logfmt_needs_it() {
        let quoted = |value| Value(value).to_string();
        assert_eq!(quoted("in/a.log"), "in/a.log");
        assert_eq!(quoted(r"a\x1b"), r"a\x1b");
        assert_eq!(quoted(""), r#""""#);
        assert_eq!(quoted("two words"), r#""two words""#);
        assert_eq!(quoted("a=b \"c\" \\ \n\u{1b}"), r#""a=b \"c\" \\ \n\u001b""#);
    }

    #[test]
    fn seconds_have_three_decimals() {
        assert!((log_seconds(Duration::from_nanos(11_010_399_686)) - 11.01).abs() < 1e-9);
    }
}
