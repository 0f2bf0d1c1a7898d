//! `plan`: what a run would do, without doing it.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::files::{Ended, TestDir, tree};

fn plan(place: &TestDir, args: &[&str]) -> Ended {
    place.run(&[&["plan", "--config", "tidemill.toml"], args].concat())
}

/// The fate of each file, and its output or its reason.
fn fates(place: &TestDir, args: &[&str]) -> BTreeMap<String, (String, Option<String>)> {
    let ended = plan(place, &[args, &["--json"]].concat());
    let lines = ended.stdout.lines();
    let of = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| line[key].as_str().map(str::to_owned);
        (text("source").unwrap(), (text("fate").unwrap(), text("output")))
    };
    lines.map(of).collect()
}

fn fate(fate: &str, output: Option<&str>) -> (String, Option<String>) {
    (fate.to_owned(), output.map(str::to_owned))
}

/// Everything below a directory, with the times at which it changed. SQLite's shared memory is not the
/// ledger.
fn state(root: &Path) -> BTreeMap<PathBuf, (i64, i64, u64)> {
    let of = |path: PathBuf| {
        let found = path.symlink_metadata().unwrap();
        (path, (found.ctime(), found.ctime_nsec(), found.size()))
    };
    let is_shared = |path: &PathBuf| path.to_string_lossy().contains("ledger.sqlite-");
    tree(root).into_iter().filter(|path| !is_shared(path)).map(of).collect()
}

#[test]
fn a_plan_is_what_the_run_does_and_writes_nothing() {
    let place = TestDir::new();
    place.put("done", "done");
    assert_eq!(place.once(&[]).code, 0);
    place.put("d/new", "new");
    place.put("upload.part", "half");
    place.put("taken", "taken");
    std::fs::write(place.output().join("taken.zst"), "another program's").unwrap();
    let before = state(&place.root());
    let ended = plan(&place, &[]);
    assert_eq!(ended.code, 65, "{ended:?}");
    let mut lines: Vec<_> = ended.stdout.lines().collect();
    let summary = lines.pop().unwrap();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "done        done (4 B)",
            "publish     d/new → d/new.zst (3 B)",
            "quarantine  taken (5 B): taken.zst exists: the policy is `update` and this service did not \
             publish it from this source (unless it has the same content)",
        ]
    );
    assert_eq!(
        summary,
        "4 files: 1 publish (3 B), 1 quarantine, 1 done, 1 ignore; --all lists the ignored ones"
    );
    assert_eq!(state(&place.root()), before, "it wrote something");
    let planned = fates(&place, &[]);
    assert_eq!(planned["d/new"], fate("publish", Some("d/new.zst")));
    assert_eq!(planned["upload.part"], fate("ignore", None));
    assert_eq!(place.once(&[]).code, 65);
    assert_eq!(place.published("d/new.zst"), b"new");
    assert_eq!(place.state_of("taken"), "quarantined");
    assert_eq!(fates(&place, &[])["taken"], fate("quarantined", None));
}

#[test]
fn a_plan_follows_the_options_of_the_run() {
    let place = TestDir::new();
    let old = place.put("old", "old");
    assert_eq!(place.once(&[]).code, 0);
    assert_eq!(fates(&place, &["--on-success", "delete"])["old"], fate("dispose", None));
    let skipped = fates(&place, &["--settle", "1h"]);
    assert_eq!(skipped["old"], fate("done", None));
    place.put("young", "young");
    assert_eq!(fates(&place, &["--settle", "1h"])["young"], fate("wait", None));
    let future = SystemTime::now() + std::time::Duration::from_secs(1);
    std::fs::File::options().append(true).open(&old).unwrap().set_modified(future).unwrap();
    let other = plan(&place, &["--transform", "gzip"]);
    assert_eq!(other.code, 0, "{other:?}");
    assert!(other.stdout.contains("young → young.gz"), "{other:?}");
}

#[test]
fn a_plan_needs_no_ledger_and_reports_what_it_cannot_read() {
    let place = TestDir::new();
    place.put("a", "a");
    let ended = place.run(&["plan", "in", "out"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.starts_with("publish     a → a.zst (1 B)\n"), "{ended:?}");
    assert!(!place.output().join(".tidemill").exists());
    std::fs::remove_dir(place.output()).unwrap();
    let ended = place.run(&["plan", "in", "out"]);
    assert!(ended.stdout.starts_with("publish     a → a.zst (1 B)\n"), "{ended:?}");
    place.put("a.zst", "a");
    let ended = place.run(&["plan", "in", "out", "--transform", "decompress:or-copy"]);
    assert_eq!(ended.code, 65, "{ended:?}");
    assert!(ended.stdout.contains("(1 B): a is another source's output in this plan"), "{ended:?}");
    let missing = place.run(&["plan", "missing", "out"]);
    assert_eq!(missing.code, 78, "{missing:?}");
}

/// What a source's record, a number and a directory's name decide.
#[test]
fn a_plan_knows_requested_outputs_numbers_and_files_in_the_place_of_directories() {
    let place = TestDir::new();
    place.put("again", "again");
    assert_eq!(place.once(&[]).code, 0);
    assert_eq!(place.run(&["reprocess", "--state-dir", "state", "in/again"]).code, 0);
    place.put("taken", "taken");
    std::fs::write(place.output().join("taken.zst"), "another program's").unwrap();
    place.put("d/x", "x");
    std::fs::write(place.output().join("d"), "no directory").unwrap();
    for (on_exists, taken, code) in
        [("fail", fate("quarantine", None), 65), ("suffix", fate("publish", None), 65)]
    {
        let fates = fates(&place, &["--on-exists", on_exists]);
        assert_eq!(fates["again"], fate("publish", Some("again.zst")), "{on_exists}");
        assert_eq!(fates["taken"], taken, "{on_exists}");
        assert_eq!(fates["d/x"], fate("quarantine", None), "{on_exists}");
        assert_eq!(plan(&place, &["--on-exists", on_exists]).code, code);
    }
    let ended = place.once(&["--on-exists", "suffix"]);
    assert_eq!(ended.code, 65, "{ended:?}");
    assert_eq!(place.published("taken.1.zst"), b"taken");
    assert_eq!(place.published("again.zst"), b"again");
}
