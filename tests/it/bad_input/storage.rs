//! A full disk and a read-only one. Both are small file systems of their own, which root may mount.

use std::path::{Path, PathBuf};

use crate::{
    files::{Running, TestDir, tree, until},
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
fn a_full_disk_pauses_the_service_which_resumes_on_its_own() {
    let place = TestDir::new();
    let Some(_mount) = Mount::memory(&place.output(), "1m") else { return };
    let ballast = fill(&place.output(), 64 * 1024);
    let running = place.watch(&["--on-success", "delete", "--events", "events.jsonl"]);
    let content = noise(200 * 1024);
    for name in ["one", "two", "sub/three"] {
        place.put(name, &content);
    }
    running.until_logged("storage unavailable, intake paused");
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
    let place = TestDir::new();
    let Some(_mount) = Mount::memory(&place.output(), "1m") else { return };
    let ballast = fill(&place.output(), 256 * 1024);
    let running = place.watch(&[]);
    let content = noise(700 * 1024);
    place.put("large", &content);
    running.until_logged("storage unavailable, intake paused");
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
    let place = TestDir::new();
    let Some(_mount) = Mount::memory(&place.output(), "1m") else { return };
    let ballast = fill(&place.output(), 0);
    let running = place.watch(&["--on-success", "delete"]);
    place.put("file", "content");
    running.until_logged("storage unavailable, intake paused");
    let ended = running.stop();
    assert_eq!(ended.code, 75, "{ended:?}");
    assert!(ended.stderr.contains("unfinished=1"), "{ended:?}");
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
    let place = TestDir::new();
    let Some(_mount) = Mount::memory(&place.output(), "1m") else { return };
    fill(&place.output(), 0);
    for name in ["one", "two"] {
        place.put(name, "content");
    }
    let ended = place.once(&["--on-success", "delete"]);
    assert_eq!(ended.code, 75, "{ended:?}");
    assert!(ended.stderr.contains("unfinished=2"), "{ended:?}");
    assert_eq!(tree(&place.input()).len(), 2);
    place.assert_clean();
}

#[test]
fn a_full_disk_under_the_ledger_too_loses_nothing() {
    let place = TestDir::new();
    let Some(_mount) = Mount::memory(&place.output(), "1m") else { return };
    let state = place.output().join(".tidemill");
    let state = ["--state-dir", state.to_str().unwrap(), "--on-success", "delete"];
    let running = place.watch(&state);
    let ballast = fill(&place.output(), 0);
    let content = noise(4 * 1024);
    for number in 0..10 {
        place.put(format!("file{number}"), &content);
    }
    running.until_logged("storage unavailable, intake paused");
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
    let place = TestDir::new();
    let full = "commit::intent=1*return(enospc)";
    let running = place.watch_with(&["--on-success", "delete"], full);
    place.put("file", "content");
    running.until_logged("the ledger's disk is full");
    until("the source to be done", || tree(&place.input()).is_empty());
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("file.zst"), b"content");
    assert_eq!(place.history("file").len(), 1);
    place.assert_clean();
}

#[test]
fn a_disk_that_becomes_read_only_pauses_the_service_until_it_is_writable_again() {
    let place = TestDir::new();
    let Some(mount) = Mount::memory(&place.output(), "1m") else { return };
    let running = place.watch(&["--on-success", "delete"]);
    place.put("first", "first");
    until("first", || !place.input().join("first").exists());
    mount.set_read_only();
    place.put("second", "second");
    running.until_logged("storage unavailable, intake paused");
    assert!(running.log().contains("/in/second: Read-only file system"), "{}", running.log());
    assert_eq!(std::fs::read(place.input().join("second")).unwrap(), b"second");
    assert_eq!(place.published("first.zst"), b"first");
    assert!(place.history("second").is_empty());
    mount.set_writable();
    until("second", || !place.input().join("second").exists());
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("second.zst"), b"second");
    place.assert_clean();
}

#[test]
fn a_stop_on_a_read_only_disk_leaves_the_work_to_the_next_start() {
    let place = TestDir::new();
    let Some(mount) = Mount::memory(&place.output(), "1m") else { return };
    let running = place.watch(&["--on-success", "delete"]);
    mount.set_read_only();
    place.put("file", "content");
    running.until_logged("storage unavailable, intake paused");
    let ended = running.stop();
    assert_eq!(ended.code, 75, "{ended:?}");
    mount.set_writable();
    assert_eq!(place.once(&["--on-success", "delete"]).code, 0);
    assert_eq!(place.published("file.zst"), b"content");
    place.assert_clean();
}

/// A state directory without space, and a file that was published before.
fn full_at_the_start(place: &TestDir) -> Option<(Mount, PathBuf)> {
    std::fs::create_dir(place.state()).unwrap();
    let mount = Mount::memory(&place.state(), "1m")?;
    place.put("first", "first");
    assert_eq!(place.once(&["--on-success", "delete"]).code, 0);
    let ballast = fill(&place.state(), 0);
    place.put("second", "second");
    Some((mount, ballast))
}

/// It ended with 74, ten times, and then the service manager gave up.
#[test]
fn a_start_on_a_full_disk_under_the_ledger_waits_for_space() {
    let place = TestDir::new();
    let Some((_mount, ballast)) = full_at_the_start(&place) else { return };
    let args = ["run", "--config", "tidemill.toml", "--on-success", "delete"];
    let running = Running::start(&mut place.tidemill(&args));
    running.until_logged("no space in the state directory, start waiting");
    assert_eq!(tree(&place.input()).len(), 1);
    std::fs::remove_file(ballast).unwrap();
    until("the source to be done", || tree(&place.input()).is_empty());
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("second.zst"), b"second");
    place.assert_clean();
}

#[test]
fn a_stop_while_the_start_waits_for_space_leaves_the_work_to_the_next_start() {
    let place = TestDir::new();
    let Some((_mount, ballast)) = full_at_the_start(&place) else { return };
    let args = ["run", "--config", "tidemill.toml", "--on-success", "delete"];
    let running = Running::start(&mut place.tidemill(&args));
    running.until_logged("no space in the state directory, start waiting");
    let ended = running.stop();
    assert_eq!(ended.code, 75, "{ended:?}");
    std::fs::remove_file(ballast).unwrap();
    assert_eq!(place.once(&["--on-success", "delete"]).code, 0);
    assert_eq!(place.published("second.zst"), b"second");
    place.assert_clean();
}

/// The stage decided the name again and again, and no stop ended that.
#[test]
fn a_name_that_another_program_takes_each_time_ends_neither_the_stage_nor_a_stop() {
    let place = TestDir::new();
    let running = place.watch_with(&[], "commit::rename=return(eexist)");
    place.put("file", "content");
    running.until_logged("another program keeps changing");
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.once(&[]).code, 0);
    assert_eq!(place.published("file.zst"), b"content");
    place.assert_clean();
}

/// It blamed the file, which went to quarantine.
#[test]
fn a_ledger_that_cannot_be_read_for_a_moment_delays_its_file_and_blames_it_for_nothing() {
    let place = TestDir::new();
    let running = place.watch_with(&[], "commit::look_up=3*return(eio)->off");
    place.put("file", "first");
    until("the first version", || place.output().join("file.zst").exists());
    place.put("file", "second");
    running.until_logged("cannot look up the output");
    until("the second version", || place.published("file.zst") == b"second");
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains(" quarantined=0 "), "{ended:?}");
    place.assert_clean();
}

/// A soft mount whose server is gone answers with an error: it blamed each file, and quarantined it.
#[test]
fn an_input_that_does_not_respond_pauses_and_no_file_goes_to_quarantine() {
    for (point, error) in [("claim", "etimedout"), ("read", "ehostdown"), ("dispose", "enodev")] {
        let place = TestDir::new();
        let failpoints = format!("{point}=3*return({error})->off");
        let running = place.watch_with(&["--on-success", "delete"], &failpoints);
        place.put("file", "content");
        running.until_logged("storage unavailable, intake paused");
        until("the source to be done", || tree(&place.input()).is_empty());
        let ended = running.stop();
        assert_eq!(ended.code, 0, "{point}: {ended:?}");
        assert!(ended.stderr.contains(" quarantined=0 "), "{point}: {ended:?}");
        assert_eq!(place.published("file.zst"), b"content");
        place.assert_clean();
    }
}

/// It blamed each file: an archive that was away for some seconds filled the quarantine.
#[test]
fn an_archive_that_is_away_pauses_and_no_file_goes_to_quarantine() {
    let place = TestDir::new();
    let args = ["--on-success", "archive:done", "--events", "events.jsonl"];
    let running = place.watch(&args);
    let (archive, away) = (place.root().join("done"), place.root().join("away"));
    std::fs::rename(&archive, &away).unwrap();
    place.put("sub/file", "content");
    running.until_logged("storage unavailable, intake paused");
    let log = running.log();
    let wanted = format!("no source can be archived in {}: No such file", archive.display());
    assert!(log.contains(&wanted), "{log}");
    assert_eq!(std::fs::read(place.input().join("sub/file")).unwrap(), b"content");
    std::fs::rename(&away, &archive).unwrap();
    until("the source to be archived", || archive.join("sub/file").exists());
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains(" quarantined=0 "), "{ended:?}");
    assert_eq!(ended.stderr.matches("intake paused").count(), 1, "{ended:?}");
    assert_eq!(place.published("sub/file.zst"), b"content");
    let events = std::fs::read_to_string(place.root().join("events.jsonl")).unwrap();
    assert_eq!(events.lines().count(), 1, "{events}");
    place.assert_clean();
}

#[test]
fn a_start_on_a_read_only_disk_is_refused_with_its_name() {
    let place = TestDir::new();
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

/// It counted as a configuration that no restart can help.
#[test]
fn a_start_on_a_disk_that_became_read_only_is_a_failure_of_storage() {
    let place = TestDir::new();
    std::fs::create_dir(place.state()).unwrap();
    let Some(mount) = Mount::memory(&place.state(), "4m") else { return };
    assert_eq!(place.once(&[]).code, 0);
    mount.set_read_only();
    let ended = place.once(&[]);
    assert_eq!(ended.code, 74, "{ended:?}");
    let wanted = format!("cannot lock {}", place.state().display());
    assert!(ended.stderr.contains(&wanted), "{ended:?}");
    assert!(ended.stderr.contains("Read-only file system"), "{ended:?}");
    mount.set_writable();
    assert_eq!(place.once(&[]).code, 0);
}

/// The pipeline paused, and nothing could end the pause.
#[test]
fn a_store_that_fails_at_a_quarantine_or_a_later_disposal_stops_the_service() {
    let place = TestDir::new();
    place.put("kept", "content");
    assert_eq!(place.once(&[]).code, 0);
    let damaged = ["--transform", "gunzip"];
    for (point, args) in [
        ("quarantine::record", damaged),
        ("quarantine::report", damaged),
        ("dispose::record", ["--on-success", "delete"]),
    ] {
        place.put("damaged.gz", "no archive");
        let running = place.watch_with(&args, &format!("{point}=return(eio)"));
        running.until_logged("storage failed, stopping");
        let ended = running.end();
        assert_eq!(ended.code, 74, "{point}: {ended:?}");
        assert!(!ended.stderr.contains("intake paused"), "{point}: {ended:?}");
        std::fs::remove_file(place.input().join("damaged.gz")).unwrap();
    }
    assert_eq!(place.once(&["--on-success", "delete"]).code, 0);
    assert!(tree(&place.input()).is_empty());
    assert_eq!(place.published("kept.zst"), b"content");
    place.assert_clean();
}

/// The error of the second step was taken for the cause, and the source stayed under its private name.
#[test]
fn a_source_that_cannot_be_put_back_pauses_by_the_cause_and_is_left_to_the_next_start() {
    let place = TestDir::new();
    let failpoints = "dispose::unlink=1*return(enospc)->off;dispose::put_back=1*return(eio)->off";
    let running = place.watch_with(&["--on-success", "delete"], failpoints);
    place.put("file", "content");
    running.until_logged("cannot restore a source's name, left to the next start");
    running.until_logged("storage unavailable, intake paused");
    assert!(running.log().contains("No space left on device"), "{}", running.log());
    let ended = running.stop();
    assert_eq!(ended.code, 75, "{ended:?}");
    assert!(ended.stderr.contains(" quarantined=0 "), "{ended:?}");
    assert_eq!(place.once(&["--on-success", "delete"]).code, 0);
    assert!(tree(&place.input()).is_empty());
    assert_eq!(place.published("file.zst"), b"content");
    assert_eq!(place.history("file").len(), 1);
    place.assert_clean();
}

/// What was moved below the mount point was hidden as soon as it was mounted again.
#[test]
fn an_archive_or_a_quarantine_whose_mount_is_gone_pauses_the_pipeline() {
    for (kind, lines, content) in [
        ("archive", "on_success = \"archive:disk/moved\"", "content"),
        ("quarantine", "on_success = \"delete\"\nquarantine = \"disk/moved\"", "no archive"),
    ] {
        let place = TestDir::new();
        let transform = if kind == "archive" { "zstd" } else { "gunzip" };
        place.configure(&format!("transforms = \"{transform}\"\n{lines}"));
        // A directory in the mount, as OPERATIONS recommends.
        let (disk, moved) = (place.root().join("disk"), place.root().join("disk/moved"));
        std::fs::create_dir_all(&moved).unwrap();
        let Some(mount) = Mount::memory(&disk, "1m") else { return };
        std::fs::create_dir(&moved).unwrap();
        let running = place.watch(&["--sandbox", "off"]);
        place.put("first.gz", content);
        until("the first file to be moved", || moved.join("first.gz").exists());
        drop(mount);
        place.put("second.gz", content);
        running.until_logged("storage unavailable, intake paused");
        let log = running.log();
        assert!(log.contains("No such device"), "{kind}: {log}");
        assert!(tree(&moved).is_empty(), "{kind}: it is below the mount point");
        assert_eq!(std::fs::read_to_string(place.input().join("second.gz")).unwrap(), content);
        // Another file system, with another device number, is mounted there on purpose.
        let other = place.root().join("other");
        std::fs::create_dir(&other).unwrap();
        let Some(_other) = Mount::memory(&other, "1m") else { return };
        let Some(_mount) = Mount::memory(&disk, "1m") else { return };
        std::fs::create_dir(&moved).unwrap();
        until("the second file to be moved", || moved.join("second.gz").exists());
        assert_eq!(running.stop().code, 0, "{kind}");
        place.assert_clean();
    }
}

#[test]
fn an_archive_that_an_operator_replaces_is_used_without_a_restart() {
    let place = TestDir::new();
    let (archive, old) = (place.root().join("done"), place.root().join("old"));
    let running = place.watch(&["--on-success", "archive:done", "--sandbox", "off"]);
    place.put("first", "content");
    until("the first file to be archived", || archive.join("first").exists());
    std::fs::rename(&archive, &old).unwrap();
    std::fs::create_dir(&archive).unwrap();
    place.put("second", "content");
    until("the second file to be archived", || archive.join("second").exists());
    assert_eq!(running.stop().code, 0);
    place.assert_clean();
}
