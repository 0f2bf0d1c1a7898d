//! `reprocess`: processed files are processed again, and `explain` reports when that is useful.

use crate::files::{TestDir, tree, until};

fn explained(place: &TestDir, path: &str) -> String {
    let ended = place.run(&["explain", path]);
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.stdout
}

fn processed(names: &[&str]) -> TestDir {
    let place = TestDir::new();
    for name in names {
        place.put(name, name);
    }
    assert_eq!(place.once(&[]).code, 0);
    place
}

#[test]
fn a_lost_output_is_made_again() {
    let place = processed(&["a", "b"]);
    assert!(explained(&place, "in/a").contains("a.zst, exists, unchanged"));
    std::fs::remove_file(place.output().join("a.zst")).unwrap();
    assert!(explained(&place, "in/a").contains("a.zst, does not exist any more"));
    assert_eq!(place.once(&[]).code, 0);
    assert!(!place.output().join("a.zst").exists(), "a consumer may have taken it");
    let ran = place.run(&["reprocess", "in/a"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.ends_with("/in/a: is processed again\n"), "{ran:?}");
    let ended = place.once(&[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("stopped exit_code=0 published=1"), "{ended:?}");
    assert_eq!(place.published("a.zst"), b"a");
}

#[test]
fn outputs_of_other_transforms_are_made_again() {
    let place = processed(&["a", "b"]);
    place.put("c", "c");
    let other = ["--transform", "zstd:19"];
    let ended = place.once(&other);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("\n2 done before with other transforms"), "{ended:?}");
    let text = explained(&place, "in/a");
    assert!(text.contains("the transforms are `zstd:19` now"), "{text}");
    let ran = place.run(&["reprocess", "--changed-transforms"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "2 files are processed again\n"));
    let ended = place.once(&other);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stderr.contains("with other transforms"), "{ended:?}");
    assert_eq!(place.published("a.zst"), b"a");
    let states = place.history("a").into_iter().map(|record| record["state"].clone());
    assert_eq!(states.collect::<Vec<_>>(), ["done", "requeued"]);
    assert_eq!(place.history("c").len(), 1);
}

#[test]
fn a_file_that_is_gone_or_was_never_processed_is_not_processed_again() {
    let place = processed(&["a", "b"]);
    std::fs::remove_file(place.input().join("a")).unwrap();
    let all = place.run(&["reprocess", "--all"]);
    let printed = "1 file is processed again\n1 file is not in the input any more\n";
    assert_eq!((all.code, all.stdout.as_str()), (0, printed));
    for (path, why) in [("in/a", "is not in the input"), ("in/new", "was not processed yet")] {
        let ran = place.run(&["reprocess", path]);
        assert_ne!(ran.code, 0, "{ran:?}");
        assert!(ran.stdout.contains(why), "{ran:?}");
    }
    let since = place.run(&["reprocess", "--since", "1h"]);
    assert_eq!(since.code, 0, "{since:?}");
    assert_ne!(place.run(&["reprocess"]).code, 0, "nothing is named");
}

#[test]
fn a_service_that_runs_processes_again_at_once() {
    let place = processed(&["a"]);
    let running = place.watch(&[]);
    std::fs::remove_file(place.output().join("a.zst")).unwrap();
    assert_eq!(place.run(&["reprocess", "in/a"]).code, 0);
    until("the output", || place.output().join("a.zst").exists());
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(tree(&place.output()).len(), 1);
}

#[test]
fn an_own_output_is_made_again_under_every_policy_and_the_files_of_others_stay() {
    for policy in ["update", "fail", "replace", "suffix", "skip"] {
        let place = TestDir::new();
        let lines: Vec<_> = (0..2000).map(|number| (number * 7919).to_string()).collect();
        let content = lines.join("\n");
        place.put("a", &content);
        place.put("b", "b");
        assert_eq!(place.once(&[]).code, 0);
        let output = place.output().join("a.zst");
        let before = std::fs::read(&output).unwrap();
        std::fs::remove_file(place.output().join("b.zst")).unwrap();
        std::fs::write(place.output().join("b.zst"), "theirs").unwrap();
        assert_eq!(place.run(&["reprocess", "--all"]).code, 0);
        let ended = place.once(&["--on-exists", policy, "--transform", "zstd:19"]);
        let quarantines = ["update", "fail"].contains(&policy);
        assert_eq!(ended.code, if quarantines { 65 } else { 0 }, "{policy}: {ended:?}");
        assert_ne!(before, std::fs::read(&output).unwrap(), "{policy}: made again");
        assert_eq!(place.published("a.zst"), content.as_bytes(), "{policy}");
        assert_eq!(place.state_of("a"), "done", "{policy}");
        let theirs = std::fs::read(place.output().join("b.zst")).unwrap();
        assert_eq!(theirs == b"theirs", policy != "replace", "{policy}");
        let count = if policy == "suffix" { 3 } else { 2 };
        assert_eq!(tree(&place.output()).len(), count, "{policy}: {:?}", tree(&place.output()));
    }
}

/// What the operator asked for was the file as it was.
#[test]
fn a_source_that_changes_after_the_request_replaces_no_output_that_the_policy_protects() {
    let place = TestDir::new();
    let suffix = ["--on-exists", "suffix"];
    place.put("a", "first");
    assert_eq!(place.once(&suffix).code, 0);
    assert_eq!(place.run(&["reprocess", "in/a"]).code, 0);
    place.put("a", "second");
    assert_eq!(place.once(&suffix).code, 0);
    assert_eq!(place.published("a.zst"), b"first");
    assert_eq!(place.published("a.1.zst"), b"second");
}

#[test]
fn an_output_with_a_number_is_made_again_under_that_name() {
    let place = TestDir::new();
    place.put("a", "a");
    std::fs::write(place.output().join("a.zst"), "theirs").unwrap();
    let suffix = ["--on-exists", "suffix"];
    assert_eq!(place.once(&suffix).code, 0);
    assert_eq!(place.run(&["reprocess", "in/a"]).code, 0);
    let ended = place.once(&[&suffix[..], &["--transform", "zstd:19"]].concat());
    assert_eq!(ended.code, 0, "{ended:?}");
    let outputs = [place.output().join("a.1.zst"), place.output().join("a.zst")];
    assert_eq!(tree(&place.output()), outputs);
    assert_eq!(place.published("a.1.zst"), b"a");
}

#[test]
fn since_chooses_what_was_processed_since_then() {
    let place = processed(&["old", "new"]);
    let ledger = rusqlite::Connection::open(place.state().join("ledger.sqlite")).unwrap();
    let two_hours_ago = "UPDATE records SET at_ns = at_ns - 7200000000000 WHERE source = ?1";
    assert_eq!(ledger.execute(two_hours_ago, [&b"old"[..]]).unwrap(), 1);
    drop(ledger);
    for name in ["old", "new"] {
        std::fs::remove_file(place.output().join(format!("{name}.zst"))).unwrap();
    }
    let ran = place.run(&["reprocess", "--since", "1h"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "1 file is processed again\n"));
    assert_eq!(place.once(&[]).code, 0);
    assert_eq!(tree(&place.output()), [place.output().join("new.zst")]);
    let ran = place.run(&["reprocess", "--since", "3h"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "2 files are processed again\n"));
    assert_eq!(place.once(&[]).code, 0);
    assert_eq!(place.published("old.zst"), b"old");
}

/// The record of the output before was found first.
#[test]
fn a_path_is_of_the_pipeline_that_is_configured() {
    let place = processed(&["a", "b"]);
    let other = place.root().join("other");
    let config = place.root().join("tidemill.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("output = \"out\"", "output = \"other\"")).unwrap();
    std::fs::remove_file(place.input().join("b")).unwrap();
    assert_eq!(place.once(&[]).code, 0);
    std::fs::remove_file(other.join("a.zst")).unwrap();
    place.put("b", "again");
    let text = explained(&place, "in/a");
    assert!(text.contains("other/a.zst, does not exist any more"), "{text}");
    let waits = place.run(&["reprocess", "in/b"]);
    assert!(waits.stdout.contains("was not processed yet"), "{waits:?}");
    assert_eq!(place.run(&["reprocess", "in/a"]).code, 0);
    assert_eq!(place.once(&[]).code, 0);
    assert!(other.join("a.zst").exists());
}
