//! A large batch is made durable by one call, and by one for each file where that failed.

use std::{fs, process::Command};

use crate::{harness::Tree, mounts::Mount, prove};

/// In the second batch, behind the first one's sync.
const FILES: usize = 200;

/// Runs a tree `--once` with this durability under strace, with these arguments; its calls of `syncfs`
/// and `fsync`.
fn traced(tree: &Tree, durability: &str, failpoints: &str, more: &[&str]) -> (usize, usize) {
    let service = tree.command("keep", &["--once", "--durability", durability]);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "calls", "-e", "trace=syncfs,fsync"]).args(more);
    strace.arg(service.get_program()).args(service.get_args());
    strace.envs(service.get_envs().filter_map(|(name, value)| Some((name, value?))));
    strace.env("FAILPOINTS", failpoints).current_dir(tree.path("."));
    let log = fs::File::options().append(true).create(true).open(tree.path("log")).expect("log");
    let ended = strace.stderr(log).status().expect("strace");
    assert!(ended.success(), "{}", tree.log());
    let calls = fs::read_to_string(tree.path("calls")).expect("calls");
    (calls.matches(" syncfs(").count(), calls.matches(" fsync(").count())
}

/// What keeps this from being tried here.
fn missing(tree: &Tree) -> Option<&'static str> {
    let root = fs::File::open(tree.path(".")).expect("open");
    let whole = tidemill::fs::prefers_syncfs(&root).expect("the file system's kind");
    let strace = Command::new("strace").arg("-V").output().is_ok();
    match (whole, strace) {
        (true, true) => None,
        (false, _) => Some("TMPDIR is on a file system where each file is synced alone"),
        (_, false) => Some("strace is not installed"),
    }
}

#[test]
fn many_files_are_made_durable_by_one_call() {
    let tree = Tree::with(FILES, 0);
    if let Some(missing) = missing(&tree) {
        return prove::skipped("many_files_are_made_durable_by_one_call", missing);
    }
    let (whole, each) =
        traced(&tree, "fsync", "gate::unwritten=return(out);commit::sync=1*sleep(5000)", &[]);
    assert!(whole >= 1, "no `syncfs`, {each} `fsync`");
    assert!(each < FILES / 2, "{whole} `syncfs`, and yet {each} `fsync`");
    tree.assert_done("keep");
}

#[test]
fn after_a_failure_that_names_no_file_each_is_synced_separately() {
    let tree = Tree::with(FILES, 0);
    if let Some(missing) = missing(&tree) {
        return prove::skipped("after_a_failure_that_names_no_file", missing);
    }
    let inject = ["-e", "inject=syncfs:error=EIO:when=1"];
    let (whole, each) =
        traced(&tree, "fsync", "gate::unwritten=return(out);commit::sync=1*sleep(5000)", &inject);
    assert_eq!(whole, 1, "one failed: there is no second, but {each} `fsync`");
    assert!(each >= FILES / 2, "{each} `fsync` for {FILES} files");
    assert!(tree.log().contains("storage unavailable, intake paused"), "{}", tree.log());
    tree.assert_done("keep");
}

/// The error is that of every file which was being written, those of the next batch included, and it
/// is reported once: the next `syncfs` returned success.
#[test]
fn after_a_failure_each_is_synced_separately_also_where_one_call_was_asked_for() {
    let tree = Tree::with(FILES, 0);
    if let Some(missing) = missing(&tree) {
        return prove::skipped("after_a_failure_of_syncfs", missing);
    }
    let inject = ["-e", "inject=syncfs:error=EIO:when=1"];
    let (whole, each) = traced(&tree, "syncfs", "commit::sync=1*sleep(5000)", &inject);
    assert_eq!(whole, 1, "one failed: there is no second, but {each} `fsync`");
    assert!(each >= FILES / 2, "{each} `fsync` for {FILES} files");
    tree.assert_done("keep");
}

/// It is taken for an `fsync` of each only where it reports errors, also where it is asked for.
#[test]
fn one_call_is_not_made_where_it_reports_nothing() {
    let mut tree = Tree::new();
    let Some(_mount) = Mount::memory(&tree.path("out"), "64m") else { return };
    if Command::new("strace").arg("-V").output().is_err() {
        return prove::skipped("one_call_is_not_made", "it needs strace");
    }
    tree.put("a.log", b"content");
    let (whole, each) = traced(&tree, "syncfs", "", &[]);
    let outputs = tree.files("out");
    assert_eq!(whole, 0, "{each} `fsync`");
    assert_eq!(outputs, [std::path::PathBuf::from("a.log.zst")]);
    assert!(tree.log().contains("file system does not report errors to syncfs"), "{}", tree.log());
}
