use super::*;
use crate::{
    ledger::{Flush, Output, memory::Store, sqlite::Sqlite},
    reason::ReasonCode,
};

const READ: Fingerprint =
    Fingerprint { device: 1, inode: 7, size: 100, mtime_ns: 50, ctime_ns: 60 };

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

/// A change of its times is a new version, which a power loss can take back.
#[test]
fn a_file_whose_times_a_power_loss_took_back_has_its_older_record() {
    let ledger = Store::default().open();
    let pipeline =
        ledger.register_pipeline("main", "/in".as_ref(), "/out".as_ref()).expect("a pipeline");
    let touched = Fingerprint { mtime_ns: 10, ctime_ns: 90, ..READ };
    let stored = |id, identity| Record { id, pipeline, identity, ..record(State::Done, false) };
    ledger.append(&[stored(1, READ), stored(2, touched)], Flush::Now).expect("append");
    let found = |found: &Fingerprint| {
        let latest = ledger.latest(pipeline, "a".as_ref()).expect("look up");
        let record = find_record(&ledger, latest, found).expect("look up");
        let outcome = prior_outcome(record.as_ref(), found, &OnSuccess::Keep);
        (record.map(|record| record.id), outcome)
    };
    assert_eq!(found(&touched), (Some(2), PriorOutcome::Done));
    assert_eq!(found(&READ), (Some(1), PriorOutcome::Done));
    // A delivery with the old time has a new change time.
    let delivered = Fingerprint { ctime_ns: 95, ..READ };
    assert_eq!(found(&delivered), (Some(2), PriorOutcome::New));
}

#[test]
fn only_the_same_file_has_a_prior_outcome() {
    use PriorOutcome as Is;
    let written_since = Fingerprint { size: 120, mtime_ns: 70, ctime_ns: 70, ..READ };
    let touched = Fingerprint { ctime_ns: 70, ..READ };
    let touched_earlier = Fingerprint { ctime_ns: 50, ..READ };
    let emptied_by_power_loss = Fingerprint { size: 0, mtime_ns: 40, ctime_ns: 40, ..READ };
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
        (State::Intent, false, touched, Is::Unfinished, Is::Unfinished),
        (State::Intent, false, written_since, Is::Unfinished, Is::Unfinished),
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

/// Its disposal failed; then it was touched in place, or returned from quarantine, from another disk
/// too, or after another source of its name was published.
#[test]
fn a_file_that_is_back_from_quarantine_after_its_publication_is_only_disposed_of() {
    let touched = Fingerprint { ctime_ns: 90, ..READ };
    let copied = Fingerprint { inode: 9, ctime_ns: 90, ..READ };
    let other = Fingerprint { inode: 8, size: 120, mtime_ns: 80, ctime_ns: 80, ..READ };
    let reason = |code| Some(crate::reason::Reason::new(code, "denied"));
    for (state, code, found, expected) in [
        (State::Quarantined, ReasonCode::DisposalFailed, READ, PriorOutcome::InQuarantine),
        (State::Quarantined, ReasonCode::DisposalFailed, touched, PriorOutcome::MetadataChanged),
        (State::Quarantined, ReasonCode::DisposalFailed, other, PriorOutcome::New),
        (State::Requeued, ReasonCode::DisposalFailed, READ, PriorOutcome::RetryDispose),
        (State::Requeued, ReasonCode::NameLost, touched, PriorOutcome::MetadataChanged),
        (State::Requeued, ReasonCode::DisposalFailed, copied, PriorOutcome::MetadataChanged),
        (State::Quarantined, ReasonCode::DisposalFailed, copied, PriorOutcome::New),
        (State::Requeued, ReasonCode::DisposalFailed, other, PriorOutcome::New),
        (State::Requeued, ReasonCode::Corrupt, READ, PriorOutcome::New),
    ] {
        let ledger = Store::default().open();
        let pipeline =
            ledger.register_pipeline("main", "/in".as_ref(), "/out".as_ref()).expect("a pipeline");
        let delete = |id, state| Record {
            id,
            pipeline,
            on_success: OnSuccess::Delete,
            ..record(state, false)
        };
        let quarantined = Record { reason: reason(code), ..delete(2, state) };
        ledger.append(&[delete(1, State::Done), quarantined], Flush::Now).expect("append");
        let found_as = |found| {
            let latest = ledger.latest(pipeline, "a".as_ref()).expect("look up");
            let record = find_record(&ledger, latest, found).expect("look up");
            classify(&ledger, record.as_ref(), found, &OnSuccess::Delete, || Some(1000))
        };
        assert_eq!(found_as(&found), expected, "{state} {code} {found:?}");
    }
}

/// A power loss can undo a delivery that its producer never made durable: the replaced file exists
/// again, completely or in part.
#[test]
fn a_replaced_file_is_recognized_when_a_power_loss_restores_it() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let ledger = Sqlite::open(&dir.path().join("ledger.sqlite")).expect("open");
    let pipeline =
        ledger.register_pipeline("main", "/in".as_ref(), "/out".as_ref()).expect("register");
    let newer = Fingerprint { inode: 8, mtime_ns: 150, ctime_ns: 160, ..READ };
    for (identity, state) in [(READ, State::Done), (newer, State::Published)] {
        let record =
            Record { id: ledger.session().next_id(), pipeline, identity, ..record(state, false) };
        ledger.append(&[record], Flush::Now).expect("append");
    }
    let outcome = |found: Fingerprint| {
        let latest = ledger.latest(pipeline, "a".as_ref()).expect("look up");
        let record = find_record(&ledger, latest, &found).expect("look up");
        prior_outcome(record.as_ref(), &found, &OnSuccess::Delete)
    };
    assert_eq!(outcome(newer), PriorOutcome::RetryDispose);
    assert_eq!(outcome(READ), PriorOutcome::RetryDispose, "complete");
    assert_eq!(outcome(Fingerprint { size: 0, ..READ }), PriorOutcome::RolledBack, "emptied");
    let reused = Fingerprint { inode: 7, mtime_ns: 170, ctime_ns: 180, ..READ };
    assert_eq!(outcome(reused), PriorOutcome::New, "another file with the same inode");
    let copied = Fingerprint { ctime_ns: 180, ..READ };
    assert_eq!(outcome(copied), PriorOutcome::New, "another file with the same inode and time");
}

/// The clock of the machine may be set back between the two files, and the record may still wait for
/// its mark: the disposals of a batch are marked together.
#[test]
fn a_file_that_comes_after_its_namesake_was_removed_is_new() {
    use PriorOutcome as Is;
    let delete = OnSuccess::Delete;
    let ledger = Store::default().open();
    ledger.join("one").expect("join");
    let of_this_boot =
        Record { id: ledger.session().next_id(), at_ns: 65, ..record(State::Done, false) };
    let of_another_boot = Record { id: 0, ..of_this_boot.clone() };
    let touched = Fingerprint { ctime_ns: 70, ..READ };
    let earlier = Fingerprint { size: 9, mtime_ns: 40, ctime_ns: 40, ..READ };
    let on_another_mount = Fingerprint { device: 2, ..earlier };
    for (at, state, found, born_ns, expected) in [
        (&of_this_boot, State::Done, earlier, Some(40), Is::New),
        (&of_this_boot, State::Done, earlier, None, Is::RolledBack),
        (&of_this_boot, State::Done, on_another_mount, Some(40), Is::RolledBack),
        (&of_this_boot, State::Published, earlier, Some(40), Is::RolledBack),
        (&of_this_boot, State::Changed, earlier, Some(40), Is::RolledBack),
        (&of_another_boot, State::Done, earlier, Some(40), Is::RolledBack),
        (&of_this_boot, State::Done, touched, None, Is::New),
        (&of_this_boot, State::Published, touched, Some(66), Is::New),
        (&of_this_boot, State::Changed, touched, Some(66), Is::New),
        (&of_this_boot, State::Published, touched, Some(65), Is::MetadataChanged),
        (&of_this_boot, State::Published, touched, None, Is::MetadataChanged),
        (&of_this_boot, State::Published, READ, Some(66), Is::RetryDispose),
        // All its metadata is that of its namesake, by chance.
        (&of_this_boot, State::Done, READ, None, Is::New),
        (&of_this_boot, State::Done, READ, Some(61), Is::New),
        (&of_this_boot, State::Done, READ, Some(60), Is::RetryDispose),
        (&of_another_boot, State::Done, READ, None, Is::RetryDispose),
        (&of_another_boot, State::Done, touched, Some(66), Is::New),
        (&of_another_boot, State::Done, touched, Some(65), Is::MetadataChanged),
    ] {
        let record = Record { state, on_success: delete.clone(), ..at.clone() };
        let outcome = classify(&ledger, Some(&record), &found, &delete, || born_ns);
        assert_eq!(outcome, expected, "{state} {found:?} {born_ns:?}");
        let kept = Record { on_success: OnSuccess::Keep, ..record };
        let outcome = classify(&ledger, Some(&kept), &found, &delete, || born_ns);
        assert_ne!(outcome, Is::New, "kept: {state} {found:?}");
    }
    // It was written before the clock was set back, and recorded after that.
    let read = Fingerprint { ctime_ns: 90, ..READ };
    let record = Record { identity: read, on_success: delete.clone(), ..of_another_boot };
    let outcome = classify(&ledger, Some(&record), &touched, &delete, || Some(85));
    assert_eq!(outcome, Is::MetadataChanged);
}

/// Its producer gave it another mode and an earlier time after it was recorded: these were in the
/// journal, and the content was not on the disk.
#[test]
fn a_file_that_lost_its_content_and_kept_later_attributes_is_rolled_back() {
    use PriorOutcome as Is;
    let ledger = Store::default().open();
    let before = Record { id: ledger.session().next_id(), at_ns: 65, ..record(State::Done, false) };
    ledger.join("next").expect("join");
    let of_this_boot = Record { id: ledger.session().next_id(), ..before.clone() };
    let withdrawn = Record { state: State::Withdrawn, ..before.clone() };
    let emptied = Fingerprint { size: 0, mtime_ns: 10, ctime_ns: 80, ..READ };
    let rewritten = Fingerprint { mtime_ns: 70, ..emptied };
    for (record, found, born_ns, expected) in [
        (&before, emptied, Some(40), Is::RolledBack),
        (&before, emptied, None, Is::RolledBack),
        (&before, emptied, Some(66), Is::New),
        (&before, rewritten, Some(40), Is::New),
        (&of_this_boot, emptied, Some(40), Is::New),
        (&withdrawn, emptied, Some(40), Is::New),
    ] {
        for on_success in [OnSuccess::Keep, OnSuccess::Delete] {
            let record = Record { on_success: on_success.clone(), ..record.clone() };
            let outcome = classify(&ledger, Some(&record), &found, &on_success, || born_ns);
            assert_eq!(outcome, expected, "{} {found:?} {born_ns:?}", record.state);
        }
    }
}

/// The copy of a requeued file got the inode of a source that was removed meanwhile.
#[test]
fn a_requeued_copy_with_the_inode_of_a_later_namesake_is_only_disposed_of() {
    let ledger = Store::default().open();
    let pipeline =
        ledger.register_pipeline("main", "/in".as_ref(), "/out".as_ref()).expect("a pipeline");
    let of = |id, state, identity| Record {
        id,
        pipeline,
        identity,
        on_success: OnSuccess::Delete,
        ..record(state, false)
    };
    let reason = crate::reason::Reason::new(ReasonCode::DisposalFailed, "denied");
    let published = Record { reason: Some(reason), ..of(1, State::Changed, READ.without_ctime()) };
    let other = Fingerprint { size: 120, mtime_ns: 80, ctime_ns: 80, ..READ };
    let mut later = of(3, State::Done, other);
    if let Some(output) = &mut later.output {
        output.source_hash = [9; 32];
    }
    ledger.append(&[published, later], Flush::Now).expect("append");
    let found = Fingerprint { ctime_ns: 90, ..READ };
    let latest = ledger.latest(pipeline, "a".as_ref()).expect("look up");
    let record = find_record(&ledger, latest, &found).expect("look up");
    let outcome = classify(&ledger, record.as_ref(), &found, &OnSuccess::Delete, || Some(1000));
    assert_eq!(outcome, PriorOutcome::MetadataChanged);
}

/// The emptied file was published, as a second output or in place of the good one.
#[test]
fn a_published_file_that_a_power_loss_emptied_after_a_request_is_rolled_back() {
    let output = Output {
        path: "a".into(),
        temp: "".into(),
        identity: READ,
        hash: [1; 32],
        source_hash: [1; 32],
        replaces: None,
        transforms: "copy".into(),
        sha256: None,
    };
    let published = Record { output: Some(output), ..record(State::Requeued, false) };
    let outcome =
        |record: &Record, found: Fingerprint| prior_outcome(Some(record), &found, &OnSuccess::Keep);
    let emptied = Fingerprint { size: 0, mtime_ns: 40, ctime_ns: 40, ..READ };
    assert_eq!(outcome(&published, emptied), PriorOutcome::RolledBack);
    assert_eq!(outcome(&published, READ), PriorOutcome::New);
    let rewritten = Fingerprint { size: 3, mtime_ns: 70, ctime_ns: 70, ..READ };
    assert_eq!(outcome(&published, rewritten), PriorOutcome::New);
    // An operator may have it processed as it is.
    assert_eq!(outcome(&record(State::Requeued, false), emptied), PriorOutcome::New);
    // Recovery did not find the output of the request: a consumer may have it.
    let missing = Record { state: State::Quarantined, ..published };
    assert_eq!(outcome(&missing, emptied), PriorOutcome::RolledBack);
    assert_eq!(outcome(&missing, rewritten), PriorOutcome::New);
}

/// A second power loss took what the first had left: the record of the first has no output.
#[test]
fn a_file_that_two_power_losses_shortened_is_rolled_back_until_it_is_requeued() {
    let ledger = Store::default().open();
    let pipeline =
        ledger.register_pipeline("main", "/in".as_ref(), "/out".as_ref()).expect("a pipeline");
    let shortened = Fingerprint { size: 10, mtime_ns: 45, ctime_ns: 45, ..READ };
    let stored = |id, state, identity| Record { id, pipeline, identity, ..record(state, false) };
    let records = [stored(1, State::Done, READ), stored(2, State::Quarantined, shortened)];
    ledger.append(&records, Flush::Now).expect("append");
    let outcome = |found: Fingerprint| {
        let latest = ledger.latest(pipeline, "a".as_ref()).expect("look up");
        let record = find_record(&ledger, latest, &found).expect("look up");
        classify(&ledger, record.as_ref(), &found, &OnSuccess::Keep, || Some(0))
    };
    let emptied = Fingerprint { size: 0, mtime_ns: 40, ctime_ns: 40, ..READ };
    assert_eq!(outcome(shortened), PriorOutcome::InQuarantine);
    assert_eq!(outcome(emptied), PriorOutcome::RolledBack);
    let rewritten = Fingerprint { size: 120, mtime_ns: 70, ctime_ns: 70, ..READ };
    assert_eq!(outcome(rewritten), PriorOutcome::New);
    ledger.set_states(&[(2, State::Requeued, None)], Flush::Now).expect("mark");
    assert_eq!(outcome(emptied), PriorOutcome::New);
}
