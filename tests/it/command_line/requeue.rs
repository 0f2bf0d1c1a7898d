//! `requeue`: from the quarantine back to the intake, with and without a running service.

use crate::{
    files::{TestDir, tree, until},
    mounts::Mount,
};

const STRICT: [&str; 4] = ["--on-success", "delete", "--on-exists", "fail"];

/// Quarantines files because their outputs' names are taken, and frees the names.
fn quarantined(names: &[&str]) -> TestDir {
    let place = TestDir::new();
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
fn a_file_is_requeued_by_its_original_path_and_by_its_present_one() {
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
    assert_eq!((all.code, all.stdout.as_str()), (0, "2 files back to the intake\n"));
    assert!(tree(&place.quarantine()).is_empty());
    let again = place.run(&["requeue", "--all"]);
    assert_eq!((again.code, again.stdout.as_str()), (0, "nothing is in quarantine\n"));
}

#[test]
fn each_file_is_listed_where_that_is_asked_for() {
    let place = quarantined(&["one", "two"]);
    let all = place.run(&["requeue", "--all", "-v"]);
    assert_eq!(all.code, 0, "{all:?}");
    let lines: Vec<_> = all.stdout.lines().collect();
    let [one, other, sum] = lines.as_slice() else { panic!("{all:?}") };
    assert!(one.ends_with(": back to the intake") && other.ends_with(": back to the intake"));
    assert_eq!(*sum, "2 files back to the intake");
}

#[test]
fn a_running_service_takes_a_requeued_file_at_once() {
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
fn a_running_service_takes_a_requeued_file_that_stayed_in_its_place() {
    let place = TestDir::new();
    place.put("one", "one");
    std::fs::write(place.output().join("one.zst"), "theirs").unwrap();
    let running = place.watch(&[]);
    running.until_logged("quarantined");
    std::fs::remove_file(place.output().join("one.zst")).unwrap();
    let ran = place.run(&["requeue", "in/one"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    until("one", || place.output().join("one.zst").exists());
    assert_eq!(running.stop().code, 0);
    assert_eq!(place.published("one.zst"), b"one");
}

/// By then another source of that name was published, and removed by the service.
#[test]
fn a_requeued_file_whose_outputs_name_was_used_meanwhile_gets_an_output_of_its_own() {
    for (on_success, is_running) in [("delete", false), ("delete", true), ("archive:done", true)] {
        let place = quarantined(&["one"]);
        let args = ["--on-success", on_success];
        place.put("one", "the next delivery");
        assert_eq!(place.once(&args).code, 65, "the first one still is in quarantine");
        assert_eq!(place.published("one.zst"), b"the next delivery");
        let running = is_running.then(|| place.watch(&args));
        assert_eq!(place.run(&["requeue", "in/one"]).code, 0);
        let code = match running {
            None => place.once(&args).code,
            Some(running) => {
                let is_removed = || !place.input().join("one").exists();
                until("one", || is_removed() && tree(&place.output()).len() > 1);
                running.stop().code
            }
        };
        assert_eq!(code, 0, "{on_success}");
        assert_eq!(place.published("one.zst"), b"the next delivery", "{on_success}");
        assert_eq!(place.published("one.1.zst"), b"one", "{on_success}");
        assert_eq!(tree(&place.output()).len(), 2, "{:?}", tree(&place.output()));
        assert!(tree(&place.input()).is_empty());
        place.assert_clean();
    }
}

/// The disposal of a source fails, a consumer takes its output, and perhaps another source of its
/// name is published since: it was published and acknowledged a second time.
#[test]
fn a_requeued_file_whose_output_is_published_is_only_disposed_of() {
    for (on_success, is_running, is_followed, is_copied) in [
        ("delete", false, false, false),
        ("delete", true, false, false),
        ("delete", false, true, false),
        ("archive:done", true, true, false),
        ("delete", false, false, true),
        ("delete", true, false, true),
        ("delete", false, true, true),
        ("archive:done", true, true, true),
    ] {
        let place = TestDir::new();
        // The quarantine is below the output.
        let mount = is_copied.then(|| Mount::memory(&place.output(), "16m"));
        if mount.as_ref().is_some_and(Option::is_none) {
            return;
        }
        let args = ["--on-success", on_success, "--events", "events.jsonl"];
        let running = place.watch_with(&args, "dispose=2*return(eio)->off");
        place.put("one", "one");
        running.until_logged("event=file.quarantined");
        assert_eq!(running.stop().code, 0);
        assert_eq!(place.history("one")[0]["reason_code"], "disposal_failed");
        std::fs::remove_file(place.output().join("one.zst")).unwrap();
        if is_followed {
            place.put("one", "the next delivery");
            assert_eq!(place.once(&args).code, 65, "the first one still is in quarantine");
            std::fs::remove_file(place.output().join("one.zst")).unwrap();
        }
        let running = is_running.then(|| place.watch(&args));
        assert_eq!(place.run(&["requeue", "in/one"]).code, 0);
        let code = match running {
            None => place.once(&args).code,
            Some(running) => {
                until("one", || tree(&place.input()).is_empty());
                running.stop().code
            }
        };
        let case = format!("{on_success}, {is_running}, {is_followed}, {is_copied}");
        assert_eq!(code, 0, "{case}");
        assert!(tree(&place.input()).is_empty(), "{case}: {:?}", tree(&place.input()));
        assert!(tree(&place.output()).is_empty(), "{case}: {:?}", tree(&place.output()));
        let events = std::fs::read_to_string(place.root().join("events.jsonl")).unwrap();
        let published = events.lines().filter(|line| line.contains("\"published\"")).count();
        assert_eq!(published, 1 + usize::from(is_followed), "{case}: {events}");
        place.assert_clean();
    }
}

#[test]
fn a_file_that_is_not_in_quarantine_or_cannot_go_back_is_reported_and_not_lost() {
    let place = quarantined(&["one", "two"]);
    let other = place.run(&["requeue", "in/other"]);
    assert_eq!(other.code, 64, "{other:?}");
    assert!(other.stderr.contains("in/other is not in quarantine"), "{other:?}");
    place.put("one", "a new file of that name");
    let all = place.run(&["requeue", "--all"]);
    assert_eq!(all.code, 75, "{all:?}");
    assert!(all.stdout.contains("/in/one: cannot move it back from "), "{all:?}");
    assert!(all.stdout.ends_with("1 file back to the intake\n"), "{all:?}");
    assert!(all.stderr.contains("1 of 2 could not be put back"), "{all:?}");
    assert_eq!(std::fs::read(place.quarantine().join("one")).unwrap(), b"one");
    assert_eq!(std::fs::read(place.input().join("one")).unwrap(), b"a new file of that name");
}

/// It migrated the ledger under the older service, which could not use it any more.
#[test]
fn a_ledger_that_an_older_service_may_use_is_not_migrated() {
    let place = TestDir::new();
    place.put("a", "content");
    assert_eq!(place.once(&[]).code, 0);
    let older = rusqlite::Connection::open(place.state().join("ledger.sqlite")).unwrap();
    let sql = "ALTER TABLE records DROP COLUMN output_sum; PRAGMA user_version = 6";
    older.execute_batch(sql).unwrap();
    for command in ["requeue", "reprocess"] {
        let ended = place.run(&[command, "--all", "--config", "tidemill.toml"]);
        assert_ne!(ended.code, 0, "{command}: {ended:?}");
        assert!(ended.stderr.contains("an older Tidemill made it"), "{command}: {ended:?}");
        assert!(ended.stderr.contains("start the service once"), "{command}: {ended:?}");
    }
    let version = older.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0)).unwrap();
    assert_eq!(version, 6);
    drop(older);
    assert_eq!(place.once(&[]).code, 0, "the service migrates it");
    assert_eq!(place.run(&["reprocess", "--all", "--config", "tidemill.toml"]).code, 0);
}

/// The file that it left in quarantine was published again.
#[test]
fn a_requeue_that_is_killed_between_two_names_publishes_once() {
    let place = quarantined(&["one", "two"]);
    let killed = place
        .tidemill(&["requeue", "in/one"])
        .env("FAILPOINTS", "gate::no_replace=return(out);link::made=return(kill)")
        .output();
    assert_eq!(killed.unwrap().status.code(), None);
    assert!(place.quarantine().join("one").exists());
    assert_eq!(place.once(&STRICT).code, 65);
    assert_eq!(place.published("one.zst"), b"one");
    std::fs::remove_file(place.output().join("one.zst")).unwrap();
    let all = place.run(&["requeue", "--all"]);
    assert_eq!((all.code, all.stdout.as_str()), (0, "2 files back to the intake\n"));
    assert_eq!(tree(&place.input()), [place.input().join("two")]);
    assert!(tree(&place.quarantine()).is_empty(), "{:?}", tree(&place.quarantine()));
    assert_eq!(place.once(&STRICT).code, 0);
    assert_eq!(tree(&place.output()), [place.output().join("two.zst")]);
}

/// The file was back, and waited for a marker that the next request did not restore.
#[test]
fn a_requeue_that_is_killed_before_the_marker_is_finished_by_the_next_one() {
    let place = TestDir::new();
    place.configure("marker = \".ok\"\non_exists = \"fail\"\non_success = \"delete\"");
    place.put("a", "content");
    place.put("a.ok", "");
    std::fs::write(place.output().join("a.zst"), "theirs").unwrap();
    assert_eq!(place.once(&[]).code, 65);
    std::fs::remove_file(place.output().join("a.zst")).unwrap();
    // As it is after the first step.
    std::fs::rename(place.quarantine().join("a"), place.input().join("a")).unwrap();
    let requeued = place.run(&["requeue", "in/a"]);
    assert_eq!(requeued.code, 0, "{requeued:?}");
    assert_eq!(place.once(&[]).code, 0);
    assert_eq!(place.published("a.zst"), b"content");
    assert!(tree(&place.quarantine()).is_empty(), "{:?}", tree(&place.quarantine()));
}

/// All reported that the configuration was wrong.
#[test]
fn a_busy_ledger_is_to_be_tried_again_and_a_failed_one_is_failed_storage() {
    let place = quarantined(&["one", "two"]);
    let ledger = rusqlite::Connection::open(place.state().join("ledger.sqlite")).unwrap();
    ledger.execute_batch("BEGIN IMMEDIATE").unwrap();
    let busy = place.run(&["requeue", "--all"]);
    assert_eq!(busy.code, 75, "{busy:?}");
    drop(ledger);
    let since = place.run(&["reprocess", "--since", "then"]);
    assert_eq!(since.code, 64, "{since:?}");
    let waiting = place.run(&["reprocess", "in/two"]);
    assert_eq!(waiting.code, 75, "{waiting:?}");
    std::fs::write(place.state().join("ledger.sqlite"), vec![1; 8192]).unwrap();
    let failed = place.run(&["requeue", "--all"]);
    assert_eq!(failed.code, 74, "{failed:?}");
}
