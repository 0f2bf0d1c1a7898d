use super::*;
use crate::ledger::{When, sqlite::Sqlite};

const READ: Identity = Identity { device: 1, inode: 7, size: 100, modified_ns: 50, changed_ns: 60 };

fn record(state: State, moved: bool) -> Record {
    Record {
        id: 1,
        pipeline: 1,
        source: "a".into(),
        identity: READ,
        output: None,
        on_success: OnSuccess::Keep,
        state,
        reason: None,
        moved_to: moved.then(|| "q/a".into()),
        at_ns: 0,
    }
}

#[test]
fn only_the_same_file_is_known() {
    let written_since = Identity { size: 120, modified_ns: 70, changed_ns: 70, ..READ };
    let touched = Identity { changed_ns: 70, ..READ };
    let touched_earlier = Identity { changed_ns: 50, ..READ };
    let emptied_by_power_loss = Identity { size: 0, modified_ns: 40, changed_ns: 40, ..READ };
    let other_file = Identity { inode: 8, ..READ };
    for (state, moved, found, keep, delete) in [
        (State::Done, false, READ, Known::Done, Known::DisposeAgain),
        (State::Done, false, written_since, Known::New, Known::New),
        (State::Done, false, touched, Known::Touched, Known::Touched),
        (State::Published, false, touched, Known::Touched, Known::Touched),
        (State::Done, false, touched_earlier, Known::Touched, Known::Touched),
        (State::Done, false, other_file, Known::Touched, Known::Touched),
        (State::Done, false, Identity { size: 9, ..other_file }, Known::New, Known::New),
        (State::Changed, false, touched, Known::Touched, Known::Touched),
        (State::Done, false, emptied_by_power_loss, Known::Earlier, Known::Earlier),
        (State::Published, false, emptied_by_power_loss, Known::Earlier, Known::Earlier),
        (State::Changed, false, emptied_by_power_loss, Known::Earlier, Known::Earlier),
        (State::Quarantined, false, READ, Known::InQuarantine, Known::InQuarantine),
        (State::Quarantined, true, READ, Known::MoveAgain, Known::MoveAgain),
        (State::Quarantined, false, written_since, Known::New, Known::New),
        (State::Requeued, false, READ, Known::New, Known::New),
        (State::Skipped, false, READ, Known::Skipped, Known::Skipped),
        (State::Intent, false, READ, Known::Unfinished, Known::Unfinished),
        (State::Published, false, READ, Known::Done, Known::DisposeAgain),
    ] {
        let record = record(state, moved);
        assert_eq!(known(Some(&record), &found, &OnSuccess::Keep), keep, "{state} {found:?}");
        assert_eq!(known(Some(&record), &found, &OnSuccess::Delete), delete, "{state} {found:?}");
    }
    assert_eq!(known(None, &READ, &OnSuccess::Keep), Known::New);
}

/// A power loss can undo a delivery that its producer never made durable: what it had replaced is
/// there again, or what is left of that.
#[test]
fn what_a_newer_file_had_replaced_is_known_when_it_comes_back() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let ledger = Sqlite::open(&dir.path().join("ledger.sqlite")).expect("open");
    let pipeline = ledger.pipeline("main", "/in".as_ref(), "/out".as_ref()).expect("register");
    let newer = Identity { inode: 8, modified_ns: 150, changed_ns: 160, ..READ };
    for (identity, state) in [(READ, State::Done), (newer, State::Published)] {
        let record = Record { id: ledger.next_id(), pipeline, identity, ..record(state, false) };
        ledger.append(&[record], When::Now).expect("append");
    }
    let sort = |found: Identity| {
        let record = recorded(&ledger, pipeline, "a".as_ref(), &found).expect("look up");
        known(record.as_ref(), &found, &OnSuccess::Delete)
    };
    assert_eq!(sort(newer), Known::DisposeAgain);
    assert_eq!(sort(READ), Known::DisposeAgain, "whole");
    assert_eq!(sort(Identity { size: 0, ..READ }), Known::Earlier, "emptied");
    let reused = Identity { inode: 7, modified_ns: 170, changed_ns: 180, ..READ };
    assert_eq!(sort(reused), Known::New, "another file that has the inode");
    let copied = Identity { changed_ns: 180, ..READ };
    assert_eq!(sort(copied), Known::New, "one that has its time besides");
}
