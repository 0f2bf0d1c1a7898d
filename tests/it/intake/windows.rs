//! `window`: the hours in which files are taken; `expect`: what should have come; `in_order`: one file at a
//! time.

use std::fs;

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rustix::process::Signal;

use crate::{
    files::{Running, TestDir, until},
    intake::{
        ends_well, is_published,
        order::{acknowledged, metrics, status},
    },
};

/// A time of day in UTC, this many hours from now.
fn clock(hours: i64) -> String {
    let time = Timestamp::now().checked_add(hours.hours()).unwrap();
    time.to_zoned_datetime(TimeZone::UTC).strftime("%H:00").to_string()
}

/// A window that is closed now, and for the next hour at least.
fn closed_window() -> (String, String) {
    let (opens, closes) = (clock(2), clock(3));
    (format!("window = \"{opens}-{closes}\"\ntime_zone = \"UTC\""), opens)
}

#[test]
fn outside_its_window_a_pipeline_takes_nothing_and_reports_when_it_opens() {
    let place = TestDir::new();
    let (window, opens) = closed_window();
    place.configure(&format!("settle = \"0s\"\n{window}"));
    let running = place.watch(&["--http", "127.0.0.1:0"]);
    running.until_logged("outside the window, intake paused");
    place.put("waits", "content");
    until("it is found", || status(&place)["pending"] == 1);
    let pauses = status(&place)["paused"].clone();
    let detail = format!("window opens {opens} (UTC)");
    assert_eq!((&pauses[0]["reason"], pauses.as_array().unwrap().len()), (&"window".into(), 1));
    assert_eq!(pauses[0]["detail"], *detail, "{pauses}");
    assert!(metrics(&place).contains("tidemill_paused{pipeline=\"main\",reason=\"window\"} 1\n"));
    for args in [&["status"][..], &["explain", "in/waits"], &["ps"]] {
        let command = place.run(args);
        let is_shown = command.stdout.contains(&detail);
        assert!(command.code == 0 && is_shown, "{args:?}: {command:?}");
    }
    assert!(!is_published(&place, "waits.zst"));
    // A reload opens it, by a zone whose rules are read inside the sandbox.
    place.configure("settle = \"0s\"\nwindow = \"00:00-24:00\"\ntime_zone = \"America/New_York\"");
    running.signal(Signal::HUP);
    until("it is published", || is_published(&place, "waits.zst"));
    assert_eq!(status(&place)["paused"], serde_json::json!([]));
    assert!(metrics(&place).contains("tidemill_paused{pipeline=\"main\",reason=\"window\"} 0\n"));
    ends_well(&place, running);
}

#[test]
fn a_service_outside_its_window_is_ready_and_stops_as_any_other() {
    let place = TestDir::new();
    let (window, _) = closed_window();
    place.configure(&window);
    place.put("waits", "content");
    let running = place.watch(&[]);
    running.until_logged("outside the window, intake paused");
    until("it is found", || status(&place)["pending"] == 1);
    let ready = crate::intake::order::get(&place, "/readyz");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    ends_well(&place, running);
    assert!(!is_published(&place, "waits.zst"));
}

#[test]
fn once_processes_the_files_whatever_the_window() {
    let place = TestDir::new();
    place.configure(&closed_window().0);
    place.put("now", "content");
    let ended = place.once(&[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(is_published(&place, "now.zst"));
}

fn times(running: &Running, event: &str) -> usize {
    running.log().matches(&format!("event={event} ")).count()
}

#[test]
fn a_pipeline_to_which_nothing_came_is_overdue_once_until_a_file_comes() {
    let place = TestDir::new();
    let root = place.root();
    let hook = root.join("hook");
    fs::write(&hook, "#!/bin/sh\ncat >> \"$TIDEMILL_STATE_DIR/overdue\"\n").unwrap();
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    place.configure(&format!(
        "settle = \"0s\"\nrescan = \"300ms\"\nexpect = \"2s\"\n[hooks]\non_overdue = [\"{}\"]\nbatch_delay = \"0s\"",
        hook.display()
    ));
    let kept = place.put("kept", "content");
    let running = place.watch(&["--http", "127.0.0.1:0"]);
    running.until_logged("event=intake.overdue ");
    let lines = || fs::read_to_string(place.state().join("overdue")).unwrap_or_default();
    until("the hook has it", || lines().lines().count() == 1);
    let line: serde_json::Value = serde_json::from_str(&lines()).unwrap();
    assert_eq!((&line["pipeline"], &line["hook"]), (&"main".into(), &"on_overdue".into()));
    assert!(metrics(&place).contains("tidemill_overdue{pipeline=\"main\"} 1\n"));
    // A kept file that scans find again has not come again.
    let finds = || status(&place)["skipped"].as_u64();
    until("it is found again", || finds() > Some(20));
    assert_eq!((times(&running, "intake.overdue"), lines().lines().count()), (1, 1));
    place.put("comes", "content");
    running.until_logged("event=intake.overdue_ended ");
    assert!(metrics(&place).contains("tidemill_overdue{pipeline=\"main\"} 0\n"));
    until("it is overdue again", || lines().lines().count() == 2);
    assert_eq!(times(&running, "intake.overdue"), 2);
    assert!(kept.exists());
    ends_well(&place, running);
    // The time counts on while no service runs.
    let before = Timestamp::now();
    let running = place.watch(&[]);
    running.until_logged("event=intake.overdue ");
    let log = running.log();
    let last =
        log.split("last=").nth(1).unwrap().split_whitespace().next().unwrap().trim_matches('"');
    assert!(last.parse::<Timestamp>().unwrap() < before, "{log}");
    ends_well(&place, running);
}

/// In order, with these attempts; the first read fails.
fn first_fails(attempts: u32) -> (TestDir, Running) {
    let place = TestDir::new();
    let config = place.root().join("tidemill.toml");
    place.configure("settle = \"0s\"\non_success = \"delete\"\nin_order = true\norder = \"name\"");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("attempts = 2", &format!("attempts = {attempts}"));
    fs::write(&config, text.replace("backoff = \"10ms\"", "backoff = \"500ms\"")).unwrap();
    for name in ["c", "a", "b"] {
        place.put(name, name);
    }
    let running = place.watch_with(&["--events", "events"], "read=1*return(eio)->off");
    until("all have an outcome", || {
        let lines = fs::read_to_string(place.root().join("events")).unwrap_or_default();
        lines.lines().count() == 3
    });
    (place, running)
}

#[test]
fn a_file_that_fails_holds_those_after_it_until_it_succeeds() {
    let (place, running) = first_fails(3);
    assert_eq!(acknowledged(&place), ["a", "b", "c"]);
    assert_eq!(times(&running, "intake.blocked"), 1, "{}", running.log());
    ends_well(&place, running);
}

#[test]
fn a_file_that_is_quarantined_holds_no_other() {
    let (place, running) = first_fails(1);
    assert_eq!(acknowledged(&place), ["b", "c"]);
    assert!(place.quarantine().join("a").exists() || place.state_of("a") == "quarantined");
    ends_well(&place, running);
}

#[test]
fn a_file_that_failed_and_is_gone_holds_no_other() {
    let place = TestDir::new();
    place.configure("settle = \"0s\"\non_success = \"delete\"\nin_order = true\nrescan = \"1h\"");
    let path = place.put("a", "a");
    place.put("b", "b");
    let running = place.watch_with(&["--events", "events"], "write=1*return(enospc)->off");
    running.until_logged("event=intake.blocked ");
    fs::remove_file(path).unwrap();
    until("the other", || is_published(&place, "b.zst"));
    ends_well(&place, running);
}
