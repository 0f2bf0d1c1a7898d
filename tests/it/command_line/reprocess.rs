//! `reprocess`: processed files are processed again, and `explain` reports when that is useful.

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
