//! Names that lose their file and get another one while the service is busy: the earlier output stays.

use std::{fs, io::Write, thread, time::Duration};

use rustix::process::Signal;
use tidemill::limits;

use crate::{
    files::{Running, TestDir, until},
    intake::{
        ends_well,
        renames::{held, open, published, until_staged},
    },
};

/// Publishes `a.log` with the content `first`, by a service that ends.
fn publish_first(place: &TestDir) {
    place.put("a.log", "first\n");
    assert_eq!(place.once(&[]).code, 0);
}

/// Appends to `a.log`, so that its update is in flight.
fn update(place: &TestDir) {
    let mut log = fs::File::options().append(true).open(place.input().join("a.log")).unwrap();
    log.write_all(b"and more\n").unwrap();
}

/// Replaces `a.log` by another file, whose inode number is another one. For this time the name is free.
fn replace(place: &TestDir, free: Duration) {
    let next = place.root().join("next.log");
    fs::write(&next, "second\n").unwrap();
    fs::remove_file(place.input().join("a.log")).unwrap();
    if free.is_zero() {
        fs::rename(next, place.input().join("a.log")).unwrap();
    } else {
        thread::sleep(free);
        place.put("a.log", "second\n");
    }
}

fn has_both(place: &TestDir) {
    assert_eq!(place.published("a.log.zst"), b"first\n");
    assert_eq!(place.published("a.log.1.zst"), b"second\n");
}

fn ends_with_both(place: &TestDir, running: Running, files: usize) {
    until("both outputs", || published(place).len() == files);
    ends_well(place, running);
    has_both(place);
}

/// A rotation whose names come while a job of the old file waits, and whose new file is touched at once: the
/// old file's output stays, whatever the events of one batch are.
#[test]
fn a_file_that_succeeds_another_one_in_flight_gets_an_output_of_its_own() {
    for settle in ["auto", "0s"] {
        let place = TestDir::new();
        publish_first(&place);
        let running = held(&place, &["--settle", settle]);
        update(&place);
        until_staged(&place, 1);
        replace(&place, Duration::ZERO);
        drop(fs::File::options().append(true).open(place.input().join("a.log")).unwrap());
        open(&place);
        ends_with_both(&place, running, 2);
    }
}

const LONG: Duration = limits::ABSENCE_TIME.saturating_mul(2);

#[test]
fn a_name_that_was_free_for_long_while_its_file_was_in_flight_gets_another_output() {
    let place = TestDir::new();
    publish_first(&place);
    let running = held(&place, &["--settle", "0s"]);
    update(&place);
    until_staged(&place, 1);
    replace(&place, LONG);
    open(&place);
    ends_with_both(&place, running, 2);
}

/// While the stages are full the intake takes no event: it never sees the free name.
#[test]
fn a_name_that_was_free_for_long_while_the_intake_waited_gets_another_output() {
    let place = TestDir::new();
    publish_first(&place);
    place.configure("settle = \"0s\"\n[limits]\nfiles = 2");
    let others = 200;
    for number in 0..others {
        place.put(format!("other {number}"), "other");
    }
    let running = held(&place, &[]);
    until_staged(&place, 2);
    replace(&place, LONG);
    open(&place);
    ends_with_both(&place, running, 2 + others);
}

/// The next start knows what this one saw, also if it did not come to the file.
#[test]
fn a_succession_that_a_stop_interrupts_is_known_to_the_next_start() {
    for is_in_flight in [true, false] {
        let place = TestDir::new();
        publish_first(&place);
        let running = held(&place, &["--settle", if is_in_flight { "0s" } else { "1h" }]);
        if is_in_flight {
            update(&place);
            until_staged(&place, 1);
        }
        replace(&place, Duration::ZERO);
        // The close hides the rename, where the events come together.
        drop(fs::File::options().append(true).open(place.input().join("a.log")).unwrap());
        place.put("sign", "of the events before it");
        if is_in_flight {
            // The events were read.
            until_staged(&place, 2);
        } else {
            until("the events were read", || {
                let status = place.run(&["status", "--json", "--state-dir", "state"]).stdout;
                let status: serde_json::Value = serde_json::from_str(&status).unwrap();
                status["pipelines"][0]["pending"] == 2
            });
        }
        running.signal(Signal::TERM);
        open(&place);
        let ended = running.end();
        assert!([0, 75].contains(&ended.code), "{ended:?}");
        fs::remove_file(place.input().join("sign")).unwrap();
        let running = place.watch(&["--settle", "0s"]);
        ends_with_both(&place, running, 2);
    }
}

/// A file that is moved away and back is no other one: its next version replaces its output.
#[test]
fn a_file_that_is_moved_away_and_back_is_updated() {
    let place = TestDir::new();
    publish_first(&place);
    let running = place.watch(&["--settle", "0s"]);
    let (path, aside) = (place.input().join("a.log"), place.root().join("aside"));
    fs::rename(&path, &aside).unwrap();
    fs::rename(&aside, &path).unwrap();
    place.put("next", "a sign that the events before it were seen");
    until("the next file", || published(&place).len() == 2);
    fs::write(&path, "second\n").unwrap();
    until("the update", || place.published("a.log.zst") == b"second\n");
    ends_well(&place, running);
    assert_eq!(published(&place), ["a.log", "next"]);
}
