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

/// The longest age.
const OLDEST: Duration = Duration::from_hours(24 * 36_600);
const DAY: Duration = Duration::from_hours(24);

/// An age of at least an hour: `36h`, `30d`, `2w`, `1y` (365 days).
#[derive(Debug)]
pub struct Age;

impl Kind for Age {
    type Written = String;
    type Value = Duration;
    const NAME: &'static str = "age";
    const REFUSED: Option<&'static str> = Some("\"1m\"");
    const EXAMPLES: [&'static str; 2] = ["\"90d\"", "\"80d\""];

    fn parse(written: &String) -> Result<Duration, Refusal> {
        let help = "ages are written `36h`, `30d`, `2w`, `1y`";
        match age(written) {
            Some(age) if age < Duration::from_hours(1) => {
                refused("the age must be at least an hour", help)
            }
            Some(age) if age <= OLDEST => Ok(age),
            Some(_) => refused(format!("`{written}` is longer than 100 years"), help),
            None => refused(format!("`{written}` is not an age"), help),
        }
    }

    fn show(value: &Duration) -> Option<String> {
        let seconds = value.as_secs();
        let is_days = value.subsec_nanos() == 0 && seconds.is_multiple_of(DAY.as_secs());
        Some(if is_days { format!("{}d", seconds / DAY.as_secs()) } else { written(*value) })
    }

    fn unset() -> Duration {
        OLDEST
    }
}

fn age(text: &str) -> Option<Duration> {
    let days = [('d', 1), ('w', 7), ('y', 365)];
    let of_unit = |(unit, days): (char, u32)| {
        let count: u32 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        DAY.checked_mul(count.checked_mul(days)?)
    };
    days.into_iter().find_map(of_unit).or_else(|| duration(text))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_read_as_it_is_shown() {
        for (text, hours, shown) in [
            ("36h", 36, "36h"),
            ("30d", 720, "30d"),
            ("2w", 336, "14d"),
            ("1y", 8760, "365d"),
            ("48h", 48, "2d"),
        ] {
            let age = Age::parse(&text.to_owned()).expect(text);
            assert_eq!(age, Duration::from_hours(hours), "{text}");
            assert_eq!(Age::show(&age).as_deref(), Some(shown));
        }
        for refused in ["59m", "0d", "d", "-1d", "soon", "101y", "99999999999d"] {
            assert!(Age::parse(&refused.to_owned()).is_err(), "{refused}");
        }
    }
}
