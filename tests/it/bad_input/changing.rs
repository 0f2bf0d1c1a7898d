//! Files and directories that change while the service looks: vanish, grow, are replaced, return.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use crate::files::{Running, TestDir, tree, until};

/// Whether this output is there.
fn is_published(place: &TestDir, name: &str) -> bool {
    place.output().join(name).exists()
}

/// Lets the service prove that it has handled all earlier events: a later file is published.
fn until_past(place: &TestDir, name: &str) {
    place.put(name, "later");
    until(name, || is_published(place, &format!("{name}.zst")));
}

/// Waits until the service has this file open.
fn until_open(running: &Running, path: &Path) {
    let descriptors = PathBuf::from(format!("/proc/{}/fd", running.pid()));
    until(path, || {
        let mut open = std::fs::read_dir(&descriptors).into_iter().flatten().flatten();
        open.any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path))
    });
}

fn assert_stops_well(place: &TestDir, running: Running) -> String {
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("temporary_files=0"), "{ended:?}");
    place.assert_clean();
    ended.stderr
}

#[test]
fn a_file_that_vanishes_before_it_settles_is_forgotten() {
    let place = TestDir::new();
    let running = place.watch(&["--settle", "400ms"]);
    let path = place.put("gone", "gone");
    std::fs::remove_file(path).unwrap();
    until_past(&place, "later");
    assert_stops_well(&place, running);
    assert_eq!(tree(&place.output()), [place.output().join("later.zst")]);
    assert!(place.history("gone").is_empty());
}

#[test]
fn a_file_that_vanishes_while_it_is_read_was_whole_and_is_published_or_left() {
    let place = TestDir::new();
    let running = place.watch_with(&["--on-success", "delete"], &place.gate("read"));
    let path = place.put("gone", "content");
    until_open(&running, &path);
    std::fs::remove_file(path).unwrap();
    place.open_gate();
    until_past(&place, "later");
    assert_stops_well(&place, running);
    // Its last name is gone, so its change time moved: it is given up, and there is nothing to try
    // again.
    assert!(!is_published(&place, "gone.zst"));
    assert!(place.history("gone").is_empty());
}

#[test]
fn a_file_that_is_still_written_is_published_once_whole_after_its_writer_closed_it() {
    let place = TestDir::new();
    let running = place.watch(&[]);
    let path = place.input().join("growing");
    let mut writer = File::options().create_new(true).append(true).open(&path).unwrap();
    for part in 0..5 {
        writeln!(writer, "part {part}").unwrap();
        until_past(&place, &format!("later{part}"));
        assert!(!is_published(&place, "growing.zst"), "part {part}");
    }
    drop(writer);
    until("growing", || is_published(&place, "growing.zst"));
    assert_stops_well(&place, running);
    assert_eq!(place.published("growing.zst"), std::fs::read(path).unwrap());
    assert_eq!(place.history("growing").len(), 1);
}

#[test]
fn once_leaves_a_file_that_is_written_and_says_so_by_its_exit_code() {
    let place = TestDir::new();
    place.put("good", "good");
    let path = place.put("growing", "a part");
    let _writer = File::options().append(true).open(path).unwrap();
    let ended = place.once(&[]);
    assert_eq!(ended.code, 75, "{ended:?}");
    assert_eq!(tree(&place.output()), [place.output().join("good.zst")]);
    assert!(ended.stderr.contains("unfinished=1"), "{ended:?}");
    place.assert_clean();
}

#[test]
fn a_small_file_that_is_replaced_while_it_is_read_is_published_as_it_is_then() {
    replaced_while_read(b"old", b"the new content");
}

#[test]
fn a_large_file_that_is_replaced_while_it_is_read_is_published_as_it_is_then() {
    replaced_while_read(&b"o".repeat(1 << 20), &b"n".repeat(3 << 19));
}

fn replaced_while_read(old: &[u8], new: &[u8]) {
    let place = TestDir::new();
    let running = place.watch_with(&[], &place.gate("read"));
    let path = place.put("file", old);
    let replacement = place.root().join("new");
    std::fs::write(&replacement, new).unwrap();
    until_open(&running, &path);
    std::fs::rename(&replacement, &path).unwrap();
    place.open_gate();
    until("the new content", || {
        is_published(&place, "file.zst") && place.published("file.zst") == new
    });
    assert_stops_well(&place, running);
    assert_eq!(place.published("file.zst"), new);
}

#[test]
fn a_file_that_is_written_to_while_it_is_read_is_never_published_torn() {
    let place = TestDir::new();
    let running = place.watch_with(&[], &place.gate("read"));
    let path = place.put("file", vec![b'o'; 1 << 20]);
    until_open(&running, &path);
    // The same size: only its times differ.
    std::fs::write(&path, vec![b'n'; 1 << 20]).unwrap();
    place.open_gate();
    until("the output", || is_published(&place, "file.zst"));
    assert_stops_well(&place, running);
    assert_eq!(place.published("file.zst"), vec![b'n'; 1 << 20]);
    assert_eq!(place.history("file").len(), 1, "never published before");
}

#[test]
fn a_directory_that_disappears_and_comes_back_is_watched_again() {
    let place = TestDir::new();
    place.put("sub/deep/first", "first");
    let running = place.watch(&["--on-success", "delete"]);
    until("first", || is_published(&place, "sub/deep/first.zst"));
    std::fs::remove_dir_all(place.input().join("sub")).unwrap();
    until_past(&place, "between");
    place.put("sub/deep/second", "second");
    until("second", || is_published(&place, "sub/deep/second.zst"));
    assert_stops_well(&place, running);
    assert_eq!(place.published("sub/deep/second.zst"), b"second");
}

#[test]
fn the_input_itself_may_disappear_and_come_back() {
    let place = TestDir::new();
    let running = place.watch(&["--sandbox", "off"]);
    let moved = place.root().join("elsewhere");
    std::fs::rename(place.input(), &moved).unwrap();
    std::fs::write(moved.join("not ours"), "").unwrap();
    running.until_logged("input unavailable, intake paused");
    let history = place.run(&["history"]);
    assert_eq!(history.code, 0, "{history:?}");
    place.put("back", "back");
    running.until_logged("input available, intake resumed");
    until("back", || is_published(&place, "back.zst"));
    place.put("watched", "watched");
    until("watched", || is_published(&place, "watched.zst"));
    let log = assert_stops_well(&place, running);
    assert!(log.contains(&format!("cannot open the input {}", place.input().display())), "{log}");
    assert!(!is_published(&place, "not ours.zst"));
}

#[test]
fn a_directory_of_the_output_may_be_removed_and_is_made_again() {
    let place = TestDir::new();
    let running = place.watch(&[]);
    place.put("sub/first", "first");
    until("first", || is_published(&place, "sub/first.zst"));
    std::fs::remove_dir_all(place.output().join("sub")).unwrap();
    place.put("sub/second", "second");
    until("second", || is_published(&place, "sub/second.zst"));
    assert_stops_well(&place, running);
    assert_eq!(place.published("sub/second.zst"), b"second");
}

#[test]
fn the_output_itself_is_waited_for_where_it_is_gone_it_may_be_a_mount() {
    let place = TestDir::new();
    let running = place.watch(&["--on-success", "delete", "--sandbox", "off"]);
    place.put("sub/first", "first");
    until("first", || is_published(&place, "sub/first.zst"));
    std::fs::remove_dir_all(place.output()).unwrap();
    place.put("sub/second", "second");
    running.until_logged("storage unavailable, intake paused");
    assert!(place.input().join("sub/second").exists());
    std::fs::create_dir(place.output()).unwrap();
    until("second", || is_published(&place, "sub/second.zst"));
    let log = assert_stops_well(&place, running);
    assert!(log.contains("cannot open the output directory of"), "{log}");
    assert_eq!(place.published("sub/second.zst"), b"second");
}
