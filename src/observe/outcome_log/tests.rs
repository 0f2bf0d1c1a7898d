use std::path::PathBuf;

use super::*;

fn event(id: i64) -> Outcome {
    Outcome {
        time: "2026-01-01T00:00:00Z".into(),
        id,
        ledger: Some("0011".into()),
        pipeline: "main".into(),
        outcome: Some(OutcomeKind::Published),
        source: "a".into(),
        source_bytes: 1,
        output: Some("a.zst".into()),
        output_bytes: Some(2),
        ..Outcome::default()
    }
}

fn proofs(ids: &[i64]) -> HashSet<Proof> {
    ids.iter().map(|id| event(*id).into()).collect()
}

fn path() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("events");
    (dir, path)
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("read");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_torn_line_is_cut_off_and_a_foreign_one_gets_a_line_end() {
    let (_dir, path) = path();
    OutcomeLog::open(&path).expect("open").append(&[event(1)]).expect("append");
    let whole = lines(&path);
    let torn = format!("{}\n{{\"time\":\"2026-", whole[0]);
    std::fs::write(&path, torn).expect("tear");
    let mut events = OutcomeLog::open(&path).expect("open");
    assert_eq!(lines(&path), whole);
    events.append(&[event(2)]).expect("append");
    assert_eq!(lines(&path).len(), 2);
    drop(events);
    std::fs::write(&path, "someone's note").expect("write");
    OutcomeLog::open(&path).expect("open").append(&[event(3)]).expect("append");
    assert_eq!(lines(&path)[0], "someone's note");
    assert_eq!(lines(&path).len(), 2);
}

/// What was written before an error of the device is unknown; what cannot be opened was not written.
#[test]
fn an_append_can_be_repeated_where_nothing_was_written() {
    let (dir, path) = path();
    let mut events = OutcomeLog::open(&path).expect("open");
    events.append(&[event(1)]).expect("append");
    let rotated = dir.path().join("rotated");
    #[expect(clippy::disallowed_methods, reason = "the log rotation renames it")]
    std::fs::rename(&path, &rotated).expect("rotate");
    std::fs::create_dir(&path).expect("in its place");
    let refused = events.append(&[event(2)]).expect_err("a directory");
    assert!(is_repeatable(&refused), "{refused}");
    assert!(!is_repeatable(&io::ErrorKind::ReadOnlyFilesystem.into()));
    assert!(!is_repeatable(&rustix::io::Errno::IO.into()));
    std::fs::remove_dir(&path).expect("remove");
    events.append(&[event(2)]).expect("append");
    assert_eq!((lines(&rotated).len(), lines(&path).len()), (1, 1));
}

/// No lock keeps other programs from the file: the undo cut their lines, too.
#[test]
fn an_undone_append_cuts_no_line_of_another_program() {
    let (_dir, path) = path();
    let mut events = OutcomeLog::open(&path).expect("open");
    events.append(&[event(1)]).expect("append");
    let before = lines(&path);
    events.append(&[event(2)]).expect("append");
    let full = || io::Error::from(io::ErrorKind::StorageFull);
    let undone = events.log.as_mut().expect("a file").undo_append(full());
    assert!(is_repeatable(&undone));
    assert_eq!(lines(&path), before);
    events.append(&[event(2)]).expect("append");
    let mut other = std::fs::OpenOptions::new().append(true).open(&path).expect("open");
    std::io::Write::write_all(&mut other, b"someone's note\n").expect("write");
    let left = events.log.as_mut().expect("a file").undo_append(full());
    assert!(!is_repeatable(&left), "its line would be written twice");
    assert_eq!(lines(&path).len(), 3);
    assert_eq!(lines(&path)[2], "someone's note");
}

#[test]
fn after_a_rotation_a_new_file_is_created() {
    let (dir, path) = path();
    let mut events = OutcomeLog::open(&path).expect("open");
    events.append(&[event(1)]).expect("append");
    #[expect(clippy::disallowed_methods, reason = "the test rotates as logrotate does")]
    std::fs::rename(&path, dir.path().join("events.1")).expect("rotate");
    events.append(&[event(2)]).expect("append");
    assert!(lines(&path)[0].contains("\"id\":2"));
    assert!(lines(&dir.path().join("events.1"))[0].contains("\"id\":1"));
}

#[test]
fn recovery_finds_the_acknowledged_records() {
    let (_dir, path) = path();
    let mut events = OutcomeLog::open(&path).expect("open");
    events
        .append(&[
            event(1),
            event(2),
            Outcome { outcome: Some(OutcomeKind::Quarantined), ..event(3) },
        ])
        .expect("append");
    let recorded = events.recorded(&proofs(&[2, 3, 4])).expect("read");
    assert_eq!(recorded, HashSet::from([2]));
}

#[test]
fn a_line_torn_anywhere_is_cut_off() {
    let (_dir, path) = path();
    OutcomeLog::open(&path).expect("open").append(&[event(1), event(2)]).expect("append");
    let whole = std::fs::read(&path).expect("read");
    let first = whole.iter().position(|byte| *byte == b'\n').expect("two lines") + 1;
    for torn in first..whole.len() {
        std::fs::write(&path, &whole[..torn]).expect("tear");
        OutcomeLog::open(&path).expect("open");
        assert_eq!(std::fs::read(&path).expect("read"), whole[..first], "torn at {torn}");
    }
}

#[test]
fn a_long_unfinished_foreign_line_is_kept_and_gets_a_line_end() {
    let (_dir, path) = path();
    let foreign = vec![b'x'; 3 * 1024 * 1024];
    std::fs::write(&path, &foreign).expect("write");
    OutcomeLog::open(&path).expect("open").append(&[event(1)]).expect("append");
    let lines = lines(&path);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].len(), foreign.len());
    assert!(lines[1].contains("\"id\":1"), "{}", lines[1]);
}

#[test]
fn a_file_that_is_not_regular_is_rejected_with_its_name() {
    let error = OutcomeLog::open(Path::new("/dev/null")).expect_err("a device");
    assert!(error.to_string().contains("/dev/null"), "{error}");
    assert!(error.to_string().contains("not a regular file"), "{error}");
    let (dir, _) = path();
    OutcomeLog::open(dir.path()).expect_err("a directory");
}

#[test]
fn a_file_truncated_by_a_rotation_continues_at_its_start() {
    let (_dir, path) = path();
    let mut events = OutcomeLog::open(&path).expect("open");
    events.append(&[event(1)]).expect("append");
    std::fs::write(&path, "").expect("truncate");
    events.append(&[event(2)]).expect("append");
    assert_eq!(lines(&path).len(), 1);
    assert!(lines(&path)[0].starts_with("{\"time\""));
}

#[test]
fn a_record_is_found_before_many_later_and_foreign_lines() {
    let (_dir, path) = path();
    let mut events = OutcomeLog::open(&path).expect("open");
    events.append(&[event(7)]).expect("append");
    let later: Vec<Outcome> = (10..20_000).map(event).collect();
    events.append(&later).expect("append");
    let mut text = std::fs::read(&path).expect("read");
    text.extend(b"not json\n\xff\xfe\n{\"id\":\"eight\"}\n");
    std::fs::write(&path, text).expect("write");
    drop(events);
    let mut events = OutcomeLog::open(&path).expect("open");
    let recorded = events.recorded(&proofs(&[7, 8, 19_999])).expect("read");
    assert_eq!(recorded, HashSet::from([7, 19_999]));
}

#[test]
fn every_line_is_one_json_object_whatever_the_name() {
    let (_dir, path) = path();
    let mut events = OutcomeLog::open(&path).expect("open");
    let name = "a\nb\r\"\\\u{0}\u{1b}[2J\u{2028}";
    events.append(&[Outcome { source: name.into(), ..event(1) }]).expect("append");
    let lines = lines(&path);
    assert_eq!(lines.len(), 1);
    let value: serde_json::Value = serde_json::from_str(&lines[0]).expect("json");
    assert_eq!(value["source"], name);
}

/// Regression: the number alone counted. A file that outlives its ledger, or a restored ledger, has
/// lines with the numbers of other records.
#[test]
fn a_line_of_another_record_with_the_same_number_acknowledges_nothing() {
    let (_dir, path) = path();
    let mut events = OutcomeLog::open(&path).expect("open");
    let hashed = |source, output| {
        let hash = |text: &str| Some(text.to_owned());
        Outcome { source_hash: hash(source), output_hash: hash(output), ..event(1) }
    };
    let own = hashed("s", "o");
    for foreign in [
        Outcome { ledger: Some("0012".into()), ..own.clone() },
        Outcome { source: "b".into(), ..own.clone() },
        Outcome { source_hex: Some("62".into()), ..own.clone() },
        Outcome { output: Some("b.zst".into()), ..own.clone() },
        Outcome { output_hex: Some("62".into()), ..own.clone() },
        hashed("another", "o"),
        hashed("s", "another"),
        Outcome { outcome: Some(OutcomeKind::Quarantined), ..own.clone() },
    ] {
        events.append(&[foreign]).expect("append");
    }
    let wanted = HashSet::from([Proof::from(own.clone())]);
    assert_eq!(events.recorded(&wanted).expect("read"), HashSet::new());
    events.append(&[Outcome { time: "later".into(), seconds: Some(1.0), ..own }]).expect("append");
    assert_eq!(events.recorded(&wanted).expect("read"), HashSet::from([1]));
}

/// The kernel drops data that it could not write, and the next sync finds nothing to write.
#[cfg(feature = "failpoints")]
#[test]
fn lines_whose_sync_failed_are_written_again_before_they_count() {
    let (_dir, path) = path();
    let mut events = OutcomeLog::open(&path).expect("open");
    let lines: Vec<Outcome> = (1..20_000).map(event).collect();
    events.append(&lines).expect("append");
    let content = std::fs::read(&path).expect("read");
    let file = std::fs::File::options().write(true).open(&path).expect("open");
    file.set_modified(std::time::UNIX_EPOCH).expect("a time");
    let _scenario = fail::FailScenario::setup();
    fail::cfg("events::sync", "1*return(enospc)->off").expect("a failpoint");
    let full = events.recorded(&proofs(&[7])).expect_err("no space");
    assert!(is_full(&full), "{full}");
    assert_eq!(events.recorded(&proofs(&[7])).expect("read"), HashSet::from([7]));
    let modified = file.metadata().and_then(|metadata| metadata.modified()).expect("a time");
    assert_ne!(modified, std::time::UNIX_EPOCH, "it was written");
    events.append(&[event(20_000)]).expect("append");
    let now = std::fs::read(&path).expect("read");
    assert!(
        now.starts_with(&content) && now.len() > content.len(),
        "in its place, and appended to"
    );
}

#[test]
fn the_largest_number_is_that_of_the_same_ledger() {
    let (_dir, path) = path();
    let mut events = OutcomeLog::open(&path).expect("open");
    assert_eq!(events.largest_id("0011").expect("read"), 0);
    let foreign = Outcome { ledger: Some("0012".into()), ..event(99) };
    events.append(&[event(7), foreign, event(5)]).expect("append");
    assert_eq!(events.largest_id("0011").expect("read"), 7);
}

#[test]
fn a_locked_file_is_rejected_and_a_rotated_one_is_free() {
    let (dir, path) = path();
    let mut first = OutcomeLog::open(&path).expect("open");
    let refused = OutcomeLog::open(&path).expect_err("locked");
    assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
    assert!(refused.to_string().contains("another process has locked it"), "{refused}");
    let rotated = dir.path().join("events.1");
    #[expect(clippy::disallowed_methods, reason = "the test rotates as logrotate does")]
    std::fs::rename(&path, &rotated).expect("rotate");
    first.append(&[event(1)]).expect("append");
    assert!(OutcomeLog::open(&path).is_err(), "the new file is locked");
    OutcomeLog::open(&rotated).expect("the old one is not");
}

#[test]
fn a_deferred_line_goes_before_the_next_ones() {
    let (_dir, path) = path();
    let mut events = OutcomeLog::open(&path).expect("open");
    assert!(events.defer(event(1)));
    events.append(&[event(2)]).and_then(|()| events.sync()).expect("append");
    events.append(&[event(3)]).and_then(|()| events.sync()).expect("append");
    let ids: Vec<_> = lines(&path)
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("json")["id"].clone())
        .collect();
    assert_eq!(ids, [1, 2, 3]);
}

#[test]
fn deferred_lines_are_bounded() {
    let (_dir, path) = path();
    let mut events = OutcomeLog::open(&path).expect("open");
    let deferred = (0..10_000).filter(|_| events.defer(event(1))).count();
    assert_eq!(deferred, limits::EVENTS_DEFERRED_MAX);
    events.append(&[event(2)]).and_then(|()| events.sync()).expect("append");
    assert_eq!(lines(&path).len(), limits::EVENTS_DEFERRED_MAX + 1);
    assert!(events.defer(event(3)), "there is room again");
}
