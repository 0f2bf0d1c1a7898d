//! Names are given by links where no rename refuses to replace.

use std::path::PathBuf;

use tidemill::failpoint::{NAMES, RECOVERY_NAMES};

use crate::{
    files::{TestDir, tree, until},
    filesystems::NO_REPLACE,
    harness::Tree,
    mounts::Mount,
};

const DISPOSITIONS: [&str; 3] = ["keep", "delete", "archive"];
const KILLED: i32 = -9;
const LINKING: [&str; 3] = ["commit::unlink", "link::made", "link::durable"];

/// A directory below the place, seen through bindfs under its own name.
fn through_bindfs(place: &TestDir, name: &str) -> Option<Mount> {
    let back = place.root().join(format!("{name}-below"));
    std::fs::create_dir(&back).unwrap();
    Mount::bindfs(&back, &place.root().join(name))
}

#[test]
fn outputs_are_published_on_a_file_system_without_the_flag() {
    for on_success in ["keep", "delete", "archive:archive"] {
        let place = TestDir::new();
        let Some(_mount) = through_bindfs(&place, "out") else { return };
        for name in ["one", "two", "sub/three"] {
            place.put(name, name);
        }
        let ended = place.once(&["--on-success", on_success]);
        assert_eq!(ended.code, 0, "{on_success}: {ended:?}");
        for name in ["one", "two", "sub/three"] {
            assert_eq!(place.published(format!("{name}.zst")), name.as_bytes());
        }
        assert_eq!(tree(&place.output()).len(), 3);
        assert_eq!(tree(&place.input()).len(), if on_success == "keep" { 3 } else { 0 });
        place.assert_clean();
    }
}

#[test]
fn sources_are_removed_archived_and_quarantined_on_a_file_system_without_the_flag() {
    let place = TestDir::new();
    let Some(_mount) = through_bindfs(&place, "in") else { return };
    place.configure("transforms = \"unzstd\"\non_success = \"delete\"");
    place.put("damaged.zst", "no zstd");
    let ended = place.once(&[]);
    assert_eq!(ended.code, 65, "{ended:?}");
    assert_eq!(tree(&place.input()), Vec::<PathBuf>::new());
    let kept = std::fs::read(place.quarantine().join("damaged.zst")).unwrap();
    assert_eq!(kept, b"no zstd");
    for on_success in ["delete", "archive:archive"] {
        place.configure("");
        place.put("sub/file", "content");
        let ended = place.once(&["--on-success", on_success, "--on-exists", "replace"]);
        assert_eq!(tree(&place.input()), Vec::<PathBuf>::new(), "{on_success}: {ended:?}");
        assert_eq!(place.published("sub/file.zst"), b"content");
    }
    assert_eq!(std::fs::read(place.root().join("archive/sub/file")).unwrap(), b"content");
    place.assert_clean();
}

#[test]
fn a_quarantined_file_goes_back_to_an_input_without_the_flag() {
    let place = TestDir::new();
    let Some(_mount) = through_bindfs(&place, "in") else { return };
    place.configure("transforms = \"unzstd\"\non_success = \"delete\"");
    place.put("damaged.zst", "no zstd");
    assert_eq!(place.once(&[]).code, 65);
    let ended = place.run(&["requeue", "--all", "--state-dir", "state"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(std::fs::read(place.input().join("damaged.zst")).unwrap(), b"no zstd");
    assert!(!place.quarantine().join("damaged.zst").exists());
}

#[test]
fn a_name_that_is_taken_is_never_replaced_by_a_link() {
    let place = TestDir::new();
    let Some(_mount) = through_bindfs(&place, "out") else { return };
    std::fs::write(place.output().join("file.zst"), "theirs").unwrap();
    place.put("file", "content");
    let ended = place.once(&["--on-exists", "fail"]);
    assert_eq!(ended.code, 65, "{ended:?}");
    assert_eq!(std::fs::read(place.output().join("file.zst")).unwrap(), b"theirs");
    place.put("another", "content");
    std::fs::write(place.output().join("another.zst"), "theirs").unwrap();
    let ended = place.once(&["--on-exists", "suffix"]);
    assert_eq!(std::fs::read(place.output().join("another.zst")).unwrap(), b"theirs");
    assert_eq!(place.published("another.1.zst"), b"content", "{ended:?}");
    place.assert_clean();
}

#[test]
fn a_watching_service_publishes_and_replaces_its_own_output_by_links() {
    let place = TestDir::new();
    let Some(_mount) = through_bindfs(&place, "out") else { return };
    let running = place.watch(&[]);
    place.put("file", "first");
    until("the first output", || place.output().join("file.zst").exists());
    place.put("file", "the second content");
    // Not looked at before: bindfs may answer that a file is not there while it is replaced.
    until("the second output", || running.log().matches("msg=published ").count() == 2);
    assert_eq!(place.published("file.zst"), b"the second content");
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("renames by hard link"), "{ended:?}");
    place.assert_clean();
}

/// What is kept is not disposed of, what is archived is not unlinked, and only what is archived gets
/// another name by a link that does not wait for its batch.
fn is_not_met(name: &str, on_success: &str) -> bool {
    match on_success {
        "keep" => name.starts_with("dispose") || name.starts_with("link"),
        "archive" => name == "dispose::unlink",
        _ => name.starts_with("link"),
    }
}

/// Kills at an early, a middle and a late pass of a failpoint, then starts again.
fn killed_at(name: &str) {
    for on_success in DISPOSITIONS {
        for passes_before in [0, 7, 25] {
            let tree = Tree::with(30, 2).with_archived();
            let failpoints = format!("{NO_REPLACE};{name}={passes_before}*off->return(kill)");
            let code = tree.start_with(&failpoints, on_success, &["--once"]).wait();
            let may_miss = passes_before > 0 || is_not_met(name, on_success);
            let expected = code == KILLED || (may_miss && code == 0);
            assert!(expected, "{name} {on_success}: {code}\n{}", tree.log());
            tree.assert_nothing_lost(on_success);
            let code = tree.start_with(NO_REPLACE, on_success, &["--once"]).wait();
            assert_eq!(code, 0, "{name} {on_success}\n{}", tree.log());
            tree.assert_done(on_success);
        }
    }
}

#[test]
fn a_kill_between_a_link_and_its_unlink_loses_and_doubles_nothing() {
    for name in LINKING {
        killed_at(name);
    }
}

#[test]
fn a_kill_at_any_failpoint_of_commit_loses_and_doubles_nothing_with_links() {
    NAMES.iter().filter(|name| name.starts_with("commit")).for_each(|name| killed_at(name));
}

#[test]
fn a_kill_at_any_failpoint_of_dispose_loses_and_doubles_nothing_with_links() {
    NAMES.iter().filter(|name| name.starts_with("dispose")).for_each(|name| killed_at(name));
}

#[test]
fn recovery_publishes_by_links_and_may_end_between_the_two_names() {
    for on_success in DISPOSITIONS {
        for at in ["commit::intended", "commit::renamed"] {
            for name in RECOVERY_NAMES.into_iter().chain(["link::made", "link::durable"]) {
                let tree = Tree::with(10, 1).with_archived();
                let first = format!("{NO_REPLACE};{at}=return(kill)");
                let code = tree.start_with(&first, on_success, &["--once"]).wait();
                assert_eq!(code, KILLED, "{at}");
                let second = format!("{NO_REPLACE};{name}=return(kill)");
                tree.start_with(&second, on_success, &["--once"]).wait();
                tree.assert_nothing_lost(on_success);
                let code = tree.start_with(NO_REPLACE, on_success, &["--once"]).wait();
                assert_eq!(code, 0, "{at} {name} {on_success}\n{}", tree.log());
                tree.assert_done(on_success);
            }
        }
    }
}
