use super::*;

fn event(id: i64) -> Event {
    Event {
        time: "2026-01-01T00:00:00Z".into(),
        id,
        pipeline: "main".into(),
        outcome: "published",
        source: "a".into(),
        source_hex: None,
        source_bytes: 1,
        output: Some("a.zst".into()),
        output_hex: None,
        output_bytes: Some(2),
        source_hash: None,
        output_hash: None,
        replaced_hash: None,
        seconds: None,
        reason: None,
    }
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
fn a_line_that_a_crash_tore_is_cut_off_and_one_of_another_hand_is_ended() {
    let (_dir, path) = path();
    Events::open(&path).expect("open").append(&[event(1)]).expect("append");
    let whole = lines(&path);
    let torn = format!("{}\n{{\"time\":\"2026-", whole[0]);
    std::fs::write(&path, torn).expect("tear");
    let mut events = Events::open(&path).expect("open");
    assert_eq!(lines(&path), whole);
    events.append(&[event(2)]).expect("append");
    assert_eq!(lines(&path).len(), 2);
    std::fs::write(&path, "someone's note").expect("write");
    Events::open(&path).expect("open").append(&[event(3)]).expect("append");
    assert_eq!(lines(&path)[0], "someone's note");
    assert_eq!(lines(&path).len(), 2);
}

#[test]
fn a_rotated_file_is_left_and_a_new_one_made() {
    let (dir, path) = path();
    let mut events = Events::open(&path).expect("open");
    events.append(&[event(1)]).expect("append");
    #[expect(clippy::disallowed_methods, reason = "the test rotates as logrotate does")]
    std::fs::rename(&path, dir.path().join("events.1")).expect("rotate");
    events.append(&[event(2)]).expect("append");
    assert!(lines(&path)[0].contains("\"id\":2"));
    assert!(lines(&dir.path().join("events.1"))[0].contains("\"id\":1"));
}

#[test]
fn recovery_learns_which_records_were_acknowledged() {
    let (_dir, path) = path();
    let mut events = Events::open(&path).expect("open");
    events
        .append(&[event(1), event(2), Event { outcome: "quarantined", ..event(3) }])
        .expect("append");
    let recorded = events.recorded(&HashSet::from([2, 3, 4])).expect("read");
    assert_eq!(recorded, HashSet::from([2]));
}

#[test]
fn a_line_torn_anywhere_is_cut_off() {
    let (_dir, path) = path();
    Events::open(&path).expect("open").append(&[event(1), event(2)]).expect("append");
    let whole = std::fs::read(&path).expect("read");
    let first = whole.iter().position(|byte| *byte == b'\n').expect("two lines") + 1;
    for torn in first..whole.len() {
        std::fs::write(&path, &whole[..torn]).expect("tear");
        Events::open(&path).expect("open");
        assert_eq!(std::fs::read(&path).expect("read"), whole[..first], "torn at {torn}");
    }
}

#[test]
fn a_long_unfinished_line_of_another_hand_is_kept_and_ended() {
    let (_dir, path) = path();
    let foreign = vec![b'x'; 3 * 1024 * 1024];
    std::fs::write(&path, &foreign).expect("write");
    Events::open(&path).expect("open").append(&[event(1)]).expect("append");
    let lines = lines(&path);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].len(), foreign.len());
    assert!(lines[1].contains("\"id\":1"), "{}", lines[1]);
}

#[test]
fn what_is_no_regular_file_is_refused_by_its_name() {
    let error = Events::open(Path::new("/dev/null")).expect_err("a device");
    assert!(error.to_string().contains("/dev/null"), "{error}");
    assert!(error.to_string().contains("not a regular file"), "{error}");
    let (dir, _) = path();
    Events::open(dir.path()).expect_err("a directory");
}

#[test]
fn a_file_that_was_truncated_by_a_rotation_goes_on_at_its_start() {
    let (_dir, path) = path();
    let mut events = Events::open(&path).expect("open");
    events.append(&[event(1)]).expect("append");
    std::fs::write(&path, "").expect("truncate");
    events.append(&[event(2)]).expect("append");
    assert_eq!(lines(&path).len(), 1);
    assert!(lines(&path)[0].starts_with("{\"time\""));
}

#[test]
fn a_record_is_found_behind_many_later_lines_and_lines_of_other_hands() {
    let (_dir, path) = path();
    let mut events = Events::open(&path).expect("open");
    events.append(&[event(7)]).expect("append");
    let later: Vec<Event> = (10..20_000).map(event).collect();
    events.append(&later).expect("append");
    let mut text = std::fs::read(&path).expect("read");
    text.extend(b"not json\n\xff\xfe\n{\"id\":\"eight\"}\n");
    std::fs::write(&path, text).expect("write");
    let events = Events::open(&path).expect("open");
    let recorded = events.recorded(&HashSet::from([7, 8, 19_999])).expect("read");
    assert_eq!(recorded, HashSet::from([7, 19_999]));
}

#[test]
fn every_line_is_one_json_object_whatever_the_name() {
    let (_dir, path) = path();
    let mut events = Events::open(&path).expect("open");
    let name = "a\nb\r\"\\\u{0}\u{1b}[2J\u{2028}";
    events.append(&[Event { source: name.into(), ..event(1) }]).expect("append");
    let lines = lines(&path);
    assert_eq!(lines.len(), 1);
    let value: serde_json::Value = serde_json::from_str(&lines[0]).expect("json");
    assert_eq!(value["source"], name);
}
