//! SIGKILL at system calls.

use std::collections::BTreeSet;

use crate::{
    faults::trace::{self, sample},
    prove::{self, Random},
};

const KILLED: i32 = -9;

fn killed(on_success: &str) {
    let name = format!("kills at system calls, {on_success}");
    if !trace::is_possible(&name) {
        return;
    }
    let mut random = Random::new(prove::seed());
    let points = trace::points(on_success);
    let (mut kills, mut calls) = (0, BTreeSet::new());
    let chosen = sample(&points, prove::count(60), &mut random);
    for (number, point) in (0_u64..).zip(&chosen) {
        let tree = trace::tree(point.links);
        let neighbour =
            (number % 4 == 3).then(|| tree.shared("out/.tidemill", prove::seed() ^ number));
        let code = trace::tampered(&tree, on_success, point, "signal=KILL").ended();
        let expected = [Some(KILLED), Some(0)].contains(&code);
        assert!(expected, "{point:?} {on_success}: {code:?}\n{}", tree.log());
        kills += usize::from(code == Some(KILLED));
        if code == Some(KILLED) {
            calls.insert(point.call.clone());
        }
        tree.assert_nothing_lost(on_success);
        assert_eq!(tree.once(on_success), 0, "{point:?} {on_success}\n{}", tree.log());
        drop(neighbour);
        tree.assert_done(on_success);
    }
    assert!(kills * 2 > chosen.len(), "only {kills} kills met a call");
    let (points, tried, calls) = (points.len(), chosen.len(), calls.len());
    prove::report(
        &name,
        &[
            ("points", &points),
            ("tried", &tried),
            ("calls", &calls),
            ("kills", &kills),
            ("violations", &0),
        ],
    );
}

#[test]
fn a_kill_at_any_system_call_loses_nothing_that_is_kept() {
    killed("keep");
}

#[test]
fn a_kill_at_any_system_call_loses_nothing_that_is_deleted() {
    killed("delete");
}

#[test]
fn a_kill_at_any_system_call_loses_nothing_that_is_archived() {
    killed("archive");
}
