//! What the service makes of a file system that is odd.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    files::{TestDir, tree, until},
    filesystems::odd::{self, Oddities},
};

#[test]
fn a_link_whose_answer_was_lost_is_known_by_its_inode() {
    for on_success in ["keep", "delete", "archive:archive"] {
        let place = TestDir::new();
        let odd = Oddities { no_flags: true, lost_answers: true, ..Oddities::default() };
        let Some(_mount) = odd::mount(&place.output(), odd) else { return };
        place.put("file", "content");
        place.put("sub/file", "more content");
        let ended = place.once(&["--on-success", on_success]);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(place.published("file.zst"), b"content");
        assert_eq!(place.published("sub/file.zst"), b"more content");
        assert_eq!(tree(&place.output()).len(), 2);
        assert!(ended.stderr.contains("renames by hard link"), "{ended:?}");
        place.assert_clean();
    }
}

#[test]
fn a_source_is_taken_removed_and_archived_although_answers_are_lost() {
    let place = TestDir::new();
    let odd = Oddities { no_flags: true, lost_answers: true, ..Oddities::default() };
    let work = place.root().join("work");
    std::fs::create_dir(&work).unwrap();
    let Some(_mount) = odd::mount(&work, odd) else { return };
    for dir in ["in", "archive"] {
        std::fs::create_dir(work.join(dir)).unwrap();
    }
    place.configure("");
    let text = std::fs::read_to_string(place.root().join("tidemill.toml")).unwrap();
    let text = text.replace("input = \"in\"", "input = \"work/in\"");
    std::fs::write(place.root().join("tidemill.toml"), text).unwrap();
    std::fs::write(work.join("in/file"), "content").unwrap();
    let ended = place.once(&["--on-success", "archive:work/archive"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(std::fs::read(work.join("archive/file")).unwrap(), b"content");
    assert_eq!(tree(&work.join("in")), Vec::<PathBuf>::new());
    assert_eq!(place.published("file.zst"), b"content");
    std::fs::write(work.join("in/another"), "content").unwrap();
    let ended = place.once(&["--on-success", "delete"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(tree(&work.join("in")), Vec::<PathBuf>::new());
    place.assert_clean();
}

#[test]
fn a_file_system_with_neither_is_refused_and_one_with_the_flag_needs_no_links() {
    let place = TestDir::new();
    let neither = Oddities { no_flags: true, no_links: true, ..Oddities::default() };
    place.put("file", "content");
    {
        let Some(_mount) = odd::mount(&place.output(), neither) else { return };
        let ended = place.once(&[]);
        assert_eq!(ended.code, 78, "{ended:?}");
        assert!(
            ended.stderr.contains("hint: choose another file system for the output"),
            "{ended:?}"
        );
    }
    let Some(_mount) =
        odd::mount(&place.output(), Oddities { no_links: true, ..Oddities::default() })
    else {
        return;
    };
    let ended = place.once(&[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("file.zst"), b"content");
    place.assert_clean();
}

#[test]
fn a_name_that_the_file_system_refuses_is_its_files_fault_and_no_other_waits_for_it() {
    let place = TestDir::new();
    let odd = Oddities { no_links: true, no_colons: true, ..Oddities::default() };
    let Some(_mount) = odd::mount(&place.output(), odd) else { return };
    place.put("a:b", "content");
    place.put("file", "content");
    let ended = place.once(&[]);
    assert_eq!(ended.code, 65, "{ended:?}");
    assert_eq!(place.published("file.zst"), b"content");
    assert_eq!(place.state_of("a:b"), "quarantined");
    assert!(place.reason_of("a:b").contains("Invalid argument"), "{}", place.reason_of("a:b"));
    place.assert_clean();
}

#[test]
fn a_share_that_forbids_attributes_is_reported_once_and_used() {
    let place = TestDir::new();
    let odd = Oddities { fixed_attributes: true, ..Oddities::default() };
    let Some(_mount) = odd::mount(&place.output(), odd) else { return };
    for number in 0..5 {
        place.put(format!("sub/file{number}"), "content");
    }
    let ended = place.once(&[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(tree(&place.output()).len(), 5);
    assert_eq!(ended.stderr.matches("keeps no modes").count(), 1, "{ended:?}");
    assert!(ended.stderr.contains("keeps no times"), "{ended:?}");
    place.assert_clean();
}

/// A clock that does not advance, at an even second that has just begun.
fn coarse() -> Oddities {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let clock = Some(UNIX_EPOCH + Duration::from_secs(now & !1));
    Oddities { clock, ..Oddities::default() }
}

#[test]
fn a_change_within_the_tick_of_a_coarse_clock_is_processed_before_its_source_goes() {
    let place = TestDir::new();
    let Some(_mount) = odd::mount(&place.input(), coarse()) else { return };
    let gate = place.root().join("gate");
    std::fs::write(&gate, "").unwrap();
    let failpoints = format!("dispose=1*return(while:{})", gate.display());
    let running = place.watch_with(&["--on-success", "delete"], &failpoints);
    place.put("file", "the first");
    until("the first output", || place.output().join("file.zst").exists());
    place.put("file", "as second");
    std::fs::remove_file(gate).unwrap();
    until("the source to be done", || tree(&place.input()).is_empty());
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("file.zst"), b"as second");
    place.assert_clean();
}

#[test]
fn a_file_that_a_coarse_clock_shows_unchanged_is_read_again_and_then_left() {
    let place = TestDir::new();
    let Some(_mount) = odd::mount(&place.input(), coarse()) else { return };
    place.put("file", "the first");
    assert_eq!(place.once(&[]).code, 0);
    place.put("file", "as second");
    let ended = place.once(&[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("file.zst"), b"as second");
    place.assert_clean();
}

/// FAT and SSHFS give a file another number once the kernel forgot it: its size, its times and its content decide.
#[test]
fn files_whose_inode_numbers_do_not_last_are_published_once_and_disposed_of() {
    let place = TestDir::new();
    let odd = Oddities { renumbers: true, ..Oddities::default() };
    let Some(_mount) = odd::mount(&place.input(), odd) else { return };
    for number in 0..20 {
        place.put(number.to_string(), format!("content {number}"));
    }
    for _ in 0..2 {
        let ended = place.once(&[]);
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    let ended = place.once(&["--on-exists", "suffix"]);
    assert!(ended.stderr.contains("20 skipped: nothing to do"), "{ended:?}");
    assert_eq!(tree(&place.output()).len(), 20, "once each");
    for on_success in ["archive:archive", "delete"] {
        place.put("more", on_success);
        let ended = place.once(&["--on-success", on_success, "--on-exists", "suffix"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(tree(&place.input()).is_empty(), "{:?}", tree(&place.input()));
    }
    assert_eq!(tree(&place.output()).len(), 22);
    place.assert_clean();
}
