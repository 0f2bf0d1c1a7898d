//! Checksum files: an output is never seen without its own, however the service ends.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use sha2::Digest;
use tidemill::failpoint::{NAMES, RECOVERY_NAMES};

use crate::{
    files::{TestDir, tree},
    harness::{Tree, until},
};

const KILLED: i32 = -9;
const SHA256: [&str; 3] = ["--once", "--checksum", "sha256"];

fn side_of(output: &Path) -> PathBuf {
    let mut side = output.as_os_str().to_owned();
    side.push(".sha256");
    side.into()
}

fn is_side(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b".sha256")
}

/// What `sha256sum` prints for a plain name.
fn line(content: &[u8], name: &str) -> String {
    let digest = sha2::Sha256::digest(content);
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digest: String = digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect();
    format!("{digest}  {name}\n")
}

fn is_right(output: &Path) -> bool {
    let name = output.file_name().expect("a name").to_string_lossy();
    let content = fs::read(output).expect("read");
    fs::read_to_string(side_of(output)).is_ok_and(|side| side == line(&content, &name))
}

/// The published files of a tree, below its output.
fn published(tree: &Tree) -> Vec<PathBuf> {
    let is_internal = |path: &PathBuf| path.to_string_lossy().contains(".tidemill");
    tree.files("out").into_iter().filter(|path| !is_internal(path)).collect()
}

/// Every output has its checksum file, and the content in it.
fn assert_never_alone(tree: &Tree, context: &str) {
    for path in published(tree).iter().filter(|path| !is_side(path)) {
        let output = tree.path("out").join(path);
        assert!(is_right(&output), "{context}: {output:?}\n{}", tree.log());
    }
}

/// All sources have their outputs with checksum files, and there is nothing else.
fn assert_complete(tree: &Tree, context: &str) {
    assert_never_alone(tree, context);
    tree.assert_no_leftovers();
    let mut expected = BTreeSet::new();
    for path in tree.contents.keys() {
        let mut output = path.as_os_str().to_owned();
        output.push(".zst");
        expected.insert(side_of(output.as_ref()));
        expected.insert(PathBuf::from(output));
    }
    let found: BTreeSet<PathBuf> = published(tree).into_iter().collect();
    assert_eq!(found, expected, "{context}\n{}", tree.log());
    let counts = tree.acknowledged();
    let is_once = counts.len() == tree.contents.len() && counts.values().all(|count| *count == 1);
    assert!(is_once, "{context}: {counts:?}\n{}", tree.log());
}

fn killed_at(name: &str, links: bool) {
    for on_success in ["keep", "delete"] {
        for passes_before in [0, 7] {
            let tree = Tree::with(20, 1);
            let links = if links { "gate::no_replace=return(out);" } else { "" };
            let failpoints = format!("{links}{name}={passes_before}*off->return(kill)");
            let code = tree.start_with(&failpoints, on_success, &SHA256).wait();
            let expected = code == KILLED || (passes_before > 0 && code == 0);
            assert!(expected, "{name} {on_success}: {code}\n{}", tree.log());
            assert_never_alone(&tree, name);
            let code = tree.start_with(links, on_success, &SHA256).wait();
            assert_eq!(code, 0, "{name} {on_success}\n{}", tree.log());
            assert_complete(&tree, name);
        }
    }
}

#[test]
fn a_kill_at_any_failpoint_of_commit_leaves_no_output_without_its_checksum_file() {
    let commit = NAMES.iter().copied().filter(|name| name.starts_with("commit"));
    for name in commit.chain(["write::sealed", "commit::side", "commit::side_renamed"]) {
        killed_at(name, false);
    }
}

#[test]
fn a_kill_between_the_names_of_links_leaves_no_output_without_its_checksum_file() {
    for name in ["commit::side_renamed", "commit::renamed", "commit::unlink"] {
        killed_at(name, true);
    }
}

#[test]
fn a_kill_during_recovery_leaves_no_output_without_its_checksum_file() {
    for first in ["commit::intended", "commit::side_renamed", "commit::renamed"] {
        for name in RECOVERY_NAMES.iter().copied().chain(["recovery::side_named"]) {
            let tree = Tree::with(20, 1);
            let killed = tree.start_with(&format!("{first}=return(kill)"), "delete", &SHA256);
            assert_eq!(killed.wait(), KILLED, "{first}");
            let second = tree.start_with(&format!("{name}=return(kill)"), "delete", &SHA256).wait();
            // What has all its names is not named again.
            let may_miss = first == "commit::renamed" && name == "recovery::side_named";
            assert!(second == KILLED || may_miss && second == 0, "{first} {name}: {second}");
            assert_never_alone(&tree, name);
            assert_eq!(tree.start_with("", "delete", &SHA256).wait(), 0, "{}", tree.log());
            assert_complete(&tree, name);
        }
    }
}

/// Recovery writes it from the record alone: the configuration may be another one by then.
#[test]
fn recovery_writes_a_checksum_file_that_is_lost() {
    let tree = Tree::with(5, 0);
    let killed = tree.start_with("commit::renamed=return(kill)", "delete", &SHA256);
    assert_eq!(killed.wait(), KILLED);
    for side in published(&tree).iter().filter(|path| is_side(path)) {
        take(&tree.path("out").join(side));
    }
    assert_eq!(tree.once("delete"), 0, "{}", tree.log());
    let outputs = published(&tree);
    let first = outputs.iter().find(|path| is_side(path)).expect("a checksum file");
    assert!(is_right(&tree.path("out").join(first).with_extension("")), "{}", tree.log());
}

/// The consumer's view: what it lists has its checksum file by then, also while outputs are replaced.
#[test]
fn a_consumer_never_sees_an_output_without_its_checksum_file() {
    let mut tree = Tree::with(300, 2);
    let is_over = AtomicBool::new(false);
    let out = tree.path("out");
    let watch = || {
        let mut seen = 0;
        while !is_over.load(Ordering::Relaxed) {
            for path in crate::files::tree(&out) {
                let is_output = path.extension().is_some_and(|extension| extension == "zst");
                if is_output && !path.to_string_lossy().contains("/.tidemill") {
                    assert!(side_of(&path).exists(), "{path:?} is alone");
                    seen += 1;
                }
            }
        }
        seen
    };
    let run = |tree: &Tree| {
        is_over.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(watch);
            let code = tree.start_with("", "keep", &SHA256).wait();
            is_over.store(true, Ordering::Relaxed);
            assert_eq!(code, 0, "{}", tree.log());
            watcher.join().expect("each has its checksum file")
        })
    };
    run(&tree);
    assert_complete(&tree, "first");
    let names: Vec<_> = tree.contents.keys().cloned().collect();
    for name in &names {
        tree.put(&name.to_string_lossy(), format!("new {}", name.display()).as_bytes());
    }
    assert!(run(&tree) > 0, "the watcher saw outputs");
    assert_never_alone(&tree, "updated");
}

fn run(dir: &TestDir, args: &[&str], code: i32) {
    let ended = dir.once(args);
    assert_eq!(ended.code, code, "{ended:?}");
    dir.assert_clean();
}

/// Runs it with these failpoints, and returns its exit code; `None` if it was killed.
fn with(dir: &TestDir, failpoints: &str) -> Option<i32> {
    let mut command = dir.tidemill(&["run", "--config", "tidemill.toml", "--once"]);
    command.env("FAILPOINTS", failpoints).output().expect("run").status.code()
}

fn killed(dir: &TestDir, failpoints: &str) {
    assert_eq!(with(dir, failpoints), None, "{failpoints}");
}

fn read(dir: &TestDir, name: &str) -> String {
    fs::read_to_string(dir.output().join(name)).unwrap_or_default()
}

fn foreign(dir: &TestDir, name: &str) {
    fs::write(dir.output().join(name), "theirs").expect("write");
}

fn copying(lines: &str) -> TestDir {
    let dir = TestDir::new();
    dir.configure(&format!("transforms = \"copy\"\nchecksum = \"sha256\"\n{lines}"));
    dir
}

#[test]
fn a_foreign_checksum_file_is_a_taken_name_under_every_policy() {
    for (policy, code, output, state) in [
        ("update", 65, None, "quarantined"),
        ("fail", 65, None, "quarantined"),
        ("replace", 65, None, "quarantined"),
        ("skip", 0, None, "skipped"),
        ("suffix", 0, Some("a.1"), "done"),
    ] {
        let dir = copying(&format!("on_exists = \"{policy}\""));
        dir.put("a", "content");
        foreign(&dir, "a.sha256");
        run(&dir, &[], code);
        assert_eq!(read(&dir, "a.sha256"), "theirs", "{policy}");
        assert_eq!(dir.state_of("a"), state, "{policy}");
        assert!(!dir.output().join("a").exists(), "{policy}");
        if let Some(output) = output {
            assert!(is_right(&dir.output().join(output)), "{policy}");
        } else {
            assert!(dir.reason_of("a").contains("a.sha256"), "{policy}: {}", dir.reason_of("a"));
        }
    }
}

#[test]
fn an_update_replaces_both_and_the_same_content_neither() {
    let dir = copying("");
    dir.put("a", "one");
    run(&dir, &[], 0);
    assert_eq!(read(&dir, "a.sha256"), line(b"one", "a"));
    dir.put("a", "another");
    run(&dir, &[], 0);
    assert_eq!(
        (read(&dir, "a"), read(&dir, "a.sha256")),
        ("another".into(), line(b"another", "a"))
    );
    let before = fs::metadata(dir.output().join("a.sha256")).expect("metadata");
    dir.put("a", "another");
    run(&dir, &[], 0);
    let after = fs::metadata(dir.output().join("a.sha256")).expect("metadata");
    assert_eq!(after.modified().expect("time"), before.modified().expect("time"));
    // Changed by another program since: neither is replaced.
    foreign(&dir, "a.sha256");
    dir.put("a", "third");
    run(&dir, &[], 65);
    assert_eq!((read(&dir, "a"), read(&dir, "a.sha256")), ("another".into(), "theirs".into()));
}

/// The other program's file came between the decision and the name.
#[test]
fn a_name_that_is_taken_in_the_last_moment_leaves_no_checksum_file() {
    let dir = copying("");
    dir.put("a", "content");
    killed(&dir, "commit::rename=1*return(eexist)->off;commit::side_undone=return(kill)");
    assert!(tree(&dir.output()).iter().all(|path| !is_side(path)), "{:?}", tree(&dir.output()));
    run(&dir, &[], 0);
    assert!(is_right(&dir.output().join("a")));
    dir.put("b", "content");
    assert_eq!(with(&dir, "commit::rename=1*return(eexist)->off"), Some(0));
    assert!(is_right(&dir.output().join("b")));
    // The earlier one gets its content again.
    dir.put("b", "other content");
    killed(&dir, "commit::rename=1*return(eio)->off;commit::side_undone=return(kill)");
    assert!(is_right(&dir.output().join("b")), "the earlier output, with its checksum file");
    run(&dir, &[], 0);
    assert_eq!(read(&dir, "b"), "other content");
    assert!(is_right(&dir.output().join("b")));
    dir.assert_clean();
}

/// The service was killed after the checksum file had its name, and another program took the output's.
#[test]
fn recovery_removes_the_checksum_file_of_an_output_whose_name_was_taken() {
    let dir = copying("");
    dir.put("a", "content");
    killed(&dir, "commit::side_renamed=return(kill)");
    assert_eq!(read(&dir, "a.sha256"), line(b"content", "a"));
    foreign(&dir, "a");
    run(&dir, &[], 65);
    assert_eq!(read(&dir, "a"), "theirs");
    assert!(!dir.output().join("a.sha256").exists());
}

#[test]
fn a_consumer_may_take_either_or_both() {
    for taken in [&["a"][..], &["a.sha256"], &["a", "a.sha256"]] {
        let dir = copying("on_success = \"delete\"\non_exists = \"replace\"");
        for content in ["first", "second"] {
            dir.put("a", content);
            run(&dir, &[], 0);
            assert_eq!(read(&dir, "a.sha256"), line(content.as_bytes(), "a"), "{taken:?}");
            assert_eq!(read(&dir, "a"), content);
            for name in taken {
                take(&dir.output().join(name));
            }
        }
    }
}

#[test]
fn a_source_with_the_name_of_a_checksum_file_collides_with_it_by_the_policy() {
    // Its producer delivers checksum files: they are the same.
    let dir = copying("");
    dir.put("a", "content");
    dir.put("a.sha256", line(b"content", "a"));
    run(&dir, &[], 0);
    assert!(is_right(&dir.output().join("a")) && is_right(&dir.output().join("a.sha256")));
    for [first, second] in [["a", "a.sha256"], ["a.sha256", "a"]] {
        let dir = copying("");
        for name in [first, second] {
            let content = if name == "a" { "content".into() } else { line(b"content", "a") };
            dir.put(name, content);
            run(&dir, &[], 0);
        }
        assert!(is_right(&dir.output().join("a")) && is_right(&dir.output().join("a.sha256")));
    }
    // It is something else.
    for policy in ["update", "replace", "suffix"] {
        for first in ["a", "a.sha256"] {
            let dir = copying(&format!("on_exists = \"{policy}\""));
            dir.put(first, "content");
            run(&dir, &[], 0);
            dir.put(if first == "a" { "a.sha256" } else { "a" }, "other content");
            run(&dir, &[], if policy == "suffix" { 0 } else { 65 });
            let outputs = tree(&dir.output());
            assert_eq!(outputs.len(), if policy == "suffix" { 4 } else { 2 }, "{outputs:?}");
            for output in outputs.iter().filter(|path| side_of(path).exists()) {
                assert!(is_right(output), "{policy} {output:?}");
            }
        }
    }
}

#[test]
fn a_number_gives_both_a_name() {
    let dir = copying("on_exists = \"suffix\"");
    dir.put("a", "first");
    run(&dir, &[], 0);
    foreign(&dir, "a.1.sha256");
    dir.put("a", "second");
    run(&dir, &[], 0);
    assert_eq!(read(&dir, "a.2.sha256"), line(b"second", "a.2"));
    assert_eq!(read(&dir, "a.1.sha256"), "theirs");
    assert!(!dir.output().join("a.1").exists());
}

#[test]
fn the_key_may_be_turned_on_and_off() {
    let dir = TestDir::new();
    dir.configure("transforms = \"copy\"");
    dir.put("a", "one");
    run(&dir, &[], 0);
    assert!(!dir.output().join("a.sha256").exists());
    let ended = dir.run(&["reprocess", dir.input().join("a").to_str().expect("text")]);
    assert_eq!(ended.code, 0, "{ended:?}");
    run(&dir, &["--checksum", "sha256"], 0);
    assert_eq!(read(&dir, "a.sha256"), line(b"one", "a"));
    dir.put("a", "two is longer");
    run(&dir, &[], 0);
    assert_eq!(read(&dir, "a"), "two is longer");
    assert!(!dir.output().join("a.sha256").exists(), "it would be wrong");
}

#[test]
fn a_name_without_room_for_the_suffix_is_quarantined() {
    let dir = copying("");
    let (long, longer) = ("x".repeat(248), "x".repeat(249));
    dir.put(&long, "content");
    dir.put(&longer, "content");
    run(&dir, &[], 65);
    assert!(is_right(&dir.output().join(&long)));
    assert!(!dir.output().join(&longer).exists());
}

#[test]
fn the_checksum_file_has_the_mode_and_time_of_its_output() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let dir = copying("");
    let source = dir.put("a", "content");
    fs::set_permissions(source, fs::Permissions::from_mode(0o640)).expect("mode");
    run(&dir, &[], 0);
    let of = |name: &str| {
        let found = fs::metadata(dir.output().join(name)).expect("metadata");
        (found.mode(), found.uid(), found.mtime_nsec(), found.mtime())
    };
    assert_eq!(of("a.sha256"), of("a"));
}

#[test]
fn a_reload_turns_it_on() {
    let dir = TestDir::new();
    dir.configure("transforms = \"copy\"");
    let service = dir.watch(&[]);
    dir.configure("transforms = \"copy\"\nchecksum = \"sha256\"");
    service.signal(rustix::process::Signal::HUP);
    service.until_logged("config.reloaded");
    dir.put("a", "content");
    until("it has its checksum file", || is_right_if_there(&dir.output().join("a")));
    assert_eq!(service.stop().code, 0);
}

fn is_right_if_there(output: &Path) -> bool {
    output.exists() && is_right(output)
}

#[test]
fn the_command_prints_what_sha256sum_checks() {
    let dir = copying("");
    for name in ["a", "below/two\nlines", "back\\slash", "-dash"] {
        dir.put(name, name);
    }
    dir.put(Path::new(std::ffi::OsStr::from_bytes(b"\xff")), "not text");
    run(&dir, &[], 0);
    dir.put("a", "another");
    dir.put("taken", "taken");
    run(&dir, &[], 0);
    take(&dir.output().join("taken"));
    let state = dir.state();
    let print = |args: &[&str]| {
        let args = [&["checksums", "--state-dir", state.to_str().expect("text")], args].concat();
        let printed = dir.tidemill(&args).current_dir(dir.output()).output().expect("run");
        assert!(printed.status.success(), "{printed:?}");
        printed
    };
    let sums = print(&[]).stdout;
    assert_eq!(sums.split(|byte| *byte == b'\n').count(), 6, "five lines");
    fs::write(dir.root().join("SHA256SUMS"), &sums).expect("write");
    let mut check = std::process::Command::new("sha256sum");
    check.args(["--check", "--strict", "--quiet", "../SHA256SUMS"]).current_dir(dir.output());
    let checked = check.output().expect("sha256sum runs");
    assert!(checked.status.success(), "{checked:?}");
    assert_eq!(print(&["a"]).stdout, line(b"another", "a").as_bytes());
    let below = print(&["below"]).stdout;
    assert!(below.starts_with(b"\\") && below.ends_with(b"  below/two\\nlines\n"), "{below:?}");
    dir.configure("transforms = \"copy\"");
    dir.put("without", "content");
    run(&dir, &[], 0);
    let printed = print(&[]);
    assert_eq!(printed.stdout.len(), sums.len());
    let note = String::from_utf8_lossy(&printed.stderr).into_owned();
    assert!(note.contains("1 file has no checksum"), "{note}");
}

#[test]
fn explain_and_plan_know_a_checksum_file() {
    let dir = copying("");
    dir.put("a", "content");
    run(&dir, &[], 0);
    let explain = |name: &str| {
        let path = dir.output().join(name);
        dir.run(&["explain", "--state-dir", "state", path.to_str().expect("text")]).stdout
    };
    let of = explain("a.sha256");
    assert!(of.contains("is the checksum file of an output") && of.contains("out/a\n"), "{of}");
    assert!(explain("b.sha256").contains("was not published"), "{}", explain("b.sha256"));
    dir.put("a", "changed since");
    dir.put("b", "content");
    foreign(&dir, "b.sha256");
    let plan = dir.run(&["plan", "--config", "tidemill.toml"]).stdout;
    assert!(plan.contains("b.sha256 exists, and is no checksum file"), "{plan}");
    assert!(!plan.contains("a.sha256"), "{plan}");
    run(&dir, &[], 65);
    assert_eq!(read(&dir, "a.sha256"), line(b"changed since", "a"));
}

#[expect(clippy::disallowed_methods, reason = "the consumer takes it")]
fn take(output: &Path) {
    fs::remove_file(output).expect("take");
}
