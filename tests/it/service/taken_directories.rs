//! A consumer that takes whole directories, by renaming them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::process::Signal;

use crate::harness::{Service, Tree, until};

#[expect(clippy::disallowed_methods, reason = "the consumer takes it")]
fn moved(tree: &Tree, from: &str, to: &str) {
    fs::rename(tree.path(from), tree.path(to)).expect("rename");
}

fn start(tree: &Tree, failpoints: &str, on_success: &str) -> Service {
    let state = tree.path("state");
    let more = ["--state-dir", state.to_str().expect("UTF-8"), "--sandbox", "off"];
    tree.start_with(failpoints, on_success, &more)
}

fn stopped(tree: &Tree, service: Service) {
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", tree.log());
}

/// It was published, and acknowledged, into the directory that the consumer had taken.
#[test]
fn what_comes_after_a_sub_directory_was_taken_is_published_under_its_path() {
    let mut tree = Tree::new();
    let service = start(&tree, "", "delete");
    tree.put("d/a.log", b"one");
    until("the first is done", || tree.files("in").is_empty());
    moved(&tree, "out/d", "out/d-taken");
    tree.put("d/b.log", b"two");
    until("the second is done", || tree.files("in").is_empty());
    stopped(&tree, service);
    assert_eq!(tree.files("out/d"), [PathBuf::from("b.log.zst")], "{}", tree.log());
    assert_eq!(tree.files("out/d-taken"), [PathBuf::from("a.log.zst")]);
}

#[test]
fn what_comes_after_the_root_was_taken_is_published_under_its_path() {
    let mut tree = Tree::new();
    let service = start(&tree, "", "delete");
    tree.put("d/a.log", b"one");
    tree.put("a.log", b"one");
    until("the first are done", || tree.files("in").is_empty());
    moved(&tree, "out", "monday");
    fs::create_dir(tree.path("out")).expect("directory");
    tree.put("d/b.log", b"two");
    tree.put("b.log", b"two");
    until("the second are done", || tree.files("in").is_empty());
    stopped(&tree, service);
    let names = |names: [&str; 2]| names.map(PathBuf::from);
    assert_eq!(tree.files("out"), names(["b.log.zst", "d/b.log.zst"]), "{}", tree.log());
    assert_eq!(tree.files("monday"), names(["a.log.zst", "d/a.log.zst"]));
}

/// The source was quarantined, as if a consumer had taken its output.
#[test]
fn an_intent_whose_directory_is_taken_before_the_next_start_is_published_under_its_path() {
    for on_success in ["keep", "delete", "archive"] {
        let mut tree = Tree::new();
        tree.put("d/a.log", b"one");
        let killed =
            tree.start_with("commit::intended=return(kill)", on_success, &["--once"]).wait();
        assert_eq!(killed, -9);
        moved(&tree, "out/d", "out/d-taken");
        assert_eq!(tree.once(on_success), 0, "{}", tree.log());
        tree.assert_done(on_success);
    }
}

/// Takes a directory while one output of it stands at a failpoint.
fn taken_at(name: &str, on_success: &str, taken: &str) {
    let mut tree = Tree::new();
    let gate = tree.path("gate");
    fs::write(&gate, "").expect("gate");
    let service = start(&tree, &format!("{name}=return(while:{})", gate.display()), on_success);
    tree.put("d/a.log", b"one");
    let is_there = || tree.files("out").iter().any(|path| path.starts_with("d"));
    until("it is staged", is_there);
    if name != "commit::sync" {
        // The failpoint is after the name, or between the intent and the name.
        let temp = |path: &PathBuf| path.to_string_lossy().ends_with(".tmp");
        let named = || !tree.files("out").iter().any(temp);
        let intended = || name == "commit::intended" && intent(&tree);
        until("it is at the failpoint", || named() || intended());
    }
    moved(&tree, taken, "away");
    if taken == "out" {
        fs::create_dir(tree.path("out")).expect("directory");
    }
    #[expect(clippy::disallowed_methods, reason = "the gate of a failpoint")]
    fs::remove_file(&gate).expect("gate");
    until("it is acknowledged", || tree.acknowledged().contains_key(Path::new("d/a.log")));
    stopped(&tree, service);
    assert_eq!(tree.acknowledged()[Path::new("d/a.log")], 1, "{name}");
    let what = format!("{name} {on_success} {taken}\n{}", tree.log());
    assert!(tree.path("out/d/a.log.zst").exists(), "{what}");
    assert!(tree.files("away").is_empty(), "{what}");
    assert_eq!(tree.path("in/d/a.log").exists(), on_success == "keep", "{what}");
}

/// The consumer who took the directory has the newer output then, and its path gets one, too.
#[test]
fn an_output_that_took_an_older_ones_place_in_a_directory_that_is_taken_stays_there_and_comes_again()
 {
    let mut tree = Tree::new();
    let gate = tree.path("gate");
    fs::write(&gate, "").expect("gate");
    let second = format!("commit::renamed=1*off->return(while:{})", gate.display());
    let service = start(&tree, &second, "keep");
    tree.put("d/a.log", b"one");
    let lines = || tree.acknowledged().get(Path::new("d/a.log")).copied();
    until("the first is acknowledged", || lines() == Some(1));
    let output = tree.path("out/d/a.log.zst");
    let first = fs::read(&output).expect("read");
    fs::write(tree.path("in/d/a.log"), "the second, which is longer").expect("write");
    until("the second has its name", || fs::read(&output).is_ok_and(|found| found != first));
    let newer = fs::read(&output).expect("read");
    moved(&tree, "out/d", "away");
    #[expect(clippy::disallowed_methods, reason = "the gate of a failpoint")]
    fs::remove_file(&gate).expect("gate");
    until("it comes again", || lines() == Some(2));
    stopped(&tree, service);
    assert_eq!(tree.files("away"), [PathBuf::from("a.log.zst")], "{}", tree.log());
    for path in ["away/a.log.zst", "out/d/a.log.zst"] {
        assert!(fs::read(tree.path(path)).is_ok_and(|found| found == newer), "{path}");
    }
}

/// Whether the ledger has an intent.
fn intent(tree: &Tree) -> bool {
    use tidemill::ledger::{Ledger, sqlite::Sqlite};
    let ledger = Sqlite::open_read_only(&tree.path("state/ledger.sqlite"));
    ledger.is_ok_and(|ledger| ledger.unfinished().is_ok_and(|found| !found.is_empty()))
}

#[test]
fn an_output_in_a_directory_that_is_taken_while_it_is_published_comes_under_its_path_once() {
    for name in ["commit::sync", "commit::intended", "commit::renamed"] {
        for on_success in ["keep", "delete", "archive"] {
            for taken in ["out/d", "out"] {
                taken_at(name, on_success, taken);
            }
        }
    }
}

/// The sandbox denies the directory that a consumer made in its place, so the service ends. The outputs
/// were acknowledged under a path at which they were not.
#[test]
fn what_is_published_into_a_root_that_was_taken_is_not_acknowledged_in_the_sandbox() {
    for name in ["commit::sync", "commit::intended", "commit::renamed"] {
        let mut tree = Tree::new();
        let gate = tree.path("gate");
        fs::write(&gate, "").expect("gate");
        let state = tree.path("state");
        let more = ["--state-dir", state.to_str().expect("UTF-8")];
        let failpoint = format!("{name}=return(while:{})", gate.display());
        let service = tree.start_with(&failpoint, "delete", &more);
        tree.put("d/a.log", b"one");
        let is_named = || tree.files("out").iter().any(|path| path.ends_with("a.log.zst"));
        let is_staged = || tree.files("out").iter().any(|path| path.starts_with("d"));
        until("it is at the failpoint", || match name {
            "commit::renamed" => is_named(),
            "commit::intended" => intent(&tree),
            _ => is_staged(),
        });
        moved(&tree, "out", "away");
        fs::create_dir(tree.path("out")).expect("directory");
        #[expect(clippy::disallowed_methods, reason = "the gate of a failpoint")]
        fs::remove_file(&gate).expect("gate");
        let code = service.wait();
        assert!(tree.acknowledged().is_empty(), "{name}\n{}", tree.log());
        assert!(tree.path("in/d/a.log").exists(), "{name}\n{}", tree.log());
        assert_eq!(code, 75, "{name}\n{}", tree.log());
        // The next start knows the new directory.
        let restarted = tree.start_with("", "delete", &more);
        until("it is acknowledged", || tree.acknowledged().contains_key(Path::new("d/a.log")));
        stopped(&tree, restarted);
        assert!(tree.path("out/d/a.log.zst").exists(), "{name}\n{}", tree.log());
        assert!(tree.files("away").is_empty(), "{name}: {:?}", tree.files("away"));
    }
}
