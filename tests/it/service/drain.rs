//! SIGTERM in each of the eight stages, the second and the third signal, the deadline.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    harness::{Service, Tree, until},
    prove,
};
use rusqlite::Connection;
use rustix::process::Signal;
use tidemill::failpoint::NAMES;

/// The service sends itself SIGTERM at this pass of a failpoint, while it watches and has work.
fn terminated_at(name: &str) {
    for on_success in ["keep", "delete", "archive"] {
        let tree = Tree::with(60, 3);
        // A batch may be all there is: what is met once for each is met at its first pass.
        let before = if name.starts_with("commit") { 0 } else { 3 };
        let failpoints = format!("{name}={before}*off->1*return(term)->off");
        let code = tree.start_with(&failpoints, on_success, &[]).wait();
        assert_eq!(code, 0, "{name} {on_success}\n{}", tree.log());
        tree.assert_no_leftovers();
        tree.assert_nothing_lost(on_success);
        assert_logged(&tree.log());
        assert_eq!(tree.once(on_success), 0, "{name} {on_success}\n{}", tree.log());
        tree.assert_done(on_success);
    }
}

/// The last report: no task, no temporary file, no more descriptors than at the start.
fn assert_logged(log: &str) {
    let report =
        log.lines().rfind(|line| line.contains("event=service.resources ")).expect("a report");
    let number = |name: &str| -> usize {
        let at = report.find(name).unwrap_or_else(|| panic!("{name} in {report}"));
        let digits = report[at + name.len()..].split(' ').next().expect("a value");
        digits.parse().expect("a number")
    };
    assert_eq!(number("tasks_alive="), 0, "{report}");
    assert_eq!(number("temporary_files="), 0, "{report}");
    assert!(number("descriptors_now=") <= number("descriptors_at_start="), "{report}");
}

#[test]
fn sigterm_in_the_intake_and_in_process_leaves_no_temporary_file_no_lost_and_no_double_file() {
    let names = NAMES.iter().filter(|name| !name.contains("commit") && !name.contains("dispose"));
    names.for_each(|name| terminated_at(name));
}

#[test]
fn sigterm_in_commit_leaves_no_temporary_file_no_lost_and_no_double_file() {
    NAMES.iter().filter(|name| name.starts_with("commit")).for_each(|name| terminated_at(name));
}

#[test]
fn sigterm_in_dispose_leaves_no_temporary_file_no_lost_and_no_double_file() {
    // With `keep` nothing is disposed of, and the failpoint is never met.
    for name in NAMES.iter().filter(|name| name.starts_with("dispose")) {
        for on_success in ["delete", "archive"] {
            if on_success == "archive" && *name == "dispose::unlink" {
                continue;
            }
            let tree = Tree::with(60, 3);
            let failpoints = format!("{name}=3*off->1*return(term)->off");
            assert_eq!(tree.start_with(&failpoints, on_success, &[]).wait(), 0, "{}", tree.log());
            tree.assert_no_leftovers();
            tree.assert_nothing_lost(on_success);
            assert_eq!(tree.once(on_success), 0, "{}", tree.log());
            tree.assert_done(on_success);
        }
    }
}

/// A service that takes long for each file, and has begun with the first.
fn slow(tree: &Tree, failpoints: &str, more: &[&str]) -> Service {
    let service = tree.start_with(failpoints, "delete", more);
    until("the service is ready", || tree.log().contains("phase=READY"));
    until("work has begun", || tree.files("out").iter().any(|_| true));
    service
}

/// Many files wait for what is being worked on; with the slow ones all would take too long.
fn handed_back(tree: &Tree, failpoints: &str) {
    let service = tree.start_with(failpoints, "delete", &[]);
    until("the service is ready", || tree.log().contains("phase=READY"));
    until("one is through", || !tree.acknowledged().is_empty());
    let start = Instant::now();
    service.signal(Signal::TERM);
    assert_eq!(
        service.wait(),
        0,
        "what was begun is finished, and the rest is no failure\n{}",
        tree.log()
    );
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    let (published, left) = (tree.acknowledged().len(), tree.files("in").len());
    assert!(left > 0, "it was all done: nothing was there to be handed back");
    assert_eq!(published + left, tree.contents.len(), "{}", tree.log());
    tree.assert_no_leftovers();
    tree.assert_nothing_lost("delete");
    assert!(tree.log().contains("unfinished=0"), "{}", tree.log());
    assert_eq!(tree.once("delete"), 0, "{}", tree.log());
    tree.assert_done("delete");
}

#[test]
fn large_files_that_wait_for_a_lane_are_handed_back_at_the_stop() {
    handed_back(&Tree::with(0, 60), "read=sleep(400)");
}

#[test]
fn small_files_whose_transform_has_not_begun_are_handed_back_at_the_stop() {
    handed_back(&Tree::with(600, 0), "transform=sleep(200)");
}

#[test]
fn once_that_is_stopped_says_that_work_is_left() {
    let tree = Tree::with(600, 0);
    let service = tree.start_with("transform=sleep(200)", "delete", &["--once"]);
    until("one is through", || !tree.acknowledged().is_empty());
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 75, "{}", tree.log());
    assert_eq!(tree.once("delete"), 0, "{}", tree.log());
    tree.assert_done("delete");
}

/// It waited for the input indefinitely, and every later run found the state directory in use.
#[test]
fn once_gives_up_where_the_input_goes_away() {
    let tree = Tree::with(300, 0);
    let service =
        tree.start_with("transform=sleep(100)", "delete", &["--once", "--sandbox", "off"]);
    until("one is through", || !tree.acknowledged().is_empty());
    #[expect(clippy::disallowed_methods, reason = "the operator takes it away")]
    std::fs::rename(tree.path("in"), tree.path("away")).expect("rename");
    assert_eq!(service.wait(), 75, "{}", tree.log());
    #[expect(clippy::disallowed_methods, reason = "the operator brings it back")]
    std::fs::rename(tree.path("away"), tree.path("in")).expect("rename");
    assert_eq!(tree.once("delete"), 0, "{}", tree.log());
    tree.assert_done("delete");
}

#[test]
fn small_files_pass_more_large_ones_than_there_are_permits() {
    let mut tree = Tree::with(0, 40);
    let config = "[[pipeline]]\ninput = \"in\"\noutput = \"out\"\n[limits]\nfiles = 16\n";
    std::fs::write(tree.path("config.toml"), config).expect("configuration");
    let mut command = tree.configured("config.toml");
    command.env("FAILPOINTS", "read=sleep(400)");
    let service = Service::from(command.spawn().expect("start"));
    until("the lanes have begun", || tree.log().contains("published"));
    tree.put("small.log", b"passes");
    let start = Instant::now();
    let passed = || tree.path("out/small.log.zst").exists();
    until("the small one is through", passed);
    let large = tree.files("out").len();
    assert!(large < 30, "{large} of 40 large ones came first, in {:?}", start.elapsed());
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", tree.log());
}

#[test]
fn the_second_signal_leaves_work_behind_and_says_so() {
    let tree = Tree::with(300, 3);
    let service = slow(&tree, "write=sleep(20)", &[]);
    service.signal(Signal::TERM);
    until("the drain has begun", || tree.log().contains("phase=DRAINING"));
    service.signal(Signal::INT);
    assert_eq!(service.wait(), 75, "{}", tree.log());
    tree.assert_no_leftovers();
    tree.assert_nothing_lost("delete");
    assert!(!tree.files("in").is_empty(), "work was left");
    assert!(
        tree.log().contains("unfinished at shutdown, deferred to the next start"),
        "{}",
        tree.log()
    );
    assert_logged(&tree.log());
    assert_eq!(tree.once("delete"), 0, "{}", tree.log());
    tree.assert_done("delete");
}

#[test]
fn the_third_signal_ends_at_once_whatever_hangs() {
    let tree = Tree::with(50, 0);
    let service = slow(&tree, "commit::directory=2*off->sleep(3600000)", &[]);
    service.signal(Signal::TERM);
    until("the drain has begun", || tree.log().contains("phase=DRAINING"));
    service.signal(Signal::INT);
    until("the cut was made", || tree.log().contains("phase=COMMITTING"));
    let start = Instant::now();
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 75, "{}", tree.log());
    assert!(start.elapsed() < prove::allowed(Duration::from_secs(2)), "{:?}", start.elapsed());
    assert_eq!(tree.once("delete"), 0, "{}", tree.log());
    tree.assert_done("delete");
}

#[test]
fn the_deadline_ends_what_hangs_and_the_next_start_takes_it_up() {
    for deadline in ["0", "100ms", "1s", "3s"] {
        let tree = Tree::with(50, 0);
        let hang = "commit::directory=2*off->sleep(3600000)";
        let service = slow(&tree, hang, &["--shutdown-deadline", deadline]);
        let allowed = tidemill::config::duration(deadline).expect("a duration");
        let start = Instant::now();
        service.signal(Signal::TERM);
        assert_eq!(service.wait(), 75, "{}", tree.log());
        let took = start.elapsed();
        let most = prove::allowed(allowed + Duration::from_secs(2));
        assert!(took < most, "{deadline}: {took:?}\n{}", tree.log());
        assert_eq!(tree.once("delete"), 0, "{}", tree.log());
        tree.assert_done("delete");
    }
}

#[test]
fn an_idle_service_ends_at_once_with_code_0() {
    let tree = Tree::new();
    let service = tree.start("keep", &[]);
    until("the service is ready", || tree.log().contains("phase=READY"));
    let start = Instant::now();
    service.signal(Signal::INT);
    assert_eq!(service.wait(), 0, "{}", tree.log());
    assert!(start.elapsed() < prove::allowed(Duration::from_secs(1)), "{:?}", start.elapsed());
    assert_logged(&tree.log());
}

/// The task that makes marks durable ended with the beginning of the drain. After a power loss recovery questioned what a
/// consumer had taken.
#[test]
fn a_mark_becomes_durable_while_another_file_delays_the_drain() {
    let tree = Tree::new();
    let pipeline = |name: &str| {
        format!("[[pipeline]]\nname = \"{name}\"\ninput = \"in-{name}\"\noutput = \"out-{name}\"\n")
    };
    let config = format!(
        "state_dir = \"state\"\n{}{}",
        pipeline("slow") + "verify = true\n",
        pipeline("fast")
    );
    std::fs::write(tree.path("config.toml"), config).expect("configuration");
    for name in ["slow", "fast"] {
        std::fs::create_dir(tree.path(&format!("in-{name}"))).expect("directory");
        std::fs::write(tree.path(name), "").expect("gate");
    }
    let gate =
        |point: &str, name: &str| format!("{point}=return(while:{})", tree.path(name).display());
    let failpoints = [gate("verify", "slow"), gate("commit::acknowledged", "fast")].join(";");
    let mut command = tree.configured("config.toml");
    let service = Service::from(command.env("FAILPOINTS", failpoints).spawn().expect("start"));
    until("it is ready", || tree.log().contains("phase=READY"));
    for name in ["slow", "fast"] {
        std::fs::write(tree.path(&format!("in-{name}/a")), "content").expect("write");
    }
    until("both are in flight", || {
        let mut status = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        status.args(["status", "--json", "--state-dir"]).arg(tree.path("state"));
        let status = String::from_utf8(status.output().expect("status").stdout).expect("UTF-8");
        status.matches("\"in_flight\":1").count() == 2
    });
    service.signal(Signal::TERM);
    until("it drains", || tree.log().contains("phase=DRAINING"));
    let flushes = || -> i64 {
        let ledger = Connection::open(tree.path("state/ledger.sqlite")).expect("open");
        let sql = "SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'flushes'";
        ledger.query_row(sql, [], |row| row.get(0)).unwrap_or(0)
    };
    let before = flushes();
    rustix::fs::unlink(tree.path("fast")).expect("remove");
    until("the mark is durable", || flushes() > before);
    rustix::fs::unlink(tree.path("slow")).expect("remove");
    assert_eq!(service.wait(), 0, "{}", tree.log());
}
