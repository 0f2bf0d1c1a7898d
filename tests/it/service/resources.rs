//! What a job held is given back: after success, failure, a panic in a stage and cancellation.

use std::fs;

use crate::harness::{Tree, until};
use rustix::process::Signal;

/// Descriptors and threads of a process.
fn held(pid: u32) -> (usize, usize) {
    let entries = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).expect("proc").flatten();
    // The runtime starts and ends threads as it likes.
    let is_of_runtime = |task: &fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        name.starts_with("tokio-r")
    };
    (entries("fd").count(), entries("task").filter(|task| !is_of_runtime(task)).count())
}

fn settled(tree: &Tree, outcomes: usize) -> bool {
    let text = fs::read_to_string(tree.path("events")).unwrap_or_default();
    text.lines().count() == outcomes
}

#[test]
fn descriptors_threads_and_temps_are_as_before_after_success_failure_and_panic() {
    let mut tree = Tree::new();
    // The eleventh to the fifteenth transformation fail, the next two panic: all are tried again, also
    // where one file meets both panics, because it has three tries.
    let failpoints = "transform=10*off->5*return(eio)->2*panic->off";
    let service = tree.start_with(failpoints, "delete", &[]);
    until("the service is ready", || tree.log().contains("phase=READY"));
    tree.put("first", b"first");
    until("the first is published", || settled(&tree, 1));
    let before = held(service.pid());
    for number in 0..100 {
        tree.put(&format!("file-{number}"), b"content");
    }
    until("all are published", || settled(&tree, 101));
    // Fewer are fine: a thread of the runtime's that had just worked ends on its own.
    until("everything is released", || {
        let (descriptors, threads) = held(service.pid());
        descriptors <= before.0 && threads <= before.1
    });
    let log = tree.log();
    assert!(log.matches("attempt failed, retrying").count() >= 5, "{log}");
    assert!(log.contains("panicked"), "{log}");
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 70, "a panic is an internal fault, and the exit code says so");
    tree.assert_done("delete");
}

#[test]
fn a_file_that_panics_every_time_goes_to_quarantine() {
    let mut tree = Tree::new();
    tree.put("bad", b"bad");
    let service = tree.start_with("transform=panic", "delete", &["--once"]);
    assert_eq!(service.wait(), 70, "{}", tree.log());
    tree.assert_no_leftovers();
    let quarantined = tree.path("out/.tidemill/quarantine/main/bad");
    assert_eq!(fs::read(quarantined).expect("the file"), b"bad");
    let reason = tree.path("out/.tidemill/quarantine/main/bad.json");
    let reason = fs::read_to_string(reason).expect("the reason");
    assert!(reason.contains("panic"), "{reason}");
}

#[test]
fn a_cancelled_large_file_leaves_nothing() {
    let mut tree = Tree::new();
    tree.put("large", &b"0123456789abcdef".repeat(1_000_000));
    let service = tree.start_with("read=sleep(50)", "delete", &[]);
    until("the service is ready", || tree.log().contains("phase=READY"));
    until("the file is in flight", || {
        tree.files("out").iter().any(|path| path.to_string_lossy().ends_with(".tmp"))
    });
    service.signal(Signal::TERM);
    service.signal(Signal::INT);
    assert_eq!(service.wait(), 75, "{}", tree.log());
    tree.assert_no_leftovers();
    assert_eq!(tree.once("delete"), 0, "{}", tree.log());
    tree.assert_done("delete");
}

#[test]
fn a_start_that_is_cut_in_its_probe_leaves_nothing() {
    let tree = Tree::with(1, 3);
    let gate = tree.path("gate");
    fs::write(&gate, "").expect("a closed gate");
    let held = format!("gate::no_replace=1*return(while:{})->off", gate.display());
    let service = tree.start_with(&held, "delete", &[]);
    until("the probe has its file", || {
        tree.files("out").iter().any(|path| path.to_string_lossy().ends_with(".tmp"))
    });
    service.signal(Signal::TERM);
    service.signal(Signal::INT);
    until("the start is cut", || tree.log().contains("phase=COMMITTING"));
    #[expect(clippy::disallowed_methods, reason = "the test opens its gate")]
    fs::remove_file(&gate).expect("open the gate");
    assert_eq!(service.wait(), 75, "{}", tree.log());
    assert!(tree.log().contains("start interrupted"), "{}", tree.log());
    tree.assert_no_leftovers();
    assert_eq!(tree.once("delete"), 0, "{}", tree.log());
    tree.assert_done("delete");
}

#[test]
fn the_smallest_limits_are_enough() {
    let tree = Tree::with(40, 3);
    fs::write(
        tree.path("config.toml"),
        "events = \"events\"\nhttp = \"off\"\nonce = true\n[limits]\nfiles = 1\nmemory = \"32MiB\"\nworkers = 1\n[[pipeline]]\ninput = \"in\"\noutput = \"out\"\n",
    )
    .expect("write");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(["run", "--config", "config.toml"]).current_dir(tree.path(""));
    let service = crate::harness::Service::from(command.spawn().expect("start"));
    assert_eq!(service.wait(), 0);
    tree.assert_done("keep");
}
