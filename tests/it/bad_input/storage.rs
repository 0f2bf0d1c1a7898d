//! A full disk and a read-only one. Both are small file systems of their own, which root may mount.

use std::path::{Path, PathBuf};

use crate::{
    files::{Place, tree, until},
    mounts::Mount,
};

/// Bytes that no codec makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..bytes).map(|_| next()).collect()
}

/// Fills a file system but for a few blocks.
fn fill(dir: &Path, leave: u64) -> PathBuf {
    let file = dir.join("ballast");
    let space = rustix::fs::statvfs(dir).unwrap();
    let bytes = (space.f_bavail * space.f_frsize).saturating_sub(leave);
    std::fs::write(&file, noise(usize::try_from(bytes).unwrap())).unwrap();
    file
}

#[test]
fn a_full_disk_pauses_the_service_which_resumes_by_itself() {
    let place = Place::new();
    let Some(_mount) = Mount::memory(&place.output(), "1m") else { return };
    let ballast = fill(&place.output(), 64 * 1024);
    let running = place.watch(&["--on-success", "delete", "--events", "events.jsonl"]);
    let content = noise(200 * 1024);
    for name in ["one", "two", "sub/three"] {
        place.put(name, &content);
    }
    running.until_said("storage unavailable, intake paused");
    let log = running.log();
    assert!(log.contains("cannot write the temporary file of"), "{log}");
    assert!(log.contains("No space left on device"), "{log}");
    assert_eq!(tree(&place.input()).len(), 3, "every source stays");
    std::fs::remove_file(ballast).unwrap();
    until("all sources to be done", || tree(&place.input()).is_empty());
    assert!(running.log().contains("storage available, intake resumed"));
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    for name in ["one", "two", "sub/three"] {
        assert_eq!(place.published(format!("{name}.zst")), content);
        assert_eq!(place.history(name).len(), 1);
    }
    let events = std::fs::read_to_string(place.root().join("events.jsonl")).unwrap();
    assert_eq!(events.lines().count(), 3);
    place.assert_clean();
}

#[test]
fn a_large_file_that_does_not_fit_leaves_no_part_of_itself() {
    let place = Place::new();
    let Some(_mount) = Mount::memory(&place.output(), "1m") else { return };
    let ballast = fill(&place.output(), 256 * 1024);
    let running = place.watch(&[]);
    let content = noise(700 * 1024);
    place.put("large", &content);
    running.until_said("storage unavailable, intake paused");
    until("the temporary file to go", || place.leftovers().is_empty());
    assert_eq!(tree(&place.output()), std::slice::from_ref(&ballast));
    std::fs::remove_file(ballast).unwrap();
    until("large", || place.output().join("large.zst").exists());
    assert_eq!(running.stop().code, 0);
    assert_eq!(place.published("large.zst"), content);
    place.assert_clean();
}

#[test]
fn a_stop_on_a_full_disk_says_that_work_is_left_and_the_next_start_does_it() {
    let place = Place::new();
    let Some(_mount) = Mount::memory(&place.output(), "1m") else { return };
    let ballast = fill(&place.output(), 0);
    let running = place.watch(&["--on-success", "delete"]);
    place.put("file", "content");
    running.until_said("storage unavailable, intake paused");
    let ended = running.stop();
    assert_eq!(ended.code, 75, "{ended:?}");
    assert!(ended.stderr.contains("left_for_the_next_start=1"), "{ended:?}");
    assert_eq!(std::fs::read(place.input().join("file")).unwrap(), b"content");
    place.assert_clean();
    std::fs::remove_file(ballast).unwrap();
    let ended = place.once(&["--on-success", "delete"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("file.zst"), b"content");
    place.assert_clean();
}

#[test]
fn once_gives_up_on_a_disk_that_stays_full_and_leaves_the_work_to_the_next_start() {
    let place = Place::new();
    let Some(_mount) = Mount::memory(&place.output(), "1m") else { return };
    fill(&place.output(), 0);
    for name in ["one", "two"] {
        place.put(name, "content");
    }
    let ended = place.once(&["--on-success", "delete"]);
    assert_eq!(ended.code, 75, "{ended:?}");
    assert!(ended.stderr.contains("left_for_the_next_start=2"), "{ended:?}");
    assert_eq!(tree(&place.input()).len(), 2);
    place.assert_clean();
}

#[test]
fn a_full_disk_under_the_ledger_too_loses_nothing() {
    let place = Place::new();
    let Some(_mount) = Mount::memory(&place.output(), "1m") else { return };
    let state = place.output().join(".tidemill");
    let state = ["--state-dir", state.to_str().unwrap(), "--on-success", "delete"];
    let running = place.watch(&state);
    let ballast = fill(&place.output(), 0);
    let content = noise(4 * 1024);
    for number in 0..10 {
        place.put(format!("file{number}"), &content);
    }
    running.until_said("storage unavailable, intake paused");
    std::fs::remove_file(ballast).unwrap();
    until("all sources to be done", || tree(&place.input()).is_empty());
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    for number in 0..10 {
        assert_eq!(place.published(format!("file{number}.zst")), content);
    }
    place.assert_clean();
}

#[test]
fn a_ledger_that_is_full_for_a_moment_delays_its_file_and_drops_nothing() {
    let place = Place::new();
    let full = "commit::intent=1*return(enospc)";
    let running = place.watch_with(&["--on-success", "delete"], full);
    place.put("file", "content");
    running.until_said("the ledger's disk is full");
    until("the source to be done", || tree(&place.input()).is_empty());
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("file.zst"), b"content");
    assert_eq!(place.history("file").len(), 1);
    place.assert_clean();
}

#[test]
fn a_disk_that_becomes_read_only_ends_the_service_with_74_and_nothing_is_lost() {
    let place = Place::new();
    let Some(mount) = Mount::memory(&place.output(), "1m") else { return };
    let running = place.watch(&["--on-success", "delete"]);
    place.put("first", "first");
    until("first", || !place.input().join("first").exists());
    mount.set_read_only();
    place.put("second", "second");
    let ended = running.end();
    assert_eq!(ended.code, 74, "{ended:?}");
    assert!(ended.stderr.contains("storage failed, stopping"), "{ended:?}");
    assert!(ended.stderr.contains("/in/second: Read-only file system"), "{ended:?}");
    assert_eq!(std::fs::read(place.input().join("second")).unwrap(), b"second");
    assert_eq!(place.published("first.zst"), b"first");
    assert!(place.history("second").is_empty());
    place.assert_clean();
}

#[test]
fn a_start_on_a_read_only_disk_is_refused_with_its_name() {
    let place = Place::new();
    let Some(mount) = Mount::memory(&place.output(), "1m") else { return };
    mount.set_read_only();
    let state = place.output().join(".tidemill");
    place.put("file", "content");
    let ended = place.once(&["--state-dir", state.to_str().unwrap()]);
    assert_eq!(ended.code, 74, "{ended:?}");
    let wanted = format!("cannot create the directory {}: Read-only", state.display());
    assert!(ended.stderr.contains(&wanted), "{ended:?}");
    assert_eq!(std::fs::read(place.input().join("file")).unwrap(), b"content");
}
