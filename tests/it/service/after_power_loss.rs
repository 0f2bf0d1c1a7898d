//! What power losses were seen to do to files (`tests/proofs/powerloss`), done here by hand.

#![expect(clippy::disallowed_methods, reason = "the test is the power loss and the consumer")]

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, time::SystemTime};

use crate::harness::Tree;

const KILLED: i32 = -9;
const QUARANTINED: i32 = 65;

fn dispositions() -> impl Iterator<Item = (&'static str, &'static str)> {
    ["update", "replace"].into_iter().flat_map(|exists| [("delete", exists), ("archive", exists)])
}

fn private_name(tree: &Tree) -> PathBuf {
    let mut files = tree.files("in").into_iter();
    let private = files.find(|path| path.to_string_lossy().ends_with(".del"));
    tree.path("in").join(private.expect("a private name"))
}

/// The source under its private name is as a power loss leaves what was never synced.
fn lose_content(tree: &Tree) {
    let private = private_name(tree);
    let modified = fs::metadata(&private).expect("look").modified().expect("a time");
    let file = fs::File::options().write(true).open(&private).expect("open");
    file.set_len(0).expect("truncate");
    file.set_modified(modified).expect("set the time");
}

/// ext4 and xfs keep an inode's times and lose the content that was never synced.
#[test]
fn a_source_that_lost_content_under_its_private_name_is_not_published_again() {
    for (on_success, on_exists) in dispositions() {
        let mut tree = Tree::new();
        tree.put("a.log", b"the whole content");
        let more = ["--once", "--on-exists", on_exists];
        let first = tree.start_with("dispose::taken=return(kill)", on_success, &more);
        assert_eq!(first.wait(), KILLED);
        let output = fs::read(tree.path("out/a.log.zst")).expect("published");
        lose_content(&tree);
        for _ in 0..2 {
            assert_eq!(tree.start(on_success, &more).wait(), QUARANTINED, "{}", tree.log());
            assert_eq!(fs::read(tree.path("out/a.log.zst")).expect("there"), output);
            assert_eq!(fs::metadata(tree.path("in/a.log")).expect("its name is back").len(), 0);
            assert_eq!(tree.acknowledged().values().sum::<usize>(), 1);
            tree.assert_no_leftovers();
        }
    }
}

/// A new version was taken by the private name of the version before it, for the moment in which the
/// service finds out that it is another file; the power loss came before it had its own name back.
#[test]
fn a_new_version_that_lost_content_under_the_private_name_of_the_last_one_is_not_published_again() {
    for (on_success, on_exists) in dispositions() {
        let mut tree = Tree::new();
        tree.put("a.log", b"the first version");
        let more = ["--once", "--on-exists", on_exists];
        let first = tree.start_with("dispose::taken=return(kill)", on_success, &more);
        assert_eq!(first.wait(), KILLED);
        let private = private_name(&tree);
        tree.put("a.log", b"the second version");
        let second = tree.start_with("dispose=return(kill)", on_success, &more);
        assert_eq!(second.wait(), KILLED, "{}", tree.log());
        fs::rename(tree.path("in/a.log"), &private).expect("taken for a moment");
        let outputs = || {
            let files = tree.files("out").into_iter();
            let read = |path| fs::read(tree.path("out").join(path)).expect("read");
            files.map(|path| (path.clone(), read(path))).collect::<Vec<_>>()
        };
        let published = outputs();
        lose_content(&tree);
        for _ in 0..2 {
            assert_eq!(tree.start(on_success, &more).wait(), QUARANTINED, "{}", tree.log());
            assert_eq!(outputs(), published, "{on_success} {on_exists}\n{}", tree.log());
            assert_eq!(fs::metadata(tree.path("in/a.log")).expect("its name is back").len(), 0);
            assert_eq!(tree.acknowledged().values().sum::<usize>(), 2);
            tree.assert_no_leftovers();
        }
    }
}

/// The same, and its producer has made a new file of its name: it goes to quarantine, once.
#[test]
fn a_source_that_lost_content_and_whose_name_is_anothers_goes_to_quarantine() {
    for on_success in ["delete", "archive"] {
        let mut tree = Tree::new();
        tree.put("d/a.log", b"the whole content");
        let first = tree.start_with("dispose::taken=return(kill)", on_success, &["--once"]);
        assert_eq!(first.wait(), KILLED);
        lose_content(&tree);
        tree.put("d/a.log", b"a new file");
        for _ in 0..2 {
            assert_eq!(tree.once(on_success), QUARANTINED, "{}", tree.log());
            tree.assert_no_leftovers();
            let kept = tree.path("out/.tidemill/quarantine/main/d/a.log");
            assert_eq!(fs::metadata(&kept).expect("in quarantine").len(), 0);
            let reason = fs::read_to_string(kept.with_extension("log.json")).expect("a reason");
            assert!(reason.contains("it lost content in a power loss"), "{reason}");
            assert!(!kept.with_extension("log.1").exists(), "it is there twice");
            // The first version, which was acknowledged, and the new file's output next to it.
            assert_eq!(tree.acknowledged().values().sum::<usize>(), 2, "{}", tree.log());
            let mut unzstd = crate::harness::decoder();
            for (output, content) in
                [("d/a.log.zst", "the whole content"), ("d/a.log.1.zst", "a new file")]
            {
                let packed = fs::read(tree.path("out").join(output)).expect("published");
                let found = crate::harness::decode(&mut unzstd, &packed);
                assert_eq!(found, content.as_bytes(), "{output}");
            }
        }
    }
}

/// btrfs moves the change time of a renamed file when it recovers; so does `chmod`.
#[test]
fn a_source_whose_change_time_moved_is_not_published_again() {
    for take in [false, true] {
        let mut tree = Tree::with(3, 1);
        assert_eq!(tree.once("keep"), 0);
        let before = tree.acknowledged();
        let sources = tree.files("in");
        for path in &sources {
            let path = tree.path("in").join(path);
            fs::set_permissions(path, fs::Permissions::from_mode(0o640)).expect("chmod");
        }
        if take {
            for path in tree.files("out") {
                fs::remove_file(tree.path("out").join(path)).expect("take");
            }
        }
        let outputs = tree.files("out");
        for _ in 0..2 {
            assert_eq!(tree.once("keep"), 0, "{}", tree.log());
            assert_eq!(tree.files("out"), outputs);
            assert_eq!(tree.acknowledged(), before);
        }
        // New content of the same size and time is new content.
        let path = tree.path("in").join(&sources[0]);
        let modified = fs::metadata(&path).expect("look").modified().expect("a time");
        let mut content = fs::read(&path).expect("read");
        content[0] ^= 1;
        fs::write(&path, &content).expect("write");
        set_modified(&path, modified);
        tree.contents.insert(sources[0].clone(), content);
        assert_eq!(tree.once("keep"), 0, "{}", tree.log());
        assert_eq!(tree.acknowledged()[&sources[0]], 2);
        tree.assert_outputs_whole();
    }
}

fn set_modified(path: &std::path::Path, time: SystemTime) {
    let file = fs::File::options().write(true).open(path).expect("open");
    file.set_modified(time).expect("set the time");
}
