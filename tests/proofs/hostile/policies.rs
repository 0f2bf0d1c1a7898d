//! Files with other names, and files of other users: what each policy does with them.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
};

use crate::{
    files::{TestDir, tree, until},
    hostile::{NOBODY, is_root, process::get},
    prove,
};

/// A place with a file of two names, the other one outside, and one of a single name.
fn linked(lines: &str) -> TestDir {
    let place = TestDir::new();
    place.configure(lines);
    let outside = place.root().join("outside");
    fs::write(&outside, "linked").unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o600)).unwrap();
    fs::hard_link(&outside, place.input().join("two")).unwrap();
    place.put("one", "alone");
    place
}

#[test]
fn a_hard_link_is_taken_by_default_and_shows_nobody_what_they_could_not_read() {
    for lines in ["", "hard_links = \"take\""] {
        let place = linked(lines);
        let outside = place.root().join("outside");
        if is_root() {
            chown(&outside, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let ended = place.once(&["--on-success", "delete"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(place.published("two.zst"), b"linked");
        let (source, output) = (
            fs::metadata(&outside).unwrap(),
            fs::metadata(place.output().join("two.zst")).unwrap(),
        );
        assert_eq!(output.mode() & 0o7777, 0o600);
        assert_eq!((output.uid(), output.gid()), (source.uid(), source.gid()));
        assert_eq!(fs::read(outside).unwrap(), b"linked", "the other name stays");
        assert!(tree(&place.input()).is_empty());
    }
}

#[test]
fn a_hard_link_is_ignore_reason_where_it_is_refused_and_taken_once_it_is_alone() {
    let place = linked("hard_links = \"refuse\"");
    let ended = place.once(&["--on-success", "delete"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(tree(&place.output()), [place.output().join("one.zst")]);
    assert_eq!(fs::read(place.input().join("two")).unwrap(), b"linked");
    let explained = place.run(&["explain", "in/two"]).stdout;
    let why = "is ignored: it has 2 names, and the policy is `hard_links = \"refuse\"`";
    assert!(explained.contains(why), "{explained}");
    fs::remove_file(place.root().join("outside")).unwrap();
    let ended = place.once(&["--on-success", "delete"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("two.zst"), b"linked");
}

#[test]
fn a_file_that_gets_a_second_name_after_it_was_looked_at_is_refused_by_its_handle() {
    let place = TestDir::new();
    place.configure("hard_links = \"refuse\"");
    // The claim waits: what the name is by then is what counts.
    let args = ["--on-success", "delete", "--http", "127.0.0.1:0"];
    let running = place.watch_with(&args, &place.gate("claim"));
    let path = place.put("a", "content");
    until("it was looked at", || {
        let status: serde_json::Value =
            serde_json::from_str(&get(&running, "/api/v1/status")).unwrap();
        status["pipelines"][0]["in_flight"] == 1
    });
    fs::hard_link(&path, place.root().join("other")).unwrap();
    place.open_gate();
    place.put("later", "later");
    until("later", || place.output().join("later.zst").exists());
    assert_eq!(running.stop().code, 0);
    assert_eq!(tree(&place.output()), [place.output().join("later.zst")]);
    assert_eq!(fs::read(path).unwrap(), b"content");
}

#[test]
fn files_of_any_owner_are_taken_by_default_and_only_the_inputs_owners_where_it_says_same() {
    let name =
        "files_of_any_owner_are_taken_by_default_and_only_the_inputs_owners_where_it_says_same";
    if !is_root() {
        return prove::skipped(name, "only root gives files to another user");
    }
    for (lines, taken) in [
        ("", vec!["mine", "theirs"]),
        ("owners = \"any\"", vec!["mine", "theirs"]),
        ("owners = \"same\"", vec!["mine"]),
    ] {
        let place = TestDir::new();
        place.configure(lines);
        chown(place.input(), Some(NOBODY), Some(NOBODY)).unwrap();
        let mine = place.put("mine", "of the input's owner");
        chown(mine, Some(NOBODY), Some(NOBODY)).unwrap();
        let theirs = place.put("theirs", "of another");
        let ended = place.once(&["--on-success", "delete"]);
        assert_eq!(ended.code, 0, "{ended:?}");
        let outputs: Vec<_> =
            taken.iter().map(|name| place.output().join(format!("{name}.zst"))).collect();
        assert_eq!(tree(&place.output()), outputs, "{lines}");
        if taken.len() == 1 {
            assert_eq!(fs::read(theirs).unwrap(), b"of another");
            let explained = place.run(&["explain", "in/theirs"]).stdout;
            let why = format!(
                "is ignored: its owner is 0, the input's is {NOBODY}, and the policy is `owners = \"same\"`"
            );
            assert!(explained.contains(&why), "{explained}");
        }
    }
}
