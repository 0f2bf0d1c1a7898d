//! Sizes, rates and durations for people, in the units of the page: SI, three digits.

use std::time::Duration;

/// `512 B`, `1.2 kB`, `13.1 MB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut amount = bytes as f64 / 1000.0;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or_default();
    while amount >= 999.5 {
        let Some(larger) = units.next() else { break };
        (amount, unit) = (amount / 1000.0, larger);
    }
    // A rounded 9.96 is 10.0: one digit less.
    let decimals = match amount {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    let text = format!("{amount:.decimals$}");
    let short =
        if decimals == 0 { &text } else { text.trim_end_matches('0').trim_end_matches('.') };
    format!("{short} {unit}")
}

/// Bytes in a second: `0 B/s`, `11 MB/s`.
#[must_use]
pub fn rate(bytes: u64, took: Duration) -> String {
    format!("{}/s", size(per_second(bytes, took)))
}

/// The count in a second, rounded.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people"
)]
pub fn per_second(count: u64, took: Duration) -> u64 {
    (count as f64 / took.as_secs_f64().max(0.001)).round() as u64
}

/// `1d 2h`, `3m 4s`, `5s`.
#[must_use]
pub fn span(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{whole}s"),
        (0, 0, _) => format!("{minutes}m {}s", whole % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// `1 file`, `2 files`.
#[must_use]
pub fn files(count: u64) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_si_units() {
        for (bytes, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1 kB"),
            (1234, "1.23 kB"),
            (9_996, "10 kB"),
            (99_960, "100 kB"),
            (999_600, "1 MB"),
            (13_107_200, "13.1 MB"),
            (123_456_789, "123 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(bytes), shown, "{bytes}");
        }
    }

    #[test]
    fn spans_have_two_units_and_rates_are_per_second() {
        for (seconds, shown) in
            [(-1.0, "0s"), (59.9, "59s"), (61.0, "1m 1s"), (3725.0, "1h 2m"), (93_600.0, "1d 2h")]
        {
            assert_eq!(span(seconds), shown);
        }
        assert_eq!(rate(22_000_000, Duration::from_secs(2)), "11 MB/s");
        assert_eq!(per_second(3, Duration::from_secs(2)), 2);
        assert_eq!((files(1), files(2)), ("1 file".to_owned(), "2 files".to_owned()));
    }
}
