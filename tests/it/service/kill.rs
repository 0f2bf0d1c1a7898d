//! SIGKILL at every failpoint and at random instants: a restart finishes the work, once.

use std::time::Duration;

use crate::{
    harness::Tree,
    mounts::Mount,
    prove::{self, Random},
};
use rustix::process::Signal;
use tidemill::failpoint::{NAMES, RECOVERY_NAMES, STORE_NAMES};

const DISPOSITIONS: [&str; 3] = ["keep", "delete", "archive"];
const KILLED: i32 = -9;

/// Kills at the first, at a middle and at a late pass of a failpoint, then starts again.
fn killed_at(name: &str) {
    for on_success in DISPOSITIONS {
        for passes_before in [0, 7, 25] {
            let tree = Tree::with(30, 2).with_archived();
            let failpoints = format!("{name}={passes_before}*off->return(kill)");
            let code = tree.start_with(&failpoints, on_success, &["--once"]).wait();
            let may_miss = passes_before > 0 || is_not_met(name, on_success);
            let expected = code == KILLED || (may_miss && code == 0);
            assert!(expected, "{name} {on_success}: {code}\n{}", tree.log());
            tree.assert_nothing_lost(on_success);
            assert_eq!(tree.once(on_success), 0, "{name} {on_success}\n{}", tree.log());
            tree.assert_done(on_success);
        }
    }
}

/// What is kept is not disposed of, what is archived is not unlinked, and few files make no long log.
fn is_not_met(name: &str, on_success: &str) -> bool {
    match on_success {
        _ if name == "ledger::checkpoint" => true,
        "keep" => name.starts_with("dispose"),
        "archive" => name == "dispose::unlink",
        _ => false,
    }
}

#[test]
fn a_kill_at_any_failpoint_of_the_intake_and_of_process_loses_and_doubles_nothing() {
    NAMES.iter().filter(|name| !is_publish(name)).for_each(|name| killed_at(name));
}

#[test]
fn a_kill_at_any_failpoint_of_commit_loses_and_doubles_nothing() {
    NAMES.iter().filter(|name| name.starts_with("commit")).for_each(|name| killed_at(name));
}

#[test]
fn a_kill_at_any_failpoint_of_dispose_loses_and_doubles_nothing() {
    NAMES.iter().filter(|name| name.starts_with("dispose")).for_each(|name| killed_at(name));
}

#[test]
fn a_kill_at_any_failpoint_of_the_events_file_and_the_ledger_loses_and_doubles_nothing() {
    for name in STORE_NAMES {
        killed_at(name);
    }
}

fn is_publish(name: &str) -> bool {
    name.starts_with("commit") || name.starts_with("dispose")
}

#[test]
fn a_kill_during_recovery_is_recovered_from() {
    for on_success in DISPOSITIONS {
        for name in RECOVERY_NAMES {
            let tree = Tree::with(30, 1).with_archived();
            let first = tree.start_with("commit::renamed=return(kill)", on_success, &["--once"]);
            assert_eq!(first.wait(), KILLED);
            let failpoints = format!("{name}=return(kill)");
            let second = tree.start_with(&failpoints, on_success, &["--once"]);
            assert_eq!(second.wait(), KILLED, "{name}");
            tree.assert_nothing_lost(on_success);
            assert_eq!(tree.once(on_success), 0, "{}", tree.log());
            tree.assert_done(on_success);
        }
    }
}

#[test]
fn a_move_to_quarantine_that_a_kill_cut_short_is_finished_though_a_new_file_has_the_name() {
    for on_success in ["delete", "archive"] {
        let mut tree = Tree::new();
        std::fs::write(tree.path("out/a.zst"), "another program's").expect("write");
        tree.put("a", b"first");
        let cut = tree.start_with("dispose::taken=return(kill)", on_success, &["--once"]).wait();
        assert_eq!(cut, KILLED, "{}", tree.log());
        tree.put("a", b"second");
        assert_eq!(tree.once(on_success), 65, "{}", tree.log());
        tree.assert_no_leftovers();
        let quarantine = tree.path("out/.tidemill/quarantine/main");
        for (name, content) in [("a", "first"), ("a.1", "second")] {
            let found = std::fs::read_to_string(quarantine.join(name));
            assert_eq!(found.expect(name), content, "{name}\n{}", tree.log());
        }
        assert!(tree.files("in").is_empty(), "{:?}", tree.files("in"));
        let events = std::fs::read_to_string(tree.path("events")).expect("events");
        assert_eq!(events.matches(r#""outcome":"quarantined""#).count(), 2, "{events}");
    }
}

#[expect(clippy::disallowed_methods, reason = "the consumer takes it")]
fn take(output: &std::path::Path) {
    std::fs::remove_file(output).expect("take");
}

/// Recovery counted the source as removed while it had its private name.
#[test]
fn a_disposal_that_recovery_cannot_finish_publishes_nothing_again() {
    is_not_published_again("dispose::unlink");
}

/// The line of its output was durable, its record was an intent, and the attempt moved its change time.
#[test]
fn an_acknowledged_source_that_recovery_cannot_dispose_of_is_not_published_again() {
    is_not_published_again("commit::acknowledged");
}

fn is_not_published_again(killed_at: &str) {
    for second in ["dispose::taken=1*return(eio)->off", "dispose::unlink=1*return(eio)->off"] {
        is_not_published_after(killed_at, second);
    }
}

fn is_not_published_after(killed_at: &str, second: &str) {
    let mut tree = Tree::new();
    tree.put("a", b"content");
    let run = |failpoints: &str| {
        let options = ["--once", "--on-exists", "suffix"];
        tree.start_with(failpoints, "delete", &options).wait()
    };
    assert_eq!(run(&format!("{killed_at}=return(kill)")), KILLED, "{}", tree.log());
    take(&tree.path("out/a.zst"));
    let left = run(second);
    assert!([0, 75].contains(&left), "{left}\n{}", tree.log());
    assert_eq!(run(""), 0, "{}", tree.log());
    assert!(tree.files("out").is_empty(), "{:?}\n{}", tree.files("out"), tree.log());
    assert!(tree.files("in").is_empty(), "{:?}\n{}", tree.files("in"), tree.log());
}

/// 200 kills, or as many as are asked for, each after a restart on what the one before left; ten on
/// each tree.
#[test]
fn a_kill_at_200_random_instants_loses_and_doubles_nothing() {
    let mut random = Random::new(prove::seed());
    let trees = prove::count(200).div_ceil(10);
    let mut hits = 0;
    for round in 0..trees {
        let on_success = DISPOSITIONS[round % 3];
        let tree = Tree::with(400, 4).by_links(round % 2 == 1);
        // The archive on another file system, which gets copies.
        let _mount = (round % 6 == 2).then(|| Mount::memory(&tree.path("archive"), "64m"));
        let tree = tree.with_archived();
        let neighbour =
            (round % 4 == 3).then(|| tree.shared("out/.tidemill", prove::seed() ^ round as u64));
        for _ in 0..10 {
            let service = tree.start(on_success, &["--once"]);
            std::thread::park_timeout(Duration::from_micros(random.below(60_000)));
            service.signal(Signal::KILL);
            let code = service.wait();
            assert!([KILLED, 0].contains(&code), "{code}\n{}", tree.log());
            hits += usize::from(code == KILLED);
            tree.assert_nothing_lost(on_success);
        }
        assert_eq!(tree.once(on_success), 0, "round {round}\n{}", tree.log());
        drop(neighbour);
        tree.assert_done(on_success);
    }
    // On a machine with nothing else to do, half of the runs end before their kill.
    assert!(hits >= trees * 2, "only {hits} of {} kills met a running service", trees * 10);
    prove::report("kills at random instants", &[("kills", &hits), ("violations", &0)]);
}

#[test]
fn a_ledger_that_is_full_for_a_moment_ends_nothing() {
    for on_success in DISPOSITIONS {
        for (failpoints, expected) in [
            ("commit::intent=1*return(enospc)->off", 0),
            ("commit::mark=2*return(enospc)->off", 0),
            // The next start has the records to finish.
            ("commit::mark=return(enospc)", 75),
        ] {
            let tree = Tree::with(60, 1);
            let code = tree.start_with(failpoints, on_success, &["--once"]).wait();
            assert_eq!(code, expected, "{failpoints} {on_success}\n{}", tree.log());
            tree.assert_done(on_success);
            assert_eq!(tree.once(on_success), 0, "{}", tree.log());
            tree.assert_done(on_success);
        }
    }
}

/// Also before recovery reads which lines the last run's are.
#[test]
fn an_events_file_that_is_full_for_a_moment_ends_no_recovery() {
    for on_success in DISPOSITIONS {
        for full in ["append", "sync"] {
            let tree = Tree::with(8, 1);
            let killed = tree.start_with("commit::renamed=return(kill)", on_success, &["--once"]);
            assert_eq!(killed.wait(), KILLED);
            let failpoints = format!("events::{full}=1*return(enospc)->off");
            let code = tree.start_with(&failpoints, on_success, &["--once"]).wait();
            assert_eq!(code, 0, "{full} {on_success}\n{}", tree.log());
            tree.assert_done(on_success);
        }
    }
}

/// Both the first look at a file and the one at a file that is to be tried again.
#[test]
fn a_look_that_fails_for_a_moment_forgets_no_file() {
    for on_success in DISPOSITIONS {
        for failpoints in [
            "discover=1*return(eio)->off",
            "read=1*return(eio)->off;discover=9*off->1*return(eio)->off",
        ] {
            let tree = Tree::with(8, 1);
            let code = tree.start_with(failpoints, on_success, &["--once"]).wait();
            assert_eq!(code, 0, "{failpoints} {on_success}\n{}", tree.log());
            tree.assert_done(on_success);
        }
    }
}

/// A source that was taken by its private name, and then cannot be looked at.
#[test]
fn a_disposal_that_fails_half_way_gives_the_source_its_name_back() {
    for on_success in ["delete", "archive"] {
        for failpoints in ["dispose::taken=2*off->1*return(eio)->off", "dispose=1*return(eio)->off"]
        {
            let tree = Tree::with(8, 1);
            let code = tree.start_with(failpoints, on_success, &["--once"]).wait();
            assert_eq!(code, 0, "{failpoints} {on_success}\n{}", tree.log());
            tree.assert_done(on_success);
        }
    }
}
