//! What is no regular file, and files with two names.

use std::os::unix::{fs::symlink, net::UnixListener};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::{
    bad_input::is_root,
    files::{Ended, TestDir, tree},
    prove,
};

/// Puts a good file next to the odd one and processes what is there: only the good one is taken.
fn only_the_good_one_is_taken(place: &TestDir, odd: &str, kind: &str) {
    place.put("good", "good");
    let before = tree(&place.input());
    let Ended { code, stderr, .. } = place.once(&["--on-success", "keep"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(tree(&place.output()), [place.output().join("good.zst")]);
    assert_eq!(tree(&place.input()), before);
    let explained = place.run(&["explain", &format!("in/{odd}")]);
    let wanted = format!("is ignored: it is {kind}, not a regular file");
    assert!(explained.stdout.contains(&wanted), "{explained:?}");
    place.assert_clean();
}

#[test]
fn a_fifo_is_ignore_reason_and_blocks_nothing() {
    let place = TestDir::new();
    mknodat(CWD, place.input().join("odd"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    only_the_good_one_is_taken(&place, "odd", "a FIFO");
}

#[test]
fn a_socket_is_ignore_reason() {
    let place = TestDir::new();
    let _listener = UnixListener::bind(place.input().join("odd")).unwrap();
    only_the_good_one_is_taken(&place, "odd", "a socket");
}

#[test]
fn a_device_is_ignore_reason() {
    if !is_root() {
        return prove::skipped("bad input", "only root makes device nodes");
    }
    let place = TestDir::new();
    let odd = place.input().join("odd");
    // The null device; some containers forbid even root to make it.
    match mknodat(CWD, odd, FileType::CharacterDevice, Mode::RUSR, makedev(1, 3)) {
        Ok(()) => only_the_good_one_is_taken(&place, "odd", "a device"),
        Err(error) => {
            prove::skipped("bad input", &format!("no device node can be made here: {error}"));
        }
    }
}

#[test]
fn a_symbolic_link_is_ignore_reason_wherever_it_points() {
    let place = TestDir::new();
    let outside = place.root().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    for (name, target) in [
        ("to_file", "good".into()),
        ("to_directory", outside.clone()),
        ("to_outside", outside.join("secret")),
        ("to_nothing", "nowhere".into()),
        ("to_itself", "to_itself".into()),
    ] {
        symlink(target, place.input().join(name)).unwrap();
    }
    for name in ["to_file", "to_directory", "to_outside", "to_nothing", "to_itself"] {
        only_the_good_one_is_taken(&place, name, "a symbolic link");
    }
}

#[test]
fn a_file_with_two_names_is_published_under_both_and_each_name_is_disposed_of() {
    let place = TestDir::new();
    place.put("one", "content");
    std::fs::hard_link(place.input().join("one"), place.input().join("two")).unwrap();
    let ended = place.once(&["--on-success", "delete"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("one.zst"), b"content");
    assert_eq!(place.published("two.zst"), b"content");
    assert!(tree(&place.input()).is_empty());
    place.assert_clean();
}

#[test]
fn a_file_whose_other_name_is_outside_is_published_and_the_other_name_stays() {
    let place = TestDir::new();
    let outside = place.root().join("outside");
    std::fs::write(&outside, "content").unwrap();
    std::fs::hard_link(&outside, place.input().join("one")).unwrap();
    let ended = place.once(&["--on-success", "delete"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("one.zst"), b"content");
    assert_eq!(std::fs::read(&outside).unwrap(), b"content");
    place.assert_clean();
}
