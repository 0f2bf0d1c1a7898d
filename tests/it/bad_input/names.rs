//! Names that no one would choose, and that everyone may.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use crate::files::{TestDir, tree, until};

#[test]
fn a_name_that_is_not_utf8_keeps_its_bytes_and_is_shown_in_hexadecimal() {
    let place = TestDir::new();
    place.put(OsStr::from_bytes(b"caf\xe9.log"), "content");
    let ended = place.once(&["--events", "events.jsonl", "--on-success", "delete"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published(OsStr::from_bytes(b"caf\xe9.log.zst")), b"content");
    assert!(ended.stderr.contains("source=caf\\xe9.log"), "{ended:?}");
    let events = std::fs::read_to_string(place.root().join("events.jsonl")).unwrap();
    let event: serde_json::Value = serde_json::from_str(&events).unwrap();
    assert_eq!(event["source_hex"], "636166e92e6c6f67");
    assert_eq!(place.state_of("caf\\xe9.log"), "done");
    place.assert_clean();
}

/// A line break, a terminal's clear-screen and a quote.
const SLY: &str = "a\nERROR b\u{1b}[2J\"'";

fn assert_harmless(text: &str) {
    let is_bad = |letter: char| letter.is_control() && letter != '\n';
    assert!(!text.contains(is_bad), "{text:?}");
    assert!(!text.lines().any(|line| line.starts_with("ERROR b")), "{text:?}");
}

#[test]
fn a_name_with_a_line_break_and_escape_codes_is_escaped_wherever_it_is_shown() {
    let place = TestDir::new();
    place.put(SLY, "content");
    let ended = place.once(&["--on-success", "delete"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published(format!("{SLY}.zst")), b"content");
    assert_harmless(&ended.stderr);
    assert_harmless(&place.run(&["history"]).stdout);
    assert_harmless(&place.run(&["history", "--json"]).stdout);
    place.assert_clean();
}

#[test]
fn the_reason_for_a_quarantine_escapes_the_name_too() {
    let place = TestDir::new();
    place.put(SLY, "no archive");
    for format in ["text", "json"] {
        let ended = place.once(&["--transform", "gunzip", "--log-format", format]);
        assert_eq!(ended.code, 65, "{ended:?}");
        assert_harmless(&ended.stderr);
        assert_harmless(&place.run(&["history"]).stdout);
        assert_harmless(&place.run(&["history", "--json"]).stdout);
        assert_harmless(&place.run(&["explain", &format!("in/{SLY}")]).stdout);
        assert_harmless(&place.run(&["requeue", "--all"]).stdout);
    }
    place.assert_clean();
}

#[test]
fn a_name_of_251_bytes_works_and_its_output_has_255() {
    let place = TestDir::new();
    let name = "n".repeat(251);
    place.put(&name, "content");
    let ended = place.once(&["--on-success", "delete"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published(format!("{name}.zst")), b"content");
    place.assert_clean();
}

#[test]
fn a_name_too_long_for_its_output_is_quarantined_with_that_reason_each_time_it_comes() {
    let place = TestDir::new();
    let name = "n".repeat(255);
    for time in 1..=3 {
        place.put(&name, format!("content {time}"));
        let ended = place.once(&["--on-success", "delete"]);
        assert_eq!(ended.code, 65, "{ended:?}");
        let reason = place.reason_of(&name);
        assert!(reason.contains("is too long: 259 bytes"), "{reason}");
        assert!(reason.contains(&name), "{reason}");
        assert!(ended.stderr.contains("is too long: 259 bytes"), "{ended:?}");
    }
    assert!(tree(&place.input()).is_empty());
    let mut kept: Vec<_> = tree(&place.quarantine())
        .into_iter()
        .filter(|path| path.extension() != Some(OsStr::new("json")))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, ["content 1", "content 2", "content 3"]);
    assert_eq!(tree(&place.quarantine()).len(), 6, "a reason for each");
    place.assert_clean();
}

#[test]
fn a_path_deeper_than_the_kernel_takes_is_reported_and_the_rest_is_processed() {
    let place = TestDir::new();
    place.put("good", "good");
    let step = "d".repeat(200);
    let mut dir = rustix::fs::open(place.input(), rustix::fs::OFlags::DIRECTORY, 0.into()).unwrap();
    for _ in 0..25 {
        rustix::fs::mkdirat(&dir, step.as_str(), 0o755.into()).unwrap();
        dir = rustix::fs::openat(&dir, step.as_str(), rustix::fs::OFlags::DIRECTORY, 0.into())
            .unwrap();
    }
    let ended = place.once(&[]);
    assert_eq!(place.published("good.zst"), b"good");
    assert_eq!(ended.code, 75, "{ended:?}");
    assert!(ended.stderr.contains("cannot list an input directory"), "{ended:?}");
    assert!(ended.stderr.contains("File name too long"), "{ended:?}");
}

#[test]
fn a_reason_never_takes_the_place_of_a_quarantined_file() {
    let place = TestDir::new();
    for name in ["a.json", "a", "a.json.json"] {
        place.put(name, name);
        let ended = place.once(&["--transform", "gunzip", "--on-success", "delete"]);
        assert_eq!(ended.code, 65, "{ended:?}");
    }
    let mut kept: Vec<_> = tree(&place.quarantine())
        .into_iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .filter(|text| text.starts_with('a'))
        .collect();
    kept.sort();
    assert_eq!(kept, ["a", "a.json", "a.json.json"]);
    assert_eq!(tree(&place.quarantine()).len(), 6, "a reason for each");
    let back = place.run(&["requeue", "--all"]);
    assert_eq!(back.code, 0, "{back:?}");
    assert!(tree(&place.quarantine()).is_empty(), "{:?}", tree(&place.quarantine()));
    for name in ["a.json", "a", "a.json.json"] {
        assert_eq!(std::fs::read_to_string(place.input().join(name)).unwrap(), name);
    }
}

/// It got a number that its record did not have: a `requeue` took the other file for it.
#[test]
fn a_slot_that_is_taken_at_the_last_moment_leads_to_another_one_that_is_recorded() {
    let place = TestDir::new();
    let gate = place.root().join("gate");
    std::fs::write(&gate, "").unwrap();
    let stalled = format!("dispose::taken=1*return(while:{})->off", gate.display());
    let args = ["--transform", "gunzip", "--on-success", "delete"];
    let running = place.watch_with(&args, &stalled);
    let source = place.put("a.gz", "ours");
    until("it to have its private name", || !source.exists());
    let slot = place.quarantine().join("a.gz");
    std::fs::write(&slot, "theirs").unwrap();
    std::fs::remove_file(gate).unwrap();
    let other = place.quarantine().join("a.gz.1");
    until("it to be moved", || other.exists());
    assert_eq!(running.stop().code, 0);
    assert_eq!(std::fs::read_to_string(&slot).unwrap(), "theirs");
    let record = &place.history("a.gz")[0];
    assert_eq!(record["moved_to"], other.display().to_string().as_str(), "{record}");
    assert!(other.with_file_name("a.gz.1.json").exists());
    assert_eq!(place.run(&["requeue", "--all"]).code, 0);
    assert_eq!(std::fs::read_to_string(&source).unwrap(), "ours");
    place.assert_clean();
}
