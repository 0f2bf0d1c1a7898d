//! The calls by which a retention marks and removes records.

use std::path::Path;

use super::{Bench, identity, pipeline, record};
use crate::{
    fingerprint::Fingerprint,
    ledger::{Flush, HistoryQuery, Ledger, Record, RecordId, State},
    policy::OnSuccess,
    reason::{Reason, ReasonCode},
};

fn numbers(records: &[Record]) -> Vec<RecordId> {
    records.iter().map(|record| record.id).collect()
}

/// The numbers of all records, the oldest first.
fn all(ledger: &dyn Ledger) -> Vec<RecordId> {
    let mut numbers = numbers(&ledger.history(&HistoryQuery::default()).expect("history"));
    numbers.sort_unstable();
    numbers
}

pub(super) fn finished_records_come_in_order_and_page_by_page(bench: &impl Bench) {
    let ledger = bench.open();
    let pipeline = pipeline(&*ledger);
    let of = |(number, state): (usize, &State)| {
        record(&*ledger, pipeline, number.to_string().as_ref(), *state)
    };
    let records: Vec<_> = State::ALL.iter().enumerate().map(of).collect();
    ledger.append(&records, Flush::Deferred).expect("append");
    let is_finished = |record: &&Record| !record.state.is_unfinished();
    let finished: Vec<_> = records.iter().filter(is_finished).map(|record| record.id).collect();
    let (mut found, mut after) = (Vec::new(), 0);
    loop {
        let page = numbers(&ledger.finished(after, 2).expect("list"));
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = *last;
        found.extend(page);
    }
    assert_eq!(found, finished);
}

pub(super) fn an_archived_file_is_found_by_its_size_and_time_and_its_inode_comes_first(
    bench: &impl Bench,
) {
    let ledger = bench.open();
    let pipeline = pipeline(&*ledger);
    let source = Path::new("d/a");
    let of = |inode, state| Record {
        identity: Fingerprint { inode, ..identity(inode) },
        ..record(&*ledger, pipeline, source, state)
    };
    let (first, second) = (of(1, State::Done), of(2, State::Done));
    let kept = Record { on_success: OnSuccess::Keep, ..of(1, State::Done) };
    let changed = of(1, State::Changed);
    let records = [first.clone(), second.clone(), kept, changed];
    ledger.append(&records, Flush::Deferred).expect("append");
    let find = |found: &Fingerprint| {
        ledger.archived(pipeline, source, found).expect("look up").map(|record| record.id)
    };
    assert_eq!(find(&identity(1)), Some(first.id));
    assert_eq!(find(&identity(2)), Some(second.id));
    assert_eq!(find(&identity(3)), Some(second.id), "a copy may be of the newest one");
    assert_eq!(find(&Fingerprint { ctime_ns: 0, device: 9, ..identity(1) }), Some(first.id));
    assert_eq!(find(&Fingerprint { size: 4, ..identity(1) }), None);
    assert_eq!(find(&Fingerprint { mtime_ns: 0, ..identity(1) }), None);
    let other = ledger.archived(pipeline, "d/b".as_ref(), &identity(1)).expect("look up");
    assert_eq!(other, None);
}

pub(super) fn a_reason_is_set_and_cleared_unless_recovery_needs_the_record(bench: &impl Bench) {
    let ledger = bench.open();
    let pipeline = pipeline(&*ledger);
    let done = record(&*ledger, pipeline, "a".as_ref(), State::Done);
    let intent = record(&*ledger, pipeline, "b".as_ref(), State::Intent);
    ledger.append(&[done.clone(), intent.clone()], Flush::Deferred).expect("append");
    let expired = Some(Reason::new(ReasonCode::Expired, "removed"));
    let reasons = [(done.id, expired.clone()), (intent.id, expired.clone()), (77, None)];
    ledger.set_reasons(&reasons).expect("set");
    drop(ledger);
    let ledger = bench.open();
    let found = |id| ledger.record(id).expect("look up");
    assert_eq!(found(done.id), Some(Record { reason: expired, ..done.clone() }));
    assert_eq!(found(intent.id), Some(intent));
    ledger.set_reasons(&[(done.id, None)]).expect("clear");
    assert_eq!(found(done.id), Some(Record { reason: None, ..done }));
}

pub(super) fn only_the_oldest_records_of_a_path_are_removed_and_numbers_are_not_given_again(
    bench: &impl Bench,
) {
    let ledger = bench.open();
    let pipeline = pipeline(&*ledger);
    let of = |source: &str| record(&*ledger, pipeline, source.as_ref(), State::Done);
    let records = [of("a"), of("b"), of("a"), of("a"), of("c")];
    ledger.append(&records, Flush::Deferred).expect("append");
    let [a, b, a2, a3, c] = numbers(&records)[..] else { panic!("five records") };
    assert_eq!(ledger.remove_records(&[a2, a3]).expect("remove"), 0, "an older one stays");
    assert_eq!(ledger.remove_records(&[a2, 77, a]).expect("remove"), 2, "in any order");
    assert_eq!(all(&*ledger), [b, a3, c]);
    assert_eq!(ledger.remove_records(&[b, a3, c]).expect("remove"), 2);
    assert_eq!(all(&*ledger), [c], "it has the highest number");
    drop(ledger);
    assert_eq!(bench.open().session().next_id(), c + 1);
}

pub(super) fn a_removal_leaves_what_recovery_needs_and_other_pipelines(bench: &impl Bench) {
    let ledger = bench.open();
    let ours = pipeline(&*ledger);
    let other = ledger.register_pipeline("b", "/b".as_ref(), "/out".as_ref()).expect("register");
    let of = |pipeline, state| record(&*ledger, pipeline, "a".as_ref(), state);
    let first = of(other, State::Done);
    let records = [
        first.clone(),
        of(ours, State::Withdrawn),
        of(ours, State::Published),
        of(ours, State::Done),
        of(other, State::Intent),
    ];
    ledger.append(&records, Flush::Deferred).expect("append");
    let [_, withdrawn, published, done, intent] = numbers(&records)[..] else {
        panic!("five records")
    };
    let removed = ledger.remove_records(&[withdrawn, published, done, intent]).expect("remove");
    assert_eq!(removed, 1, "another pipeline's record of this path is no older one");
    assert_eq!(all(&*ledger), [first.id, published, done, intent]);
}
