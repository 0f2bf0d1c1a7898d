//! Durations: `250ms`, `2s`, `1m 30s`, `1h`.

use std::time::Duration;

use super::kinds::{Kind, Refusal, refused};
use crate::policy::Settle;

/// The longest duration: the end of a longer one could be more than the clock can hold.
const LONGEST: Duration = Duration::from_hours(24 * 366);

/// A duration, 0 included.
#[derive(Debug)]
pub struct Delay;

impl Kind for Delay {
    type Written = String;
    type Value = Duration;
    const NAME: &'static str = "duration";
    const REFUSED: Option<&'static str> = Some("\"soon\"");
    const EXAMPLES: [&'static str; 2] = ["\"9s\"", "\"8s\""];

    fn parse(written: &String) -> Result<Duration, Refusal> {
        match duration(written) {
            Some(duration) if duration <= LONGEST => Ok(duration),
            Some(_) => refused(format!("`{written}` is longer than a year"), "a year is `8784h`"),
            None => {
                let help = "durations are written `250ms`, `2s`, `1m 30s`, `1h`";
                refused(format!("`{written}` is not a duration"), help)
            }
        }
    }

    fn show(value: &Duration) -> Option<String> {
        Some(written(*value))
    }

    fn unset() -> Duration {
        Duration::ZERO
    }
}

/// `250ms`, `1m 30s`, and plain numbers as seconds.
pub fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    text.parse::<jiff::SignedDuration>().ok()?.try_into().ok()
}

/// A duration that is not 0.
#[derive(Debug)]
pub struct Period;

impl Kind for Period {
    type Written = String;
    type Value = Duration;
    const NAME: &'static str = Delay::NAME;
    const REFUSED: Option<&'static str> = Some("\"0s\"");
    const EXAMPLES: [&'static str; 2] = Delay::EXAMPLES;

    fn parse(written: &String) -> Result<Duration, Refusal> {
        match Delay::parse(written)? {
            Duration::ZERO => {
                refused("the duration must be greater than 0", "leave it out for the default")
            }
            duration => Ok(duration),
        }
    }

    fn show(value: &Duration) -> Option<String> {
        Delay::show(value)
    }

    fn unset() -> Duration {
        Duration::MAX
    }
}

/// When a file counts as finished: `auto`, or the time for which it has not changed.
#[derive(Debug)]
pub struct QuietTime;

impl Kind for QuietTime {
    type Written = String;
    type Value = Settle;
    const NAME: &'static str = Delay::NAME;
    const WORDS: &'static [&'static str] = &["auto"];
    const REFUSED: Option<&'static str> = Delay::REFUSED;
    const EXAMPLES: [&'static str; 2] = Delay::EXAMPLES;

    fn parse(written: &String) -> Result<Settle, Refusal> {
        if written == "auto" { Ok(Settle::Auto) } else { Delay::parse(written).map(Settle::Quiet) }
    }

    fn show(value: &Settle) -> Option<String> {
        match value {
            Settle::Auto => Some("auto".to_owned()),
            Settle::Quiet(quiet) => Delay::show(quiet),
        }
    }

    fn unset() -> Settle {
        Settle::Auto
    }
}

/// Exact, in the largest unit that it is a multiple of.
pub fn written(duration: Duration) -> String {
    match (duration.as_secs(), duration.subsec_nanos()) {
        (0, 0) => "0s".to_owned(),
        (seconds, 0) if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        (seconds, 0) if seconds % 60 == 0 => format!("{}m", seconds / 60),
        (seconds, 0) => format!("{seconds}s"),
        (_, nanos) if nanos.is_multiple_of(1_000_000) => format!("{}ms", duration.as_millis()),
        _ => format!("{}ns", duration.as_nanos()),
    }
}
