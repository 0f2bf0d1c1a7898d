//! `reprocess`: what was processed is processed again, and `explain` says when that is useful.

use crate::files::{Place, tree, until};

fn explained(place: &Place, path: &str) -> String {
    let ended = place.run(&["explain", path]);
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.stdout
}

fn processed(names: &[&str]) -> Place {
    let place = Place::new();
    for name in names {
        place.put(name, name);
    }
    assert_eq!(place.once(&[]).code, 0);
    place
}

#[test]
fn an_output_that_was_lost_is_made_again() {
    let place = processed(&["a", "b"]);
    assert!(explained(&place, "in/a").contains("which is there, unchanged"));
    std::fs::remove_file(place.output().join("a.zst")).unwrap();
    assert!(explained(&place, "in/a").contains("which is not there any more"));
    assert_eq!(place.once(&[]).code, 0);
    assert!(!place.output().join("a.zst").exists(), "a consumer may have taken it");
    let asked = place.run(&["reprocess", "in/a"]);
    assert_eq!(asked.code, 0, "{asked:?}");
    assert!(asked.stdout.ends_with("/in/a: is processed again\n"), "{asked:?}");
    let ended = place.once(&[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("stopped exit_code=0 published=1"), "{ended:?}");
    assert_eq!(place.published("a.zst"), b"a");
}

#[test]
fn only_what_other_transforms_made_is_made_again() {
    let place = processed(&["a", "b"]);
    place.put("c", "c");
    let other = ["--transform", "zstd:19"];
    let ended = place.once(&other);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("\n2 done before with other transforms"), "{ended:?}");
    let told = explained(&place, "in/a");
    assert!(told.contains("the transforms are `zstd:19` now"), "{told}");
    let asked = place.run(&["reprocess", "--changed-transforms"]);
    assert_eq!((asked.code, asked.stdout.as_str()), (0, "2 files are processed again\n"));
    let ended = place.once(&other);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stderr.contains("with other transforms"), "{ended:?}");
    assert_eq!(place.published("a.zst"), b"a");
    let states = place.history("a").into_iter().map(|record| record["state"].clone());
    assert_eq!(states.collect::<Vec<_>>(), ["done", "requeued"]);
    assert_eq!(place.history("c").len(), 1);
}

#[test]
fn what_is_gone_or_was_never_processed_is_not_processed_again() {
    let place = processed(&["a", "b"]);
    std::fs::remove_file(place.input().join("a")).unwrap();
    let all = place.run(&["reprocess", "--all"]);
    let said = "1 files are processed again\n1 are not in the input any more\n";
    assert_eq!((all.code, all.stdout.as_str()), (0, said));
    for (path, why) in [("in/a", "is not in the input"), ("in/new", "was not processed yet")] {
        let asked = place.run(&["reprocess", path]);
        assert_ne!(asked.code, 0, "{asked:?}");
        assert!(asked.stdout.contains(why), "{asked:?}");
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
