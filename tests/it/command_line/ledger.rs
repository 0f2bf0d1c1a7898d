//! `history` and `explain`: the records of the ledger.

use crate::files::TestDir;

/// One published, one quarantined, one skipped.
fn worked() -> TestDir {
    let place = TestDir::new();
    place.put("good.gz", "");
    assert_eq!(place.once(&["--transform", "gzip", "--exclude", "*.gz"]).code, 0);
    std::fs::remove_file(place.input().join("good.gz")).unwrap();
    place.put("bad", "no archive");
    assert_eq!(place.once(&["--transform", "gunzip"]).code, 65);
    place.put("good", "content");
    // The first one still is in quarantine.
    assert_eq!(place.once(&[]).code, 65);
    place.put("skipped", "content");
    std::fs::write(place.output().join("skipped.zst"), "theirs").unwrap();
    assert_eq!(place.once(&["--on-exists", "skip"]).code, 65);
    place
}

fn lines(place: &TestDir, args: &[&str]) -> Vec<String> {
    let ended = place.run(&[&["history"], args].concat());
    assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
    ended.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn history_lists_the_newest_first_and_can_be_narrowed() {
    let place = worked();
    let all = lines(&place, &[]);
    assert_eq!(all.len(), 3, "{all:?}");
    for (line, state, source) in [
        (&all[0], "skipped", "/in/skipped"),
        (&all[1], "done", "/in/good → "),
        (&all[2], "quarantined", "/in/bad"),
    ] {
        assert!(line.contains(state) && line.contains(source), "{line}");
    }
    assert_eq!(lines(&place, &["--state", "done"]), [all[1].clone()]);
    assert_eq!(lines(&place, &["--state", "intent"]), Vec::<String>::new());
    assert_eq!(lines(&place, &["--limit", "1"]), [all[0].clone()]);
    assert_eq!(lines(&place, &["--since", "1h"]), all);
    assert_eq!(lines(&place, &["--since", "2100-01-01T00:00:00Z"]), Vec::<String>::new());
    assert_eq!(lines(&place, &["--since", "2020-01-01T00:00:00Z", "--limit", "2"]).len(), 2);
    let time = all[1].split_whitespace().next().unwrap();
    assert_eq!(lines(&place, &["--since", time]).len(), 2, "the time it prints is one it reads");
}

#[test]
fn history_as_json_has_one_object_a_line() {
    let place = worked();
    let objects: Vec<serde_json::Value> =
        lines(&place, &["--json"]).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 3);
    let done = &objects[1];
    assert_eq!(done["state"], "done");
    assert_eq!(done["pipeline"], "main");
    assert_eq!(done["source"], "good");
    assert_eq!(done["output"], "good.zst");
    assert_eq!(done["source_bytes"], 7);
    assert_eq!(done["source_hash"], blake3::hash(b"content").to_hex().as_str());
    assert!(done["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert!(done.get("reason").is_none(), "{done}");
    assert!(objects[2]["reason"].as_str().unwrap().contains("gunzip"));
    assert_eq!(objects[2]["reason_code"], "corrupt");
}

fn explained(place: &TestDir, path: &str, wanted: &str) {
    let ended = place.run(&["explain", path]);
    assert_eq!(ended.code, 0, "{path}: {ended:?}");
    assert!(ended.stdout.contains(wanted), "{path}: {ended:?}");
}

#[test]
fn explain_answers_for_every_type_of_file() {
    let place = worked();
    place.put("new", "new");
    place.put("left.out", "left out");
    place.put("unmarked", "unmarked");
    place.put("good.zst", "an archive");
    place.put("unmarked.ok", "");
    place.put(".tidemill-x", "");
    std::fs::create_dir(place.input().join("dir")).unwrap();
    std::fs::write(place.output().join("strange"), "").unwrap();
    std::fs::write(place.output().join(".tidemill-1.tmp"), "").unwrap();
    // The rules of the last start count: nothing is taken with this one.
    let resolved = place.state().join("config.toml");
    let rules = std::fs::read_to_string(&resolved).unwrap();
    std::fs::write(&resolved, rules.replace("exclude = []", "exclude = [\"*.out\"]")).unwrap();
    explained(&place, "in/new", "in/new: was not processed yet\n");
    explained(&place, "in/new", "next:       it is processed once it is settled\n");
    explained(&place, "in/good", "was processed, is unchanged since, and is kept\n");
    explained(
        &place,
        "in/good",
        "next:       it is processed again when its content changes, or by `tidemill reprocess`\n",
    );
    explained(&place, "in/good", "size:       7 B → ");
    explained(&place, "in/good", "transforms: zstd:3");
    explained(&place, "in/good", "/out/good.zst, exists, unchanged\n");
    explained(&place, "in/bad", "is in quarantine, and stays in the input\n");
    explained(&place, "in/bad", "gunzip");
    explained(&place, "in/skipped", "was skipped: its output's name was taken, and `on_exists` is");
    explained(&place, "in/left.out", "is ignored: `include` and `exclude` leave it out");
    explained(&place, "in/dir", "is a directory\n");
    explained(&place, "in", "is a directory, the input of pipeline main");
    explained(&place, "in/.tidemill-x", "is ignored: its name is one of the service's own");
    explained(&place, "in/never", "does not exist");
    explained(&place, "out/good.zst", "was published\n");
    explained(&place, "out/strange", "was not published by this service");
    explained(&place, "out/.tidemill-1.tmp", "is a temporary file of the service");
    explained(&place, "tidemill.toml", "is in no input and no output of this service");
    place.put("good", "changed");
    explained(&place, "in/good", "changed since it was processed, or was requeued\n");
    std::fs::remove_file(place.input().join("good")).unwrap();
    explained(&place, "in/good", "does not exist\n  record: ");
}

#[test]
fn explain_names_the_marker_that_a_file_waits_for() {
    let place = TestDir::new();
    place.configure("marker = \".ok\"");
    place.put("waits", "waits");
    place.put("marked", "marked");
    place.put("marked.ok", "");
    assert_eq!(place.once(&[]).code, 0);
    assert_eq!(place.published("marked.zst"), b"marked");
    assert!(!place.output().join("waits.zst").exists());
    explained(&place, "in/waits", "its marker ");
    explained(&place, "in/waits", "/in/waits.ok does not exist yet");
    explained(&place, "in/marked.ok", "it is a marker (`.ok`)");
}

#[test]
fn explain_finds_a_quarantined_file_by_either_path() {
    let place = TestDir::new();
    place.put("bad", "no archive");
    assert_eq!(place.once(&["--transform", "gunzip", "--on-success", "delete"]).code, 65);
    explained(&place, "in/bad", "does not exist");
    explained(&place, "in/bad", "moved to: ");
    explained(&place, "in/bad", "/state/quarantine/main/bad");
    explained(&place, "state/quarantine/main/bad", "is in quarantine\n");
    explained(&place, "state/quarantine/main/bad", "next:       `tidemill requeue`");
}
