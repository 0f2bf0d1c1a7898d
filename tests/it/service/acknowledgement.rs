//! What counts as an acknowledgement, and what becomes of one for which there is no space.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tidemill::failpoint::NAMES;

use crate::{
    files::{Ended, Running, TestDir},
    harness::{Service, Tree, until},
};

const KILLED: i32 = -9;

fn commits() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().filter(|name| name.starts_with("commit"))
}

fn copy_state(from: &Path, to: &Path) {
    fs::remove_dir_all(to).ok();
    fs::create_dir(to).expect("directory");
    for entry in fs::read_dir(from).expect("list").map(|entry| entry.expect("entry")) {
        if entry.file_type().expect("type").is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("copy");
        }
    }
}

/// One file is killed on its way, and the next start finishes it: it is published, acknowledged in
/// these words, and nothing of it is lost.
fn is_finished_after_a_kill(tree: &mut Tree, name: &str, on_success: &str) {
    tree.contents.clear();
    tree.put("new.log", b"the only copy");
    let killed = tree.start_with(&format!("{name}=return(kill)"), on_success, &["--once"]);
    assert_eq!(killed.wait(), KILLED, "{name} {on_success}\n{}", tree.log());
    tree.assert_nothing_lost(on_success);
    assert_eq!(tree.once(on_success), 0, "{name} {on_success}\n{}", tree.log());
    tree.assert_nothing_lost(on_success);
    assert!(tree.path("out/new.log.zst").exists(), "{name} {on_success}\n{}", tree.log());
    assert_eq!(tree.acknowledged()[Path::new("new.log")], 1, "{name} {on_success}");
    tree.assert_no_leftovers();
}

/// The source was deleted, its temporary file removed, and the ledger had it as done: the
/// first record of the ledger before it had the same number.
#[test]
fn an_events_file_that_outlives_its_ledger_acknowledges_nothing() {
    for name in commits() {
        for on_success in ["keep", "delete", "archive"] {
            let mut tree = Tree::new();
            tree.put("old.log", b"first life");
            assert_eq!(tree.once(on_success), 0, "{}", tree.log());
            for dir in ["in", "out", "archive"] {
                fs::remove_dir_all(tree.path(dir)).expect("remove");
                fs::create_dir(tree.path(dir)).expect("directory");
            }
            is_finished_after_a_kill(&mut tree, name, on_success);
        }
    }
}

/// As the manual says to do it: the numbers of the records after the backup run again.
#[test]
fn a_ledger_that_was_restored_from_a_backup_gives_no_number_again() {
    for name in commits() {
        for on_success in ["delete", "archive"] {
            let mut tree = Tree::new();
            let state = tree.path("out/.tidemill");
            tree.put("1.log", b"before the backup");
            assert_eq!(tree.once(on_success), 0, "{}", tree.log());
            copy_state(&state, &tree.path("backup"));
            for number in 2..5 {
                tree.put(&format!("{number}.log"), b"after the backup");
                assert_eq!(tree.once(on_success), 0, "{}", tree.log());
            }
            copy_state(&tree.path("backup"), &state);
            for output in tree.files("out") {
                #[expect(clippy::disallowed_methods, reason = "a consumer takes it")]
                fs::remove_file(tree.path("out").join(output)).expect("take");
            }
            is_finished_after_a_kill(&mut tree, name, on_success);
        }
    }
}

#[test]
fn an_events_file_that_another_service_holds_is_a_wrong_configuration() {
    let tree = Tree::new();
    let first = tree.start("keep", &[]);
    until("it is ready", || tree.log().contains("phase=READY"));
    let state = tree.path("state");
    let more = ["--once", "--state-dir", state.to_str().expect("UTF-8")];
    assert_eq!(tree.start("keep", &more).wait(), 78, "{}", tree.log());
    assert!(tree.log().contains("another process has locked it"), "{}", tree.log());
    first.signal(Signal::TERM);
    assert_eq!(first.wait(), 0, "{}", tree.log());
}

#[test]
fn an_events_file_that_cannot_be_written_pauses_and_each_output_is_acknowledged_once() {
    for on_success in ["keep", "delete", "archive"] {
        for failpoints in [
            "events::append=2*return(enospc)->off",
            "events::append=2*return(erofs)->off",
            "events::sync=1*return(enospc)->off",
            "events::append=1*off->1*return(enospc)->off;events::sync=1*return(enospc)->off",
            "commit::directory=40*off->1*return(enospc)->off",
        ] {
            let tree = Tree::with(30, 1);
            let code = tree.start_with(failpoints, on_success, &["--once"]).wait();
            assert_eq!(code, 0, "{failpoints} {on_success}\n{}", tree.log());
            tree.assert_done(on_success);
        }
    }
}

/// It ended all pipelines with 74, though nothing was written.
#[test]
fn an_events_file_that_cannot_be_opened_after_a_rotation_pauses() {
    let mut tree = Tree::new();
    tree.put("first.log", b"before the rotation");
    let service = tree.start("keep", &[]);
    until("the first one", || tree.acknowledged().len() == 1);
    #[expect(clippy::disallowed_methods, reason = "the log rotation renames it")]
    fs::rename(tree.path("events"), tree.path("events.1")).expect("rotate");
    fs::write(tree.path("events"), "").expect("create");
    let other = fs::File::open(tree.path("events")).expect("open");
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).expect("lock");
    tree.put("second.log", b"after the rotation");
    until("it pauses", || tree.log().contains("another process has locked it"));
    assert!(tree.acknowledged().is_empty());
    drop(other);
    until("the second one", || tree.acknowledged().len() == 1);
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", tree.log());
    assert_eq!(tree.acknowledged()[Path::new("second.log")], 1);
    tree.assert_nothing_lost("keep");
}

#[test]
fn a_stop_while_the_events_file_has_no_space_leaves_work_and_the_next_start_acknowledges_it() {
    for on_success in ["keep", "delete", "archive"] {
        let tree = Tree::with(20, 1);
        let service = tree.start_with("events::append=return(enospc)", on_success, &[]);
        until("it waits for space", || tree.log().contains("No space left on device"));
        service.signal(Signal::TERM);
        assert_eq!(service.wait(), 75, "{on_success}\n{}", tree.log());
        tree.assert_nothing_lost(on_success);
        assert!(tree.acknowledged().is_empty());
        assert_eq!(tree.once(on_success), 0, "{}", tree.log());
        tree.assert_done(on_success);
    }
}

/// The intake tried the output, which had space, and called the place well: `--once` never ended.
#[test]
fn once_gives_up_where_only_the_events_file_has_no_space() {
    let mut tree = Tree::new();
    tree.put("a.log", b"content");
    let once = tree.start_with("events::append=return(enospc)", "delete", &["--once"]);
    assert_eq!(once.wait(), 75, "{}", tree.log());
    assert!(!tree.log().contains("storage available, intake resumed"), "{}", tree.log());
    assert_eq!(tree.once("delete"), 0, "{}", tree.log());
    tree.assert_done("delete");
}

/// What waited for space held the permits that the lanes waited for, so that nothing could end.
#[test]
fn a_stop_ends_soon_where_many_large_files_wait_for_space_in_the_events_file() {
    let mut tree = Tree::new();
    for number in 0..60_u32 {
        tree.put(&format!("{number}.bin"), format!("{number} of many\n").repeat(30_000).as_bytes());
    }
    let service = tree.start_with("events::append=return(enospc)", "delete", &[]);
    // How many are in flight by then depends on the machine.
    until("the pause", || tree.log().contains("storage unavailable, intake paused"));
    let start = std::time::Instant::now();
    service.signal(rustix::process::Signal::TERM);
    assert_eq!(service.wait(), 75, "{}", tree.log());
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(!tree.log().contains("stopped at once"), "{}", tree.log());
    assert_eq!(tree.once("delete"), 0, "{}", tree.log());
    tree.assert_done("delete");
}

#[test]
fn recovery_waits_for_space_in_the_events_file_until_it_is_stopped() {
    for on_success in ["keep", "delete", "archive"] {
        let tree = Tree::with(20, 1);
        let first = tree.start_with("commit::renamed=return(kill)", on_success, &["--once"]);
        assert_eq!(first.wait(), KILLED);
        let second = tree.start_with("events::append=return(enospc)", on_success, &[]);
        until("it waits for space", || tree.log().contains("cannot write the events file"));
        second.signal(Signal::TERM);
        assert_eq!(second.wait(), 75, "{on_success}\n{}", tree.log());
        tree.assert_nothing_lost(on_success);
        let failpoints = "events::append=1*return(enospc)->off";
        assert_eq!(tree.start_with(failpoints, on_success, &["--once"]).wait(), 0);
        tree.assert_done(on_success);
    }
}

/// As a person with `sqlite3`, or a program that makes a backup: longer than a write waits for it.
#[test]
fn another_program_that_writes_to_the_ledger_delays_the_files_and_loses_none() {
    let mut tree = Tree::with(5, 1);
    let service = tree.start("delete", &[]);
    until("the first are done", || tree.files("in").is_empty());
    let other = rusqlite::Connection::open(tree.path("out/.tidemill/ledger.sqlite"));
    let other = other.expect("the ledger");
    other.execute_batch("BEGIN IMMEDIATE").expect("its lock");
    let since = Instant::now();
    let published = tree.files("out").len();
    for number in 0..20 {
        tree.put(&format!("later-{number}.log"), b"content");
    }
    until("it pauses", || tree.log().contains("another program writes to the ledger"));
    until("the other program is done", || since.elapsed() > Duration::from_secs(8));
    let final_names = |path: &PathBuf| path.extension().is_some_and(|it| it == "zst");
    assert_eq!(tree.files("out").iter().filter(|path| final_names(path)).count(), published);
    other.execute_batch("ROLLBACK").expect("its end");
    until("all are done", || tree.files("in").is_empty());
    assert!(tree.log().contains("storage available, intake resumed"), "{}", tree.log());
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", tree.log());
    tree.assert_done("delete");
}

/// The line of a file in quarantine is no acknowledgement: it waits in memory, and holds up nothing.
#[test]
fn a_quarantine_for_which_there_is_no_space_is_reported_with_the_next_line() {
    let mut tree = Tree::new();
    let command = |tree: &Tree, failpoints: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        let log = fs::File::options().append(true).create(true).open(tree.path("log"));
        command.args(["run", "in", "out", "--http", "off", "--events", "events", "--once"]);
        command
            .args(["--transform", "unzstd", "--on-success", "delete"])
            .current_dir(tree.path(""));
        command.env("FAILPOINTS", failpoints).stderr(log.expect("log"));
        Service::from(command.spawn().expect("start"))
    };
    tree.put("damaged.zst", b"this is no zstd");
    tree.put("also-damaged.zst", b"nor is this");
    let failpoints = "events::append=1*return(enospc)->off";
    assert_eq!(command(&tree, failpoints).wait(), 65, "{}", tree.log());
    let events = fs::read_to_string(tree.path("events")).expect("events");
    assert_eq!(events.matches("\"outcome\":\"quarantined\"").count(), 2, "{events}");
    // The last one has no next line.
    tree.put("last.zst", b"no zstd either");
    assert_eq!(command(&tree, failpoints).wait(), 65, "{}", tree.log());
    let events = fs::read_to_string(tree.path("events")).expect("events");
    assert_eq!(events.matches("\"outcome\":\"quarantined\"").count(), 3, "{events}");
}

/// The ledger still had the intent, and no events file had a line.
#[test]
#[expect(clippy::disallowed_methods, reason = "the consumer takes it")]
fn a_mark_that_had_no_space_is_written_before_the_end() {
    let place = TestDir::new();
    place.configure("");
    place.put("a", "content");
    let args = ["run", "--config", "tidemill.toml", "--once"];
    let failpoints = "commit::mark=1*return(enospc)->off";
    let first = Running::start(place.tidemill(&args).env("FAILPOINTS", failpoints)).end();
    assert_eq!(first.code, 0, "{first:?}");
    assert_eq!(place.state_of("a"), "done");
    fs::remove_file(place.output().join("a.zst")).expect("a consumer");
    let second = place.once(&[]);
    assert_eq!(second.code, 0, "{second:?}");
    assert!(!place.output().join("a.zst").exists());
}

/// Runs `--once` with these failpoints to its end.
fn once_with(place: &TestDir, on_success: &str, failpoints: &str) -> Ended {
    place.configure(&format!("on_success = \"{on_success}\""));
    let args = ["run", "--config", "tidemill.toml", "--once", "--events", "events"];
    Running::start(place.tidemill(&args).env("FAILPOINTS", failpoints)).end()
}

/// The summary was "0 files published, 1 skipped: nothing to do".
#[test]
fn an_output_counts_as_published_once_however_its_disposal_ends() {
    for (failpoints, code, quarantined) in
        [("", 0, 0), ("dispose=1*return(ebusy)->off", 0, 0), ("dispose=return(ebusy)", 65, 1)]
    {
        let place = TestDir::new();
        place.put("a", "content");
        let ended = once_with(&place, "delete", failpoints);
        assert_eq!(ended.code, code, "{failpoints}: {ended:?}");
        let counts = format!("published=1 quarantined={quarantined} ");
        assert!(ended.stderr.contains(&counts), "{failpoints}: {ended:?}");
        assert!(ended.stderr.contains("1 file published into out/"), "{failpoints}: {ended:?}");
    }
}

/// It was counted by neither process. What the killed one acknowledged, the next one does not count.
#[test]
fn recovery_counts_the_outputs_that_it_acknowledges() {
    for on_success in ["keep", "delete"] {
        for (name, published) in
            [("commit::intended", 1), ("commit::renamed", 1), ("commit::acknowledged", 0)]
        {
            let place = TestDir::new();
            place.put("a", "content");
            place.configure(&format!("on_success = \"{on_success}\""));
            let args = ["run", "--config", "tidemill.toml", "--once", "--events", "events"];
            let failpoints = format!("{name}=return(kill)");
            let killed = place.tidemill(&args).env("FAILPOINTS", failpoints).output();
            assert_eq!(killed.expect("run").status.code(), None);
            let ended = once_with(&place, on_success, "");
            assert_eq!(ended.code, 0, "{name}: {ended:?}");
            let counts = format!("published={published} ");
            assert!(ended.stderr.contains(&counts), "{name} {on_success}: {ended:?}");
            let summary = ["0 files published", "1 file published"][published];
            assert!(ended.stderr.contains(summary), "{name} {on_success}: {ended:?}");
        }
    }
}

/// The last mark of a busy time is one that no later commit makes durable.
#[test]
fn the_marks_of_the_last_files_are_made_durable_while_nothing_happens() {
    let place = TestDir::new();
    let running = place.watch(&[]);
    place.put("a", "content");
    let ledger = place.state().join("ledger.sqlite");
    let flushed = || {
        let ledger = rusqlite::Connection::open(&ledger).expect("open");
        let sql = "SELECT count(*) FROM meta WHERE name = 'flushes'";
        ledger.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a count") == 1
    };
    until("the mark is durable", flushed);
    assert_eq!(place.state_of("a"), "done");
    assert_eq!(running.stop().code, 0);
}
