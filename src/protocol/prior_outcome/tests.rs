use super::*;
use crate::ledger::{Flush, sqlite::Sqlite};

const READ: Fingerprint =
    Fingerprint { device: 1, inode: 7, size: 100, modified_ns: 50, changed_ns: 60 };

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
fn only_the_same_file_has_a_prior_outcome() {
    use PriorOutcome as Is;
    let written_since = Fingerprint { size: 120, modified_ns: 70, changed_ns: 70, ..READ };
    let touched = Fingerprint { changed_ns: 70, ..READ };
    let touched_earlier = Fingerprint { changed_ns: 50, ..READ };
    let emptied_by_power_loss = Fingerprint { size: 0, modified_ns: 40, changed_ns: 40, ..READ };
    let other_file = Fingerprint { inode: 8, ..READ };
    for (state, moved, found, keep, delete) in [
        (State::Done, false, READ, Is::Done, Is::RetryDispose),
        (State::Done, false, written_since, Is::New, Is::New),
        (State::Done, false, touched, Is::MetadataChanged, Is::MetadataChanged),
        (State::Published, false, touched, Is::MetadataChanged, Is::MetadataChanged),
        (State::Done, false, touched_earlier, Is::MetadataChanged, Is::MetadataChanged),
        (State::Done, false, other_file, Is::MetadataChanged, Is::MetadataChanged),
        (State::Done, false, Fingerprint { size: 9, ..other_file }, Is::New, Is::New),
        (State::Changed, false, touched, Is::MetadataChanged, Is::MetadataChanged),
        (State::Done, false, emptied_by_power_loss, Is::RolledBack, Is::RolledBack),
        (State::Published, false, emptied_by_power_loss, Is::RolledBack, Is::RolledBack),
        (State::Changed, false, emptied_by_power_loss, Is::RolledBack, Is::RolledBack),
        (State::Quarantined, false, READ, Is::InQuarantine, Is::InQuarantine),
        (State::Quarantined, true, READ, Is::RetryQuarantine, Is::RetryQuarantine),
        (State::Quarantined, false, written_since, Is::New, Is::New),
        (State::Requeued, false, READ, Is::New, Is::New),
        (State::Skipped, false, READ, Is::Skipped, Is::Skipped),
        (State::Intent, false, READ, Is::Unfinished, Is::Unfinished),
        (State::Published, false, READ, Is::Done, Is::RetryDispose),
    ] {
        let record = record(state, moved);
        assert_eq!(
            prior_outcome(Some(&record), &found, &OnSuccess::Keep),
            keep,
            "{state} {found:?}"
        );
        assert_eq!(
            prior_outcome(Some(&record), &found, &OnSuccess::Delete),
            delete,
            "{state} {found:?}"
        );
    }
    assert_eq!(prior_outcome(None, &READ, &OnSuccess::Keep), Is::New);
}

/// A power loss can undo a delivery that its producer never made durable: the replaced file exists
/// again, completely or in part.
#[test]
fn a_replaced_file_is_recognized_when_a_power_loss_restores_it() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let ledger = Sqlite::open(&dir.path().join("ledger.sqlite")).expect("open");
    let pipeline = ledger.pipeline("main", "/in".as_ref(), "/out".as_ref()).expect("register");
    let newer = Fingerprint { inode: 8, modified_ns: 150, changed_ns: 160, ..READ };
    for (identity, state) in [(READ, State::Done), (newer, State::Published)] {
        let record = Record { id: ledger.next_id(), pipeline, identity, ..record(state, false) };
        ledger.append(&[record], Flush::Now).expect("append");
    }
    let outcome = |found: Fingerprint| {
        let record = find_record(&ledger, pipeline, "a".as_ref(), &found).expect("look up");
        prior_outcome(record.as_ref(), &found, &OnSuccess::Delete)
    };
    assert_eq!(outcome(newer), PriorOutcome::RetryDispose);
    assert_eq!(outcome(READ), PriorOutcome::RetryDispose, "complete");
    assert_eq!(outcome(Fingerprint { size: 0, ..READ }), PriorOutcome::RolledBack, "emptied");
    let reused = Fingerprint { inode: 7, modified_ns: 170, changed_ns: 180, ..READ };
    assert_eq!(outcome(reused), PriorOutcome::New, "another file with the same inode");
    let copied = Fingerprint { changed_ns: 180, ..READ };
    assert_eq!(outcome(copied), PriorOutcome::New, "another file with the same inode and time");
}
