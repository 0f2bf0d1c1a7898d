use super::*;

/// Rules of zones, so that the tests need none of the machine: Berlin, New York, Lord Howe (half an hour),
/// and one without changes.
const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";
const NEW_YORK: &str = "EST5EDT,M3.2.0,M11.1.0";
const LORD_HOWE: &str = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0";
const KOLKATA: &str = "IST-5:30";

fn zone(rules: &str) -> Zone {
    Zone { name: LOCAL.to_owned(), zone: TimeZone::posix(rules).expect("a zone") }
}

fn windows(text: &str) -> Windows {
    WeeklyWindows::parse(&text.to_owned()).expect(text)
}

fn time(text: &str) -> Timestamp {
    text.parse().expect(text)
}

/// The changes between open and closed from one time to another, as found by a look at each minute.
fn changes(text: &str, rules: &str, from: &str, to: &str) -> Vec<String> {
    let (windows, zone) = (windows(text), zone(rules));
    let is_open = |at| matches!(windows.at(at, &zone), WindowState::Open { .. });
    let (mut now, to) = (time(from), time(to));
    let mut was_open = is_open(now);
    let mut found = Vec::new();
    while now < to {
        now += SignedDuration::from_mins(1);
        if is_open(now) != was_open {
            was_open = !was_open;
            found.push(format!("{} {now:.0}", if was_open { "opens" } else { "closes" }));
        }
    }
    found
}

/// What was predicted at each minute is what a look at each minute finds.
fn assert_predicted(text: &str, rules: &str, from: &str, to: &str) {
    let (windows, zone) = (windows(text), zone(rules));
    let (mut now, to) = (time(from), time(to));
    while now < to {
        let (until, was_open) = match windows.at(now, &zone) {
            WindowState::Open { until } => (until, true),
            WindowState::Closed { opens } => (opens, false),
        };
        assert!(until > now, "{text} at {now}");
        let before = until - SignedDuration::from_secs(1);
        let is_open = |at| matches!(windows.at(at, &zone), WindowState::Open { .. });
        assert_eq!(is_open(before), was_open, "{text} at {now}: until {until}");
        if !was_open {
            assert!(is_open(until), "{text} at {now}: does not open at {until}");
        }
        now += SignedDuration::from_mins(47);
    }
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_on_which_it_opens() {
    // 2026-12-04 is a Friday.
    let found =
        changes("22:00-06:00 Mon-Fri", KOLKATA, "2026-12-03T12:00:00Z", "2026-12-08T00:00:00Z");
    assert_eq!(
        found,
        [
            "opens 2026-12-03T16:30:00Z",
            "closes 2026-12-04T00:30:00Z",
            "opens 2026-12-04T16:30:00Z",
            "closes 2026-12-05T00:30:00Z",
            "opens 2026-12-07T16:30:00Z",
        ]
    );
}

#[test]
fn a_night_is_an_hour_shorter_in_spring_and_longer_in_autumn() {
    let spring = changes("22:00-06:00", BERLIN, "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z");
    assert_eq!(spring, ["opens 2026-03-28T21:00:00Z", "closes 2026-03-29T04:00:00Z"]);
    let autumn = changes("22:00-06:00", BERLIN, "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z");
    assert_eq!(autumn, ["opens 2026-10-24T20:00:00Z", "closes 2026-10-25T05:00:00Z"]);
    let spring = changes("22:00-06:00", NEW_YORK, "2026-03-07T18:00:00Z", "2026-03-08T18:00:00Z");
    assert_eq!(spring, ["opens 2026-03-08T03:00:00Z", "closes 2026-03-08T10:00:00Z"]);
    let autumn = changes("22:00-06:00", NEW_YORK, "2026-10-31T18:00:00Z", "2026-11-01T18:00:00Z");
    assert_eq!(autumn, ["opens 2026-11-01T02:00:00Z", "closes 2026-11-01T11:00:00Z"]);
}

#[test]
fn an_hour_that_is_skipped_opens_its_windows_all_the_same() {
    // In Berlin the clock goes from 02:00 to 03:00 at 01:00 UTC.
    for (text, opens, closes) in [
        ("02:15-02:45", "01:15", "01:45"),
        ("02:00-03:00", "01:00", "02:00"),
        ("02:30-03:30", "01:30", "02:30"),
        ("01:30-02:30", "00:30", "01:30"),
        ("02:30-04:00", "01:30", "02:00"),
    ] {
        let found = changes(text, BERLIN, "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z");
        let wanted =
            [format!("opens 2026-03-29T{opens}:00Z"), format!("closes 2026-03-29T{closes}:00Z")];
        assert_eq!(found, wanted, "{text}");
    }
}

#[test]
fn an_hour_that_comes_twice_opens_its_windows_once() {
    // In Berlin 02:00 to 03:00 comes twice, from 00:00 UTC and from 01:00 UTC.
    for (text, opens, closes) in [
        ("02:15-02:45", "00:15", "00:45"),
        ("02:00-03:00", "00:00", "02:00"),
        ("01:30-02:30", "23:30", "00:30"),
        ("02:30-03:30", "00:30", "02:30"),
    ] {
        let found = changes(text, BERLIN, "2026-10-24T23:00:00Z", "2026-10-25T12:00:00Z");
        let opened = if opens == "23:30" { "2026-10-24" } else { "2026-10-25" };
        let wanted =
            [format!("opens {opened}T{opens}:00Z"), format!("closes 2026-10-25T{closes}:00Z")];
        assert_eq!(found, wanted, "{text}");
    }
}

#[test]
fn the_next_change_is_the_one_that_is_found_then() {
    for rules in [BERLIN, NEW_YORK, LORD_HOWE, KOLKATA] {
        for text in [
            "22:00-06:00 Mon-Fri",
            "01:45-02:15; 02:00-02:10 Sun",
            "00:00-24:00 Sat,Sun; 20:00-07:30",
            "02:15-02:45",
            "23:59-00:00 Wed",
        ] {
            for (from, to) in [
                ("2026-03-06T00:00:00Z", "2026-03-10T00:00:00Z"),
                ("2026-03-27T00:00:00Z", "2026-04-06T00:00:00Z"),
                ("2026-10-02T00:00:00Z", "2026-10-06T00:00:00Z"),
                ("2026-10-23T00:00:00Z", "2026-11-03T00:00:00Z"),
            ] {
                assert_predicted(text, rules, from, to);
            }
        }
    }
}

#[test]
fn windows_that_overlap_or_touch_are_one() {
    let found = changes(
        "20:00-24:00; 00:00-04:00; 03:00-05:00",
        BERLIN,
        "2026-12-03T12:00:00Z",
        "2026-12-04T12:00:00Z",
    );
    assert_eq!(found, ["opens 2026-12-03T19:00:00Z", "closes 2026-12-04T04:00:00Z"]);
}

#[test]
fn a_week_has_its_days_in_any_notation() {
    for (text, days) in [
        ("Mon-Fri", "1111100"),
        ("sat,SUN", "0000011"),
        ("Fri-Mon", "1000111"),
        ("Wed", "0010000"),
        ("Mon - Tue , Thu", "1101000"),
        ("Mon-Sun", "1111111"),
    ] {
        let found = weekdays(text).expect(text);
        let shown: String = found.iter().map(|day| if *day { '1' } else { '0' }).collect();
        assert_eq!(shown, days, "{text}");
    }
}

#[test]
fn what_is_no_window_is_refused_with_the_forms_there_are() {
    for (text, message) in [
        ("", "`` is not a window"),
        ("22:00", "`22:00` is not a window"),
        ("22-06", "`22-06` is not a window"),
        ("24:00-06:00", "`24:00-06:00` is not a window"),
        ("22:00-24:01", "`22:00-24:01` is not a window"),
        ("22:60-23:00", "`22:60-23:00` is not a window"),
        ("2:00-3:00", "`2:00-3:00` is not a window"),
        ("22:00-06:00;", "`` is not a window"),
        ("22:00-22:00", "the window `22:00-22:00` opens and closes at the same time"),
        ("22:00-06:00 Mo-Fr", "`Mo` is not a day"),
        ("22:00-06:00 Mon-", "`` is not a day"),
    ] {
        let refusal = WeeklyWindows::parse(&text.to_owned()).expect_err(text);
        assert_eq!(refusal.message, message, "{text}");
        assert!(refusal.help.is_some(), "{text}");
    }
}

#[test]
fn a_zone_is_local_utc_or_a_name_of_the_machine() {
    for name in ["local", "UTC"] {
        let zone = ZoneName::parse(&name.to_owned()).expect(name);
        assert_eq!(ZoneName::show(&zone).as_deref(), Some(name));
    }
    assert!(ZoneName::parse(&"Mars/Olympus".to_owned()).is_err());
}

#[test]
fn the_time_of_the_next_window_is_shown_as_on_a_clock() {
    let now = time("2026-12-04T12:00:00Z");
    let berlin = zone(BERLIN);
    assert_eq!(berlin.clock(time("2026-12-04T21:00:00Z"), now), "22:00");
    assert_eq!(berlin.clock(time("2026-12-07T21:00:00Z"), now), "Mon 22:00");
    let named = Zone { name: "Europe/Berlin".to_owned(), ..berlin };
    assert_eq!(named.clock(time("2026-12-04T21:00:00Z"), now), "22:00 (Europe/Berlin)");
}
