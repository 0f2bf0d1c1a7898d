//! The same name again: another delivery, the same source rewritten, another policy, another disk.

use std::{
    fs::{File, FileTimes},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    time::{Duration, SystemTime},
};

use crate::{
    files::{TestDir, tree, until},
    mounts::Mount,
    prove,
};

fn set_modified(path: &Path, time: SystemTime) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn assert_once(place: &TestDir, args: &[&str]) -> String {
    let ended = place.once(args);
    assert_eq!(ended.code, 0, "{ended:?}");
    place.assert_clean();
    ended.stderr
}

#[test]
fn a_name_that_comes_again_after_its_source_was_removed_keeps_both_outputs() {
    for on_success in ["delete", "archive:done"] {
        let place = TestDir::new();
        for day in ["day 1", "day 2", "day 3"] {
            place.put("app.log.1", day);
            assert_once(&place, &["--on-success", on_success]);
        }
        assert_eq!(place.published("app.log.1.zst"), b"day 1", "{on_success}");
        assert_eq!(place.published("app.log.1.1.zst"), b"day 2", "{on_success}");
        assert_eq!(place.published("app.log.1.2.zst"), b"day 3", "{on_success}");
        assert!(!place.input().join("app.log.1").exists());
    }
}

#[test]
fn a_policy_that_says_so_quarantines_or_replaces_a_name_that_comes_again() {
    for (policy, code, output) in [("fail", 65, "day 1"), ("replace", 0, "day 2")] {
        let place = TestDir::new();
        let args = ["--on-success", "delete", "--on-exists", policy];
        place.put("a", "day 1");
        assert_once(&place, &args);
        let first = place.history("a")[0]["output_hash"].clone();
        place.put("a", "day 2");
        let ended = place.once(&args);
        assert_eq!(ended.code, code, "{ended:?}");
        assert_eq!(place.published("a.zst"), output.as_bytes());
        if policy == "replace" {
            assert!(first.is_string());
            assert_eq!(place.history("a")[0]["replaced_hash"], first);
        }
    }
}

#[test]
fn a_kept_source_that_its_producer_replaces_is_an_update_and_one_that_was_rotated_away_is_not() {
    let place = TestDir::new();
    place.put("conf", "first");
    place.put("log.1", "day 1");
    assert_once(&place, &[]);
    place.put("conf.new", "second");
    std::fs::rename(place.input().join("conf.new"), place.input().join("conf")).unwrap();
    std::fs::rename(place.input().join("log.1"), place.input().join("log.2")).unwrap();
    place.put("log.1", "day 2");
    assert_once(&place, &[]);
    assert_eq!(place.published("conf.zst"), b"second");
    assert_eq!(place.published("log.1.zst"), b"day 1", "acknowledged, and no other source's");
    assert_eq!(place.published("log.1.1.zst"), b"day 2");
    assert_eq!(place.published("log.2.zst"), b"day 1");
    // Its own output is updated under the name that it got.
    place.put("log.1", "day 2, and more");
    assert_once(&place, &[]);
    assert_eq!(place.published("log.1.1.zst"), b"day 2, and more");
    assert_eq!(tree(&place.output()).len(), 4, "{:?}", tree(&place.output()));
}

/// It got the name that had become free, and the output under its own stayed as it was for good.
#[test]
fn a_numbered_output_is_updated_under_its_name_after_the_other_one_was_taken() {
    let place = TestDir::new();
    place.put("log.1", "day 1");
    assert_once(&place, &[]);
    std::fs::rename(place.input().join("log.1"), place.input().join("log.2")).unwrap();
    place.put("log.1", "day 2");
    assert_once(&place, &[]);
    assert_eq!(place.published("log.1.1.zst"), b"day 2");
    std::fs::remove_file(place.output().join("log.1.zst")).unwrap();
    place.put("log.1", "day 2, and more");
    assert_once(&place, &[]);
    assert_eq!(place.published("log.1.1.zst"), b"day 2, and more");
    assert!(!place.output().join("log.1.zst").exists(), "{:?}", tree(&place.output()));
    // Without it the free name is as good.
    std::fs::remove_file(place.output().join("log.1.1.zst")).unwrap();
    place.put("log.1", "day 2, at its end");
    assert_once(&place, &[]);
    assert_eq!(place.published("log.1.zst"), b"day 2, at its end");
}

/// The mark of the first version waits for the ledger; the second one was skipped until the next scan.
#[test]
fn a_new_version_waits_for_the_mark_of_the_one_before_it() {
    let place = TestDir::new();
    let running = place.watch_with(&[], "commit::mark=2*return(enospc)");
    place.put("a", "first");
    running.until_logged("event=ledger.unavailable");
    place.put("a", "second");
    until("the second version", || {
        place.output().join("a.zst").exists() && place.published("a.zst") == b"second"
    });
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stderr.contains("event=file.deferred"), "{ended:?}");
    assert_eq!(place.history("a").len(), 2);
}

/// The acknowledged output of the first was replaced.
#[test]
fn a_file_that_got_the_inode_of_the_one_before_it_is_another_source() {
    let place = TestDir::new();
    let gate = place.root().join("gate");
    std::fs::write(&gate, "").unwrap();
    let gated = format!("commit::acknowledged=return(while:{})", gate.display());
    let running = place.watch_with(&["--on-success", "delete"], &gated);
    let path = place.put("a", "one");
    let inode =
        |path: &std::path::Path| std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap());
    let first = inode(&path);
    let output = place.output().join("a.zst");
    until("the output", || output.exists());
    // As a journaled ext4 does at once.
    let is_reused = (0..1000).any(|_| {
        std::fs::remove_file(&path).unwrap();
        place.put("a", "the other");
        inode(&path) == first
    });
    std::fs::remove_file(&gate).unwrap();
    until("the second", || place.output().join("a.1.zst").exists() || !path.exists());
    drop(running.stop());
    if !is_reused {
        return prove::skipped(
            "a reused inode",
            "the file system gave no file the inode of another",
        );
    }
    assert_eq!(place.published("a.zst"), b"one");
    assert_eq!(place.published("a.1.zst"), b"the other");
}

#[test]
fn a_file_under_the_name_of_a_kept_source_that_was_gone_for_a_while_is_another_source() {
    let place = TestDir::new();
    let running = place.watch(&[]);
    let is_there = |name: &str| place.output().join(name).exists();
    place.put("report", "day 1");
    place.put("d/moved", "day 1");
    place.put("conf", "first");
    until("three outputs", || ["report.zst", "d/moved.zst", "conf.zst"].into_iter().all(is_there));
    until("their marks", || {
        ["report", "d/moved", "conf"].into_iter().all(|source| place.state_of(source) == "done")
    });
    std::fs::remove_file(place.input().join("report")).unwrap();
    std::fs::create_dir(place.input().join("e")).unwrap();
    std::fs::rename(place.input().join("d/moved"), place.input().join("e/moved")).unwrap();
    // As an editor saves: the name is free for an instant.
    std::fs::remove_file(place.input().join("conf")).unwrap();
    place.put("conf", "second");
    until("both absences", || {
        ["report", "d/moved"].into_iter().all(|source| place.state_of(source) == "changed")
    });
    place.put("report", "day 2");
    place.put("d/moved", "day 2");
    until("the new outputs", || is_there("report.1.zst") && is_there("d/moved.1.zst"));
    until("the update", || place.published("conf.zst") == b"second");
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    for name in ["report", "d/moved"] {
        assert_eq!(place.published(format!("{name}.zst")), b"day 1");
        assert_eq!(place.published(format!("{name}.1.zst")), b"day 2");
    }
    assert!(!is_there("conf.1.zst"));
}

#[test]
fn the_same_content_delivered_again_is_delivered_again() {
    let place = TestDir::new();
    let running = place.watch(&["--on-success", "delete"]);
    for delivery in 0..3 {
        let new = place.root().join("new");
        std::fs::write(&new, "order").unwrap();
        set_modified(&new, long_ago());
        std::fs::rename(&new, place.input().join("order")).unwrap();
        let output = place.output().join("order.zst");
        until(format!("delivery {delivery}"), || {
            output.exists() && !place.input().join("order").exists()
        });
        // A consumer takes it.
        std::fs::remove_file(&output).unwrap();
    }
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
}

fn inode(path: &Path) -> i64 {
    std::fs::metadata(path).unwrap().ino().try_into().unwrap()
}

/// Makes the ledger's one record one of an earlier boot, and of the inode of this file.
fn reboot(place: &TestDir, path: &Path) {
    let ledger = rusqlite::Connection::open(place.state().join("ledger.sqlite")).unwrap();
    ledger.execute("UPDATE meta SET value = 'another' WHERE name = 'boot'", []).unwrap();
    assert_eq!(ledger.execute("UPDATE records SET inode = ?1", [inode(path)]).unwrap(), 1);
}

/// Only a power loss brings a removed source back, and that was created before its record was made.
#[test]
fn a_delivery_after_a_reboot_is_published_and_a_restored_source_is_not() {
    for is_restored in [true, false] {
        let place = TestDir::new();
        let (path, aside) = (place.put("order", "order"), place.root().join("aside"));
        if is_restored {
            std::fs::hard_link(&path, &aside).unwrap();
        }
        set_modified(&path, long_ago());
        assert_once(&place, &["--on-success", "delete"]);
        let output = place.output().join("order.zst");
        std::fs::remove_file(&output).expect("a consumer takes it");
        if !is_restored {
            std::fs::write(&aside, "order").unwrap();
            set_modified(&aside, long_ago());
        }
        std::fs::rename(&aside, &path).unwrap();
        reboot(&place, &path);
        assert_once(&place, &["--on-success", "delete"]);
        assert!(!path.exists(), "restored: {is_restored}");
        assert_eq!(output.exists(), !is_restored, "restored: {is_restored}");
    }
}

/// It looked like an earlier state of the source that had its inode, and went to quarantine.
#[test]
fn a_delivery_after_the_clock_was_set_back_is_published() {
    let place = TestDir::new();
    place.put("order", "order");
    assert_once(&place, &["--on-success", "delete"]);
    let path = place.put("order", "another order");
    let ledger = rusqlite::Connection::open(place.state().join("ledger.sqlite")).unwrap();
    let read = "UPDATE records SET inode = ?1, ctime_ns = ctime_ns + 3600000000000";
    assert_eq!(ledger.execute(read, [inode(&path)]).unwrap(), 1);
    drop(ledger);
    assert_once(&place, &["--on-success", "delete"]);
    assert_eq!(place.published("order.1.zst"), b"another order");
    assert!(!path.exists());
}

#[test]
fn a_source_that_is_rewritten_with_its_old_time_is_published_before_it_is_removed() {
    let place = TestDir::new();
    let path = place.put("rec", "version-1");
    set_modified(&path, long_ago());
    let args = ["run", "--config", "tidemill.toml", "--once", "--on-success", "delete"];
    let killed = place.tidemill(&args).env("FAILPOINTS", "commit::marked=return(kill)").output();
    assert!(!killed.unwrap().status.success());
    let mut file = File::options().write(true).open(&path).unwrap();
    file.write_all(b"version-2").unwrap();
    drop(file);
    set_modified(&path, long_ago());
    assert_once(&place, &["--on-success", "delete"]);
    let outputs = tree(&place.output());
    let contents: Vec<_> =
        outputs.iter().map(|path| place.published(path.file_name().unwrap())).collect();
    assert!(contents.contains(&b"version-2".to_vec()), "{outputs:?}");
    assert!(contents.contains(&b"version-1".to_vec()), "acknowledged: {outputs:?}");
    assert!(tree(&place.input()).is_empty());
}

#[test]
fn what_a_writer_adds_before_the_disposal_is_published_too() {
    for (on_success, gone) in [("delete", ""), ("archive:done", "done/file")] {
        let place = TestDir::new();
        let gate = place.gate("commit::acknowledged");
        let running = place.watch_with(&["--on-success", on_success], &gate);
        let path = place.put("file", "first");
        until("the output", || place.output().join("file.zst").exists());
        let mut writer = File::options().append(true).open(&path).unwrap();
        place.open_gate();
        running.until_logged("source open for writing, disposal postponed");
        writer.write_all(b" and second").unwrap();
        drop(writer);
        until("the disposal", || !path.exists());
        let ended = running.stop();
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(place.published("file.zst"), b"first and second", "{on_success}");
        if !gone.is_empty() {
            let archived = std::fs::read(place.root().join(gone)).unwrap();
            assert_eq!(archived, b"first and second");
        }
        place.assert_clean();
    }
}

#[test]
fn from_keep_to_delete_or_archive_the_sources_go_and_nothing_counts_as_published() {
    for on_success in ["delete", "archive:done"] {
        let place = TestDir::new();
        place.put("a", "content");
        assert_once(&place, &[]);
        std::fs::remove_file(place.output().join("a.zst")).unwrap();
        let log = assert_once(&place, &["--on-success", on_success]);
        assert!(tree(&place.input()).is_empty(), "{on_success}");
        assert!(log.contains("stopped exit_code=0 published=0"), "{log}");
        assert!(!place.output().join("a.zst").exists(), "it was acknowledged, and taken");
        // What comes under the name now is another source.
        place.put("a", "other");
        assert_once(&place, &[]);
        assert_eq!(place.published("a.zst"), b"other");
    }
}

#[test]
fn mode_and_time_that_change_after_the_close_follow_to_the_output() {
    let place = TestDir::new();
    let path = place.put("secret", "content");
    let of = |path: &Path| {
        let found = std::fs::metadata(path).unwrap();
        (found.permissions().mode() & 0o777, found.modified().unwrap())
    };
    assert_once(&place, &[]);
    let output = place.output().join("secret.zst");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let log = assert_once(&place, &[]);
    assert_eq!(of(&output), of(&path));
    assert!(log.contains("stopped exit_code=0 published=0"), "{log}");
    set_modified(&path, long_ago());
    assert_once(&place, &[]);
    assert_eq!(of(&output), (0o600, long_ago()));
    // It is still what was published, so that it is replaced when the source changes.
    place.put("secret", "changed");
    assert_once(&place, &[]);
    assert_eq!(place.published("secret.zst"), b"changed");
}

#[test]
fn an_owner_that_changes_after_the_close_follows_to_the_output() {
    if !rustix::process::geteuid().is_root() {
        return prove::skipped("an owner that changes", "this is not root");
    }
    let place = TestDir::new();
    let path = place.put("file", "content");
    assert_once(&place, &[]);
    chown(&path, Some(7), Some(8)).unwrap();
    assert_once(&place, &[]);
    let found = std::fs::metadata(place.output().join("file.zst")).unwrap();
    assert_eq!((found.uid(), found.gid()), (7, 8));
}

#[test]
fn the_output_of_another_program_keeps_its_mode() {
    let place = TestDir::new();
    let path = place.put("a", "content");
    assert_once(&place, &[]);
    let output = place.output().join("a.zst");
    std::fs::write(&output, "edited").unwrap();
    let before = std::fs::metadata(&output).unwrap().permissions().mode();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_once(&place, &[]);
    assert_eq!(std::fs::metadata(&output).unwrap().permissions().mode(), before);
    assert_eq!(std::fs::read(&output).unwrap(), b"edited");
}

#[test]
fn data_that_was_moved_to_another_disk_is_known_by_its_content() {
    // The second disk has whole seconds.
    for reduced in [Duration::ZERO, Duration::from_nanos(123_456_789)] {
        let place = TestDir::new();
        for name in ["a", "b"] {
            set_modified(&place.put(name, name), long_ago() + reduced);
        }
        assert_once(&place, &[]);
        for (dir, name) in [("in", "a"), ("in", "b"), ("out", "b.zst")] {
            let path = place.root().join(dir).join(name);
            let mut content = Vec::new();
            File::open(&path).unwrap().read_to_end(&mut content).unwrap();
            let copy = place.root().join("copy");
            std::fs::write(&copy, content).unwrap();
            set_modified(&copy, long_ago());
            std::fs::rename(copy, path).unwrap();
        }
        // A consumer took one before.
        std::fs::remove_file(place.output().join("a.zst")).unwrap();
        let log = assert_once(&place, &[]);
        assert!(log.contains("stopped exit_code=0 published=0"), "{log}");
        assert!(!place.output().join("a.zst").exists(), "{reduced:?}");
        // The outputs are ours still.
        let mut file = File::options().write(true).open(place.input().join("b")).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(b"c").unwrap();
        drop(file);
        assert_once(&place, &[]);
        assert_eq!(place.published("b.zst"), b"c");
    }
}

#[test]
fn a_marker_goes_with_its_source_and_the_next_file_waits_for_one_of_its_own() {
    for on_success in ["delete", "archive:done"] {
        let place = TestDir::new();
        place.configure("marker = \".ok\"");
        place.put("a.csv", "whole");
        place.put("a.csv.ok", "");
        assert_once(&place, &["--on-success", on_success]);
        assert!(tree(&place.input()).is_empty(), "{:?}", tree(&place.input()));
        let archived = place.root().join("done/a.csv.ok").exists();
        assert_eq!(archived, on_success != "delete");
        place.put("a.csv", "half");
        assert_once(&place, &["--on-success", on_success]);
        assert_eq!(place.published("a.csv.zst"), b"whole");
        assert_eq!(tree(&place.input()), [place.input().join("a.csv")]);
    }
}

/// Recovery took the new delivery's marker for the old one's, and the delivery waited indefinitely.
#[test]
fn the_marker_of_a_new_delivery_stays_when_the_old_source_goes() {
    let place = TestDir::new();
    place.configure("marker = \".ok\"");
    place.put("a.csv", "first");
    place.put("a.csv.ok", "");
    let args = ["run", "--config", "tidemill.toml", "--once", "--on-success", "delete"];
    let killed = place.tidemill(&args).env("FAILPOINTS", "dispose::taken=return(kill)").output();
    assert!(!killed.unwrap().status.success());
    place.put("a.csv", "second");
    place.put("a.csv.ok", "");
    assert_once(&place, &["--on-success", "delete"]);
    assert_eq!(place.published("a.csv.1.zst"), b"second");
    assert!(tree(&place.input()).is_empty(), "{:?}", tree(&place.input()));
}

#[test]
fn a_kill_between_marker_and_source_leaves_neither() {
    let place = TestDir::new();
    place.configure("marker = \".ok\"");
    for point in ["commit::marked=return(kill)", "dispose::unlink=return(kill)"] {
        place.put("a.csv", "whole");
        place.put("a.csv.ok", "");
        let args = ["run", "--config", "tidemill.toml", "--once", "--on-success", "delete"];
        let killed = place.tidemill(&args).env("FAILPOINTS", point).output().unwrap();
        assert!(!killed.status.success(), "{point}");
        assert_once(&place, &["--on-success", "delete"]);
        assert!(tree(&place.input()).is_empty(), "{point}: {:?}", tree(&place.input()));
    }
}

/// It stayed, and the next file of that name was taken while it was still written.
#[test]
fn a_marker_goes_to_quarantine_with_its_source() {
    let place = TestDir::new();
    place.configure("marker = \".ok\"\ntransforms = \"decompress\"\non_success = \"delete\"");
    place.put("a.zst", "no zstd");
    place.put("a.zst.ok", "");
    let ended = place.once(&[]);
    assert_eq!(ended.code, 65, "{ended:?}");
    assert_eq!(tree(&place.input()), Vec::<std::path::PathBuf>::new(), "{ended:?}");
    assert!(place.quarantine().join("a.zst").exists(), "{ended:?}");
    assert!(place.quarantine().join("a.zst.ok").exists(), "{ended:?}");
    place.assert_clean();
}

/// The numbers are searched in few looks, which may skip a gap: recovery must find the copy there.
#[test]
fn a_move_to_another_file_system_that_was_killed_is_finished_behind_a_gap_of_the_numbers() {
    let place = TestDir::new();
    let archive = place.root().join("elsewhere");
    std::fs::create_dir(&archive).unwrap();
    let Some(_mount) = Mount::memory(&archive, "1m") else { return };
    place.put("a", "content");
    for name in ["a", "a.1", "a.2", "a.4"] {
        std::fs::write(archive.join(name), "another").unwrap();
    }
    let policy = format!("archive:{}", archive.display());
    let args = ["run", "--config", "tidemill.toml", "--once", "--on-success", &policy];
    let killed = place.tidemill(&args).env("FAILPOINTS", "move::named=return(kill)").output();
    assert_eq!(killed.unwrap().status.code(), None);
    let ended = place.once(&["--on-success", &policy]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let files = tree(&archive);
    let copies =
        files.iter().filter(|path| std::fs::read(archive.join(path)).unwrap() == b"content");
    assert_eq!(copies.count(), 1, "{files:?}");
    assert_eq!(files.len(), 5, "{files:?}");
    assert!(!place.input().join("a").exists());
}

/// The file came back alone, and waited for a marker indefinitely.
#[test]
fn a_marker_comes_back_from_quarantine_with_its_source() {
    for is_kept in [true, false] {
        let place = TestDir::new();
        place.configure("marker = \".ok\"\non_exists = \"fail\"\non_success = \"delete\"");
        place.put("a", "damaged");
        place.put("a.ok", "made by the producer");
        std::fs::write(place.output().join("a.zst"), "theirs").unwrap();
        assert_eq!(place.once(&[]).code, 65);
        let (kept, marker) = (place.quarantine().join("a"), place.input().join("a.ok"));
        // The operator repairs it, so it is newer than its marker.
        std::fs::write(&kept, "whole").unwrap();
        std::fs::remove_file(place.output().join("a.zst")).unwrap();
        if !is_kept {
            std::fs::remove_file(place.quarantine().join("a.ok")).unwrap();
        }
        let requeued = place.run(&["requeue", "in/a"]);
        assert_eq!(requeued.code, 0, "{requeued:?}");
        let wanted = if is_kept { "made by the producer" } else { "" };
        assert_eq!(std::fs::read_to_string(&marker).unwrap(), wanted);
        assert_once(&place, &[]);
        assert_eq!(place.published("a.zst"), b"whole");
        assert!(tree(&place.input()).is_empty(), "{:?}", tree(&place.input()));
        assert!(tree(&place.quarantine()).is_empty(), "{:?}", tree(&place.quarantine()));
    }
}

/// Its disposal waited for a marker that was removed already.
#[test]
fn a_marker_is_back_with_a_source_that_cannot_be_disposed_of() {
    for on_success in ["delete", "archive:done"] {
        for point in ["dispose::taken", "dispose::unlink", "link::made"] {
            let place = TestDir::new();
            place.configure("marker = \".ok\"");
            place.put("a", "whole");
            place.put("a.ok", "");
            let failpoints = format!("gate::no_replace=return(out);{point}=1*return(eio)->off");
            let running = place.watch_with(&["--on-success", on_success], &failpoints);
            until("the disposal", || tree(&place.input()).is_empty());
            let ended = running.stop();
            assert_eq!(ended.code, 0, "{point}: {ended:?}");
            if on_success != "delete" {
                let done = place.root().join("done");
                assert_eq!(tree(&done), ["a", "a.ok"].map(|name| done.join(name)), "{point}");
            }
        }
    }
}

/// The private name was archived, and then the other one.
#[test]
fn a_source_that_was_put_back_between_two_names_is_archived_once() {
    let place = TestDir::new();
    place.put("a", "content");
    let failpoints =
        "gate::no_replace=return(out);dispose::taken=return(eio);link::made=1*off->return(kill)";
    let archive = ["--on-success", "archive:done"];
    place.configure("on_success = \"archive:done\"");
    let killed = place
        .tidemill(&["run", "--config", "tidemill.toml", "--once"])
        .env("FAILPOINTS", failpoints)
        .output();
    assert_eq!(killed.unwrap().status.code(), None);
    assert_eq!(tree(&place.input()).len(), 2, "{:?}", tree(&place.input()));
    let ended = place.once(&archive);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(tree(&place.root().join("done")), [place.root().join("done/a")]);
    assert!(tree(&place.input()).is_empty(), "{:?}", tree(&place.input()));
}

/// It came back without its marker, and was left alone for good.
#[test]
fn a_marker_comes_back_with_a_source_that_was_put_back_between_two_names() {
    let place = TestDir::new();
    place.configure("marker = \".ok\"\non_success = \"delete\"");
    place.put("a", "content");
    place.put("a.ok", "");
    let failpoints =
        "gate::no_replace=return(out);dispose::unlink=return(eio);link::made=return(kill)";
    let killed = place
        .tidemill(&["run", "--config", "tidemill.toml", "--once"])
        .env("FAILPOINTS", failpoints)
        .output();
    assert_eq!(killed.unwrap().status.code(), None);
    assert!(place.input().join("a").exists() && !place.input().join("a.ok").exists());
    assert_once(&place, &[]);
    assert_eq!(place.published("a.zst"), b"content");
    assert!(tree(&place.input()).is_empty(), "{:?}", tree(&place.input()));
}

/// The ledger is on another disk than the data, and that disk was lost. Only an output of another content
/// is a conflict.
#[test]
fn a_new_ledger_takes_over_the_outputs_that_are_there() {
    for on_success in ["keep", "delete"] {
        let place = TestDir::new();
        place.put("a", "content");
        place.put("b", "content of b");
        assert_once(&place, &[]);
        let before = std::fs::read(place.output().join("a.zst")).unwrap();
        std::fs::remove_dir_all(place.state()).unwrap();
        std::fs::write(place.output().join("b.zst"), "another program's").unwrap();
        let ended = place.once(&["--on-success", on_success]);
        assert_eq!(ended.code, 65, "{ended:?}");
        assert_eq!(std::fs::read(place.output().join("a.zst")).unwrap(), before);
        assert_eq!(place.history("a").len(), 1, "{on_success}");
        assert!(ended.stderr.contains("1 file published"), "{ended:?}");
        assert!(ended.stderr.contains("reason_code=name_taken"), "{ended:?}");
        assert_eq!(place.input().join("a").exists(), on_success == "keep");
        assert_eq!(std::fs::read(place.output().join("b.zst")).unwrap(), b"another program's");
    }
}

/// The compressed copy of a file that is there, too: one of them is not published, whichever comes first.
#[test]
fn the_same_output_of_two_sources_is_not_taken_over() {
    let place = TestDir::new();
    let args = ["--transform", "decompress:or-copy"];
    place.put("report.csv", "a line\n");
    assert_once(&place, &args);
    let packed = std::process::Command::new("gzip")
        .arg("-k")
        .arg(place.input().join("report.csv"))
        .status()
        .unwrap();
    assert!(packed.success());
    let ended = place.once(&args);
    assert_eq!(ended.code, 65, "{ended:?}");
    assert_eq!(place.state_of("report.csv.gz"), "quarantined");
    place.put("report.csv", "another line\n");
    let ended = place.once(&args);
    assert_eq!(ended.code, 65, "{ended:?}");
    let output = std::fs::read(place.output().join("report.csv")).unwrap();
    assert_eq!(output, b"another line\n");
}
