//! Each system call fails once, with each error.

use std::{collections::BTreeMap, fs, process::Command, time::Duration};

use crate::{
    faults::trace::{self, Point, sample},
    harness::{PATIENCE, Tree},
    prove::{self, Random},
};

/// SQLite takes an unlocking that failed for a lock that another process has. The service waits for it:
/// a few times in each stage that writes to the ledger, and a minute where it withdraws an intent.
const WITH_A_STUCK_LOCK: Duration = Duration::from_mins(3);
const DISPOSITIONS: [&str; 3] = ["keep", "delete", "archive"];
/// Where the program loader meets the error, before `main`, or the runtime, in a wake-up.
const NOT_OURS: [i32; 3] = [127, -6, -11];
fn failing_with(error: &str) {
    let name = format!("system calls failing with {error}");
    if !trace::is_possible(&name) {
        return;
    }
    let mut random = Random::new(prove::seed());
    let mut points = trace::points("archive");
    // Of the runtime, and of no file.
    points.retain(|point| !point.call.starts_with("epoll"));
    let mut codes: BTreeMap<i32, usize> = BTreeMap::new();
    let chosen = sample(&points, prove::count(40), &mut random);
    for (round, point) in chosen.iter().enumerate() {
        let on_success = DISPOSITIONS[round % DISPOSITIONS.len()];
        let code = fails(point, error, on_success);
        *codes.entry(code).or_default() += 1;
    }
    let codes = format!("{codes:?}").replace(' ', "");
    prove::report(
        &name,
        &[
            ("points", &points.len()),
            ("errors", &chosen.len()),
            ("exit_codes", &codes),
            ("violations", &0),
        ],
    );
}

/// The code of a run that was killed because its runtime's wake-up failed: that is a `write` too,
/// to no file, and no kernel fails it.
const WAKE_UP: i32 = -9;

fn is_wake_up(tree: &Tree) -> bool {
    tree.log().contains("failed to wake I/O driver")
}

fn requeue(tree: &Tree) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(["requeue", "--all", "--state-dir"]).arg(tree.path("out/.tidemill"));
    let output = command.output().expect("requeue");
    assert!(output.status.success(), "{output:?}\n{}", tree.log());
}

/// One run with one error, and one without. The exit code of the first.
fn fails(point: &Point, error: &str, on_success: &str) -> i32 {
    let tree = trace::tree(point.links);
    let traced = trace::tampered(&tree, on_success, point, &format!("error={error}"));
    let code =
        traced.ended_within(if point.call == "fcntl" { WITH_A_STUCK_LOCK } else { PATIENCE });
    let Some(code) = code.or_else(|| is_wake_up(&tree).then_some(WAKE_UP)) else {
        panic!("{point:?} {error} {on_success}: it does not end\n{}", tree.log());
    };
    println!("{point:?} {error} {on_success}: {code}");
    let what = || format!("{point:?} {error} {on_success}: {code}\n{}", tree.log());
    let expected = [0, 65, 70, 74, 75, 78, WAKE_UP];
    assert!(expected.contains(&code) || NOT_OURS.contains(&code), "{}", what());
    // What no kernel answers, such as a `close` of a directory that fails, makes the standard
    // library and the runtime panic; the process ends as by a kill.
    assert!(!tree.log().contains("location=src/"), "{}", what());
    if code == 65 {
        // Every thread that lives no longer than one file meets the error once, so a file can fail
        // at each of its tries: a person puts it back.
        requeue(&tree);
    }
    tree.assert_nothing_lost(on_success);
    if code == 0 {
        tree.assert_done(on_success);
    }
    assert_eq!(tree.once(on_success), 0, "{}", what());
    tree.assert_done(on_success);
    code
}

#[test]
fn an_input_output_error_at_any_call_loses_nothing() {
    failing_with("EIO");
}

#[test]
fn a_full_disk_at_any_call_loses_nothing() {
    failing_with("ENOSPC");
}

#[test]
fn a_full_quota_at_any_call_loses_nothing() {
    failing_with("EDQUOT");
}

#[test]
fn a_lack_of_descriptors_at_any_call_loses_nothing() {
    failing_with("EMFILE");
}

#[test]
fn an_interruption_of_any_call_loses_nothing() {
    failing_with("EINTR");
}

#[test]
fn a_stale_handle_at_any_call_loses_nothing() {
    failing_with("ESTALE");
}

/// It was the first thing that the intake did, and `--once` ended well with nothing done.
#[test]
fn an_input_that_cannot_be_opened_for_a_moment_is_opened_again() {
    if !trace::is_possible("an input that cannot be opened") {
        return;
    }
    for on_success in DISPOSITIONS {
        let point = Point { call: "fstatfs".to_owned(), number: 1, links: false };
        assert_eq!(fails(&point, "EMFILE", on_success), 0);
    }
}

/// The files of the probes and of the work are removed at the second try: nothing sweeps after a
/// stop that was clean.
#[test]
fn a_removal_that_fails_once_leaves_nothing_behind() {
    if !trace::is_possible("a removal that fails") {
        return;
    }
    for number in 1..=12 {
        let point = Point { call: "unlinkat".to_owned(), number, links: number % 2 == 1 };
        fails(&point, "EMFILE", DISPOSITIONS[number % DISPOSITIONS.len()]);
        fails(&point, "EIO", "archive");
        if point.links {
            fails(&point, "ESTALE", "archive");
        }
    }
}

/// A checkpoint syncs the ledger's log before it moves it, and its failure was dropped: the kernel
/// forgets what it could not write, and later commits counted as durable behind the hole.
#[test]
fn a_sync_of_the_ledger_that_fails_ends_the_service_in_each_thread() {
    if !trace::is_possible("a failed sync of the ledger") {
        return;
    }
    let failing = |file: &str, number: usize| -> (Option<i32>, usize, Tree) {
        let tree = Tree::with(300, 0);
        let calls = tree.path("calls");
        let service = tree.command("keep", &["--once", "--state-dir", "out/.tidemill"]);
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "trace=fsync,fdatasync", "-o"]).arg(&calls);
        strace.arg("-P").arg(tree.path("out/.tidemill").join(file));
        strace.args(["-e", &format!("inject=fsync,fdatasync:error=EIO:when={number}")]);
        strace.arg(service.get_program()).args(service.get_args()).current_dir(tree.path(""));
        let log = fs::File::options().append(true).create(true).open(tree.path("log"));
        let code = strace.stderr(log.expect("log")).status().expect("strace").code();
        let calls = fs::read_to_string(calls).unwrap_or_default();
        (code, calls.matches("INJECTED").count(), tree)
    };
    let mut met = 0;
    for (file, numbers) in [("ledger.sqlite-wal", [1, 2, 5]), ("ledger.sqlite", [1, 2, 3])] {
        for number in numbers {
            let (code, injected, tree) = failing(file, number);
            met += injected;
            let wanted = if injected > 0 { Some(74) } else { Some(0) };
            assert_eq!(code, wanted, "{file} {number}\n{}", tree.log());
            assert_eq!(tree.once("keep"), 0, "{}", tree.log());
            tree.assert_done("keep");
        }
    }
    assert!(met > 2, "only {met} syncs failed");
}

/// SQLite reports a full disk for ENOSPC only: a quota ended the service with 74, at each start again.
#[test]
fn a_write_of_the_ledger_without_space_is_repeated_whatever_the_limit() {
    if !trace::is_possible("a write of the ledger without space") {
        return;
    }
    let files = [
        ("ledger.sqlite-wal", "EDQUOT", [1, 2, 20]),
        ("ledger.sqlite", "EDQUOT", [1, 2, 3]),
        ("ledger.sqlite-shm", "ENOSPC", [1, 2, 3]),
    ];
    for (file, error, numbers) in files {
        let mut met = 0;
        for number in numbers {
            let tree = Tree::with(50, 0);
            let calls = tree.path("calls");
            let service = tree.command("keep", &["--once", "--state-dir", "out/.tidemill"]);
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-e", "trace=write,pwrite64", "-o"]).arg(&calls);
            strace.arg("-P").arg(tree.path("out/.tidemill").join(file));
            strace.args(["-e", &format!("inject=write,pwrite64:error={error}:when={number}")]);
            strace.arg(service.get_program()).args(service.get_args()).current_dir(tree.path(""));
            let log = fs::File::options().append(true).create(true).open(tree.path("log"));
            let code = strace.stderr(log.expect("log")).status().expect("strace").code();
            met += fs::read_to_string(calls).unwrap_or_default().matches("INJECTED").count();
            assert_eq!(code, Some(0), "{file} {number}\n{}", tree.log());
            tree.assert_done("keep");
        }
        assert!(met > 0, "no write of {file} failed");
    }
}
