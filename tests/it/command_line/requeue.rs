//! `requeue`: quarantine back to the intake, with and without a service that runs.

use crate::files::{Place, tree, until};

const STRICT: [&str; 4] = ["--on-success", "delete", "--on-exists", "fail"];

/// Files in quarantine because their outputs' names were taken, and are free now.
fn quarantined(names: &[&str]) -> Place {
    let place = Place::new();
    for name in names {
        place.put(name, name);
        std::fs::write(place.output().join(format!("{name}.zst")), "theirs").unwrap();
    }
    assert_eq!(place.once(&STRICT).code, 65);
    assert!(tree(&place.input()).is_empty());
    for name in names {
        assert!(
            place.reason_of(name).contains("the policy is `fail`"),
            "{}",
            place.reason_of(name)
        );
    }
    for path in tree(&place.output()) {
        std::fs::remove_file(path).unwrap();
    }
    place
}

#[test]
fn a_file_is_requeued_by_where_it_was_and_by_where_it_is() {
    let place = quarantined(&["one", "two", "three"]);
    let by_source = place.run(&["requeue", "in/one"]);
    assert_eq!(by_source.code, 0, "{by_source:?}");
    assert!(by_source.stdout.ends_with("/in/one: back to the intake\n"), "{by_source:?}");
    let by_place = place.run(&["requeue", "state/quarantine/main/two"]);
    assert_eq!(by_place.code, 0, "{by_place:?}");
    assert_eq!(tree(&place.input()), [place.input().join("one"), place.input().join("two")]);
    let kept = place.quarantine();
    assert_eq!(tree(&kept), [kept.join("three"), kept.join("three.json")]);
    assert_eq!(place.once(&STRICT).code, 65, "the third one still is in quarantine");
    assert_eq!(place.published("one.zst"), b"one");
    assert_eq!(place.published("two.zst"), b"two");
    let states = place.history("one").into_iter().map(|record| record["state"].clone());
    assert_eq!(states.collect::<Vec<_>>(), ["done", "requeued"]);
}

#[test]
fn everything_is_requeued_at_once() {
    let place = quarantined(&["one", "two"]);
    let all = place.run(&["requeue", "--all"]);
    assert_eq!(all.code, 0, "{all:?}");
    assert_eq!(all.stdout.lines().count(), 2, "{all:?}");
    assert!(tree(&place.quarantine()).is_empty());
    let again = place.run(&["requeue", "--all"]);
    assert_eq!((again.code, again.stdout.as_str()), (0, "nothing is in quarantine\n"));
}

#[test]
fn a_service_that_runs_takes_a_requeued_file_at_once() {
    let place = quarantined(&["one", "two"]);
    let running = place.watch(&STRICT);
    assert_eq!(place.run(&["requeue", "in/one"]).code, 0);
    until("one", || place.output().join("one.zst").exists());
    assert_eq!(place.run(&["requeue", "--all"]).code, 0);
    until("two", || place.output().join("two.zst").exists());
    assert_eq!(running.stop().code, 0);
    place.assert_clean();
}

#[test]
fn a_file_kept_in_its_place_is_taken_again_by_a_service_that_runs() {
    let place = Place::new();
    place.put("one", "one");
    std::fs::write(place.output().join("one.zst"), "theirs").unwrap();
    let running = place.watch(&[]);
    running.until_said("quarantined");
    std::fs::remove_file(place.output().join("one.zst")).unwrap();
    let told = place.run(&["requeue", "in/one"]);
    assert_eq!(told.code, 0, "{told:?}");
    until("one", || place.output().join("one.zst").exists());
    assert_eq!(running.stop().code, 0);
    assert_eq!(place.published("one.zst"), b"one");
}

#[test]
fn what_is_not_in_quarantine_or_cannot_go_back_is_told_and_nothing_is_lost() {
    let place = quarantined(&["one", "two"]);
    let stranger = place.run(&["requeue", "in/stranger"]);
    assert_eq!(stranger.code, 78, "{stranger:?}");
    assert!(stranger.stderr.contains("in/stranger is not in quarantine"), "{stranger:?}");
    place.put("one", "a new file of that name");
    let all = place.run(&["requeue", "--all"]);
    assert_eq!(all.code, 78, "{all:?}");
    assert!(all.stdout.contains("/in/one: cannot move it back from "), "{all:?}");
    assert!(all.stdout.contains("/in/two: back to the intake"), "{all:?}");
    assert!(all.stderr.contains("1 of 2 could not be put back"), "{all:?}");
    assert_eq!(std::fs::read(place.quarantine().join("one")).unwrap(), b"one");
    assert_eq!(std::fs::read(place.input().join("one")).unwrap(), b"a new file of that name");
}
