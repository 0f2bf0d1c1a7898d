//! The windows of a week in which a pipeline takes files: `22:00-06:00 Mon-Fri; 00:00-24:00 Sat,Sun`.
//!
//! A window opens and closes by the local clock. Where a change of the clock skips its begin, it opens that
//! much later; where an hour comes twice, the first one counts. So it opens once on each of its days, and one
//! that the clock skips whole lasts as long as on other days.

use jiff::{SignedDuration, Timestamp, ToSpan, civil::Date, tz::TimeZone};

use super::kinds::{Kind, Refusal, refused};

const DAY_MINUTES: u16 = 24 * 60;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const WINDOW_HELP: &str = "a window is written `22:00-06:00`, `22:00-06:00 Mon-Fri` or `00:00-24:00 Sat,Sun`, several with `;` in between";

/// One window, on some days of each week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    /// Minutes after midnight.
    opens: u16,
    /// Minutes after the same midnight, at most a day after `opens`.
    closes: u16,
    /// The days on which it opens, from Monday.
    days: [bool; 7],
}

/// At least one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    text: String,
    all: Vec<Window>,
}

/// The state of the windows at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowState {
    /// One is open, until then at least.
    Open { until: Timestamp },
    /// All are closed; the next one opens then.
    Closed { opens: Timestamp },
}

/// A time zone, as it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    pub name: String,
    zone: TimeZone,
}

impl Windows {
    /// Returns whether a window is open at `now` in this zone.
    #[must_use]
    pub fn at(&self, now: Timestamp, Zone { zone, .. }: &Zone) -> WindowState {
        let today = now.to_zoned_datetime(zone.clone()).date();
        // A window of yesterday may be open still, and each day of the week comes within the next eight.
        let days = (-1_i64..=8).filter_map(|days| today.checked_add(days.days()).ok());
        let spans =
            days.flat_map(|date| self.all.iter().filter_map(move |one| one.span(date, zone)));
        let (mut until, mut next) = (None, None);
        for (opens, closes) in spans {
            if opens > now {
                next = Some(next.map_or(opens, |next: Timestamp| next.min(opens)));
            } else if closes > now {
                until = Some(until.map_or(closes, |until: Timestamp| until.max(closes)));
            }
        }
        match (until, next) {
            (Some(until), _) => WindowState::Open { until },
            (None, opens) => WindowState::Closed { opens: opens.unwrap_or(Timestamp::MAX) },
        }
    }
}

impl Window {
    /// Returns the begin and the end of the window that opens on this date; `None` on other days.
    fn span(self, date: Date, zone: &TimeZone) -> Option<(Timestamp, Timestamp)> {
        let weekday = usize::try_from(date.weekday().to_monday_zero_offset()).ok()?;
        if !*self.days.get(weekday)? {
            return None;
        }
        let (opens, closes) = (at(date, self.opens, zone)?, at(date, self.closes, zone)?);
        let length = SignedDuration::from_mins(i64::from(self.closes - self.opens));
        let is_skipped = closes <= opens;
        Some((opens, if is_skipped { opens.checked_add(length).ok()? } else { closes }))
    }
}

/// Returns the time at which the local clock shows this minute of a date, or of the one after it.
fn at(date: Date, minute: u16, zone: &TimeZone) -> Option<Timestamp> {
    let date = if minute < DAY_MINUTES { date } else { date.tomorrow().ok()? };
    let minute = i8::try_from(minute % DAY_MINUTES / 60).ok().zip(i8::try_from(minute % 60).ok());
    let (hour, minute) = minute?;
    // The "compatible" choice of RFC 5545: later where the clock skips it, the first where it comes twice.
    Some(date.at(hour, minute, 0, 0).to_zoned_datetime(zone.clone()).ok()?.timestamp())
}

impl Zone {
    /// Returns the time of day that the local clock shows then, with the day of the week if that is a day or
    /// more after `now`, and with the zone if it is not the machine's.
    #[must_use]
    pub fn clock(&self, at: Timestamp, now: Timestamp) -> String {
        let is_soon = at.duration_since(now) < SignedDuration::from_hours(24);
        let format = if is_soon { "%H:%M" } else { "%a %H:%M" };
        let clock = at.to_zoned_datetime(self.zone.clone()).strftime(format).to_string();
        if self.name == LOCAL { clock } else { format!("{clock} ({})", self.name) }
    }
}

/// The windows of a pipeline.
#[derive(Debug)]
pub struct WeeklyWindows;

impl Kind for WeeklyWindows {
    type Written = String;
    type Value = Windows;
    const NAME: &'static str = "window";
    const REFUSED: Option<&'static str> = Some("\"22:00\"");
    const EXAMPLES: [&'static str; 2] = ["\"22:00-06:00 Mon-Fri\"", "\"00:00-24:00\""];

    fn parse(written: &String) -> Result<Windows, Refusal> {
        let all = written.split(';').map(|text| window(text.trim())).collect::<Result<_, _>>()?;
        Ok(Windows { text: written.clone(), all })
    }

    fn show(value: &Windows) -> Option<String> {
        Some(value.text.clone())
    }

    fn unset() -> Windows {
        let all = vec![Window { opens: 0, closes: DAY_MINUTES, days: [true; 7] }];
        Windows { text: "00:00-24:00".to_owned(), all }
    }
}

fn window(text: &str) -> Result<Window, Refusal> {
    let (hours, days) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let times = hours.split_once('-').and_then(|(from, to)| minutes(from).zip(minutes(to)));
    let Some((opens, closes)) = times.filter(|(opens, _)| *opens < DAY_MINUTES) else {
        return refused(format!("`{text}` is not a window"), WINDOW_HELP);
    };
    if opens == closes {
        let message = format!("the window `{text}` opens and closes at the same time");
        return refused(message, "a whole day is `00:00-24:00`");
    }
    let closes = if closes < opens { closes + DAY_MINUTES } else { closes };
    match days.trim() {
        "" => Ok(Window { opens, closes, days: [true; 7] }),
        days => Ok(Window { opens, closes, days: weekdays(days)? }),
    }
}

/// `HH:MM`, as minutes after midnight.
fn minutes(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|digit| digit.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let all = hour * 60 + minute;
    (minute < 60 && all <= DAY_MINUTES).then_some(all)
}

/// `Mon-Fri`, `Sat,Sun`, `Fri-Mon,Wed`.
fn weekdays(text: &str) -> Result<[bool; 7], Refusal> {
    let day = |name: &str| {
        let found = DAYS.iter().position(|day| day.eq_ignore_ascii_case(name.trim()));
        found.map_or_else(|| refused(format!("`{name}` is not a day"), DAYS_HELP), Ok)
    };
    let mut days = [false; 7];
    for range in text.split(',') {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (from, to) = (day(from)?, day(to)?);
        let count = (to + 7 - from) % 7;
        days.iter_mut()
            .enumerate()
            .filter(|(index, _)| (index + 7 - from) % 7 <= count)
            .for_each(|(_, day)| *day = true);
    }
    Ok(days)
}

const DAYS_HELP: &str = "days are written `Mon`, `Tue`, `Wed`, `Thu`, `Fri`, `Sat`, `Sun`, as in `Mon-Fri` or `Mon,Wed-Fri`";

const LOCAL: &str = "local";

/// The zone of a local clock.
#[derive(Debug)]
pub struct ZoneName;

impl Kind for ZoneName {
    type Written = String;
    type Value = Zone;
    const NAME: &'static str = "time zone";
    const REFUSED: Option<&'static str> = Some("\"Mars/Olympus\"");
    const EXAMPLES: [&'static str; 2] = ["\"UTC\"", "\"local\""];

    fn parse(written: &String) -> Result<Zone, Refusal> {
        let zone = match &**written {
            LOCAL => TimeZone::system(),
            "UTC" => TimeZone::UTC,
            name => TimeZone::get(name).or_else(|_| {
                let help = "write `local`, `UTC`, or a name such as `Europe/Berlin`, which needs the time zones of the machine (`apt install tzdata`)";
                refused(format!("`{name}` is not a time zone of this machine"), help)
            })?,
        };
        Ok(Zone { name: written.clone(), zone })
    }

    fn show(value: &Zone) -> Option<String> {
        Some(value.name.clone())
    }

    fn unset() -> Zone {
        Zone { name: LOCAL.to_owned(), zone: TimeZone::system() }
    }
}

#[cfg(test)]
mod tests;
