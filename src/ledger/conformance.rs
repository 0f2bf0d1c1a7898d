//! What every [`Ledger`] does: one suite, run on each implementation.

mod history;

use std::{os::unix::ffi::OsStrExt, path::Path};

use super::{
    Flush, HistoryQuery, Ledger, Output, PipelineEnd, PipelineId, PreviousShutdown, Record,
    RecordId, Replaced, State, memory::Store, sqlite::Sqlite,
};
use crate::{
    fingerprint::Fingerprint,
    policy::OnSuccess,
    reason::{Reason, ReasonCode},
};
use history::{
    a_reason_is_set_and_cleared_unless_recovery_needs_the_record,
    a_removal_leaves_what_recovery_needs_and_other_pipelines,
    an_archived_file_is_found_by_its_size_and_time_and_its_inode_comes_first,
    finished_records_come_in_order_and_page_by_page,
    only_the_oldest_records_of_a_path_are_removed_and_numbers_are_not_given_again,
};

/// A ledger that can be opened again after a use.
trait Bench {
    fn open(&self) -> Box<dyn Ledger>;
}

impl Bench for Store {
    fn open(&self) -> Box<dyn Ledger> {
        Box::new(self.open())
    }
}

impl Bench for tempfile::TempDir {
    fn open(&self) -> Box<dyn Ledger> {
        Box::new(Sqlite::open(&self.path().join("ledger.sqlite")).expect("open"))
    }
}

conformance! {
    crate::ledger::memory::Store, sqlite:
    a_record_is_read_as_it_was_written
    the_newest_record_that_counts_is_the_latest
    a_batch_of_look_ups_has_an_answer_for_each_path_in_order
    a_record_of_the_same_number_replaces_and_a_mark_changes_its_state
    a_stop_without_an_end_is_unclean
    a_stop_before_recovery_completed_is_as_unclean_as_the_previous_one
    a_stop_with_work_that_did_not_end_is_unclean
    the_instance_stays_and_the_pipelines_name_follows
    the_history_is_newest_first_and_filtered
    numbers_in_the_events_file_are_not_given_again
    records_of_this_boot_are_recognized_after_a_restart_and_not_after_another_boot
    a_late_publication_update_undoes_no_later_update
    an_output_that_is_made_again_still_belongs_to_its_source
    look_ups_by_inode_and_output_find_the_newest_published
    the_inodes_of_both_ends_of_a_pipeline_are_kept
    finished_records_come_in_order_and_page_by_page
    an_archived_file_is_found_by_its_size_and_time_and_its_inode_comes_first
    a_reason_is_set_and_cleared_unless_recovery_needs_the_record
    only_the_oldest_records_of_a_path_are_removed_and_numbers_are_not_given_again
    a_removal_leaves_what_recovery_needs_and_other_pipelines
    the_first_and_the_last_record_of_a_pipeline_have_their_times
}

fn identity(inode: u64) -> Fingerprint {
    Fingerprint { device: u64::MAX, inode, size: 3, mtime_ns: -1, ctime_ns: i64::MAX }
}

pub(super) fn record(
    ledger: &dyn Ledger,
    pipeline: PipelineId,
    source: &Path,
    state: State,
) -> Record {
    Record {
        id: ledger.session().next_id(),
        pipeline,
        source: source.to_path_buf(),
        identity: identity(1),
        output: Some(Output {
            path: source.with_extension("zst"),
            temp: "temp".into(),
            identity: identity(2),
            hash: [7; 32],
            source_hash: [8; 32],
            replaces: Some(Replaced {
                identity: identity(u64::MAX),
                hash: Some([9; 32]),
                sha256: Some([6; 32]),
            }),
            transforms: "zstd:3".into(),
            sha256: Some([5; 32]),
        }),
        on_success: OnSuccess::Archive("/archive".into()),
        state,
        reason: Some(Reason::new(ReasonCode::Corrupt, "a reason")),
        moved_to: Some("/quarantine/a".into()),
        at_ns: 5,
    }
}

pub(super) fn pipeline(ledger: &dyn Ledger) -> PipelineId {
    ledger.register_pipeline("main", "/in".as_ref(), "/out".as_ref()).expect("register")
}

fn a_record_is_read_as_it_was_written(bench: &impl Bench) {
    let ledger = bench.open();
    let pipeline = pipeline(&*ledger);
    let name = Path::new(std::ffi::OsStr::from_bytes(b"\xff\n\x00name"));
    let record = record(&*ledger, pipeline, name, State::Done);
    ledger.append(std::slice::from_ref(&record), Flush::Now).expect("append");
    assert_eq!(ledger.latest(pipeline, name).expect("look up"), Some(record.clone()));
    assert_eq!(ledger.record(record.id).expect("look up"), Some(record.clone()));
    drop(ledger);
    let reopened = bench.open();
    assert_eq!(reopened.latest(pipeline, name).expect("look up"), Some(record.clone()));
    assert!(reopened.session().next_id() > record.id);
}

fn the_newest_record_that_counts_is_the_latest(bench: &impl Bench) {
    let ledger = bench.open();
    let pipeline = pipeline(&*ledger);
    let source = Path::new("a");
    let done = record(&*ledger, pipeline, source, State::Done);
    let withdrawn = record(&*ledger, pipeline, source, State::Withdrawn);
    let quarantined = record(&*ledger, pipeline, source, State::Quarantined);
    ledger.append(&[done.clone(), withdrawn], Flush::Deferred).expect("append");
    assert_eq!(ledger.latest(pipeline, source).expect("look up"), Some(done.clone()));
    ledger.append(std::slice::from_ref(&quarantined), Flush::Deferred).expect("append");
    assert_eq!(ledger.latest(pipeline, source).expect("look up"), Some(quarantined));
    let output = ledger.latest_for_output(pipeline, "a.zst".as_ref()).expect("look up");
    assert_eq!(output, Some(done));
    assert_eq!(ledger.latest(pipeline + 1, source).expect("look up"), None);
}

fn a_batch_of_look_ups_has_an_answer_for_each_path_in_order(bench: &impl Bench) {
    let ledger = bench.open();
    let pipeline = pipeline(&*ledger);
    let [first, second] =
        ["b", "a"].map(|source| record(&*ledger, pipeline, source.as_ref(), State::Done));
    ledger.append(&[first.clone(), second.clone()], Flush::Now).expect("append");
    let latest_of = |sources: &[&str]| {
        let sources: Vec<&Path> = sources.iter().map(Path::new).collect();
        ledger.latest_of_each(pipeline, &sources).expect("look up")
    };
    let expected = [Some(second.clone()), None, Some(first.clone()), Some(second)];
    assert_eq!(latest_of(&["a", "missing", "b", "a"]), expected);
    assert_eq!(latest_of(&[]), []);
    // A look-up holds no state back from the next one.
    let newer = record(&*ledger, pipeline, "a".as_ref(), State::Quarantined);
    ledger.append(std::slice::from_ref(&newer), Flush::Now).expect("append");
    assert_eq!(latest_of(&["a", "b"]), [Some(newer), Some(first)]);
}

fn a_record_of_the_same_number_replaces_and_a_mark_changes_its_state(bench: &impl Bench) {
    let ledger = bench.open();
    let pipeline = pipeline(&*ledger);
    let intent = record(&*ledger, pipeline, "a".as_ref(), State::Intent);
    ledger.append(std::slice::from_ref(&intent), Flush::Now).expect("append");
    ledger.append(std::slice::from_ref(&intent), Flush::Now).expect("append again");
    assert_eq!(ledger.unfinished().expect("list"), std::slice::from_ref(&intent));
    ledger.set_states(&[(intent.id, State::Published, None)], Flush::Deferred).expect("mark");
    let published = Record { state: State::Published, ..intent.clone() };
    assert_eq!(ledger.unfinished().expect("list"), [published]);
    let why = Some(Reason::new(ReasonCode::NameTaken, "why"));
    ledger.set_states(&[(intent.id, State::Withdrawn, why.clone())], Flush::Now).expect("mark");
    assert_eq!(ledger.unfinished().expect("list"), []);
    let found = ledger.record(intent.id).expect("look up").expect("a record");
    assert_eq!((found.state, found.reason), (State::Withdrawn, why));
}

fn a_stop_without_an_end_is_unclean(bench: &impl Bench) {
    let ledger = bench.open();
    assert_eq!(ledger.join("boot").expect("join"), PreviousShutdown::Clean);
    drop(ledger);
    let ledger = bench.open();
    assert_eq!(ledger.join("boot").expect("join"), PreviousShutdown::Unclean);
    ledger.session().mark_recovered();
    ledger.leave().expect("leave");
    drop(ledger);
    let ledger = bench.open();
    assert_eq!(ledger.join("boot").expect("join"), PreviousShutdown::Clean);
    ledger.session().mark_recovered();
    ledger.leave().expect("leave");
    drop(ledger);
    // Power may have failed since, and brought back what was removed before.
    assert_eq!(bench.open().join("another boot").expect("join"), PreviousShutdown::Unclean);
}

/// A signal between the ledger's opening and the end of recovery stopped the service in good order,
/// and the leftovers of the previous run were never swept.
fn a_stop_before_recovery_completed_is_as_unclean_as_the_previous_one(bench: &impl Bench) {
    let ledger = bench.open();
    ledger.join("boot").expect("join");
    drop(ledger);
    let ledger = bench.open();
    ledger.leave().expect("a stop before recovery");
    assert_eq!(ledger.join("boot").expect("join"), PreviousShutdown::Unclean);
    ledger.leave().expect("a stop within it");
    drop(ledger);
    let ledger = bench.open();
    assert_eq!(ledger.join("boot").expect("join"), PreviousShutdown::Unclean);
    ledger.session().mark_recovered();
    ledger.leave().expect("a clean stop");
    assert_eq!(ledger.join("boot").expect("join"), PreviousShutdown::Clean);
}

/// A source stayed under its private name after a stop in good order, and no later start looked for it.
fn a_stop_with_work_that_did_not_end_is_unclean(bench: &impl Bench) {
    for (ends, expected) in [(false, PreviousShutdown::Unclean), (true, PreviousShutdown::Clean)] {
        let ledger = bench.open();
        ledger.join("boot").expect("join");
        ledger.session().mark_recovered();
        let (first, second) = (ledger.session().begin_work(), ledger.session().begin_work());
        first.end();
        if ends {
            second.end();
        } else {
            drop(second);
        }
        ledger.leave().expect("leave");
        drop(ledger);
        assert_eq!(bench.open().join("boot").expect("join"), expected);
    }
}

fn the_instance_stays_and_the_pipelines_name_follows(bench: &impl Bench) {
    let ledger = bench.open();
    let instance = ledger.instance().to_owned();
    assert_eq!(instance.len(), 8);
    let first = pipeline(&*ledger);
    let renamed =
        ledger.register_pipeline("other", "/in".as_ref(), "/out".as_ref()).expect("register");
    let second =
        ledger.register_pipeline("main", "/in2".as_ref(), "/out".as_ref()).expect("register");
    assert_eq!(first, renamed);
    assert_ne!(first, second);
    let names: Vec<_> =
        ledger.pipelines().expect("list").into_iter().map(|roots| roots.name).collect();
    assert_eq!(names, ["other", "main"]);
    drop(ledger);
    assert_eq!(bench.open().instance(), instance);
}

fn the_history_is_newest_first_and_filtered(bench: &impl Bench) {
    let ledger = bench.open();
    let pipeline = pipeline(&*ledger);
    let records: Vec<Record> = (0..5)
        .map(|number| Record {
            at_ns: number,
            ..record(&*ledger, pipeline, Path::new(&number.to_string()), State::Done)
        })
        .collect();
    ledger.append(&records, Flush::Now).expect("append");
    let query = HistoryQuery { since_ns: Some(2), limit: Some(2), ..HistoryQuery::default() };
    let found: Vec<i64> =
        ledger.history(&query).expect("history").iter().map(|record| record.at_ns).collect();
    assert_eq!(found, [4, 3]);
}

fn numbers_in_the_events_file_are_not_given_again(bench: &impl Bench) {
    let ledger = bench.open();
    ledger.session().skip_ids(41);
    assert_eq!(ledger.session().next_id(), 42);
    ledger.session().skip_ids(7);
    ledger.session().skip_ids(RecordId::MAX);
    assert_eq!(ledger.session().next_id(), 43);
}

fn records_of_this_boot_are_recognized_after_a_restart_and_not_after_another_boot(
    bench: &impl Bench,
) {
    let ledger = bench.open();
    let pipeline = pipeline(&*ledger);
    ledger.join("one").expect("join");
    let stored = record(&*ledger, pipeline, "a".as_ref(), State::Done);
    ledger.append(std::slice::from_ref(&stored), Flush::Now).expect("append");
    assert!(
        ledger.session().is_of_this_boot(stored.id) && ledger.session().is_of_this_run(stored.id)
    );
    drop(ledger);
    for (boot, is_of_boot) in [("one", true), ("two", false), ("", false)] {
        let reopened = bench.open();
        reopened.join(boot).expect("join");
        assert_eq!(reopened.session().is_of_this_boot(stored.id), is_of_boot, "{boot}");
        assert!(!reopened.session().is_of_this_run(stored.id));
    }
}

/// While another program held the ledger, postponed updates were written over later ones.
fn a_late_publication_update_undoes_no_later_update(bench: &impl Bench) {
    let ledger = bench.open();
    let pipeline = pipeline(&*ledger);
    let stored = record(&*ledger, pipeline, "a".as_ref(), State::Intent);
    ledger.append(std::slice::from_ref(&stored), Flush::Now).expect("append");
    for (state, expected) in [
        (State::Published, State::Published),
        (State::Done, State::Done),
        (State::Published, State::Done),
        (State::Requeued, State::Requeued),
        (State::Published, State::Requeued),
    ] {
        ledger.set_states(&[(stored.id, state, None)], Flush::Now).expect("mark");
        let found = ledger.record(stored.id).expect("look up").expect("there");
        assert_eq!(found.state, expected, "after {state}");
    }
}

fn an_output_that_is_made_again_still_belongs_to_its_source(bench: &impl Bench) {
    let ledger = bench.open();
    let pipeline = pipeline(&*ledger);
    let stored = record(&*ledger, pipeline, "a".as_ref(), State::Done);
    ledger.append(std::slice::from_ref(&stored), Flush::Now).expect("append");
    for state in [State::Requeued, State::Changed] {
        ledger.set_states(&[(stored.id, state, None)], Flush::Now).expect("mark");
        let found = ledger.latest_published(pipeline, "a".as_ref()).expect("look up");
        assert_eq!(found.map(|record| record.id), Some(stored.id), "{state}");
    }
}

fn look_ups_by_inode_and_output_find_the_newest_published(bench: &impl Bench) {
    let ledger = bench.open();
    let pipeline = pipeline(&*ledger);
    let source = Path::new("a");
    let old = record(&*ledger, pipeline, source, State::Done);
    let other = Record { identity: identity(9), ..record(&*ledger, pipeline, source, State::Done) };
    let without_output =
        Record { output: None, ..record(&*ledger, pipeline, source, State::Quarantined) };
    ledger.append(&[old.clone(), other.clone(), without_output], Flush::Now).expect("append");
    let of_inode = |inode| ledger.latest_of_inode(pipeline, source, inode).expect("look up");
    assert_eq!(of_inode(1), Some(old.clone()));
    assert_eq!(of_inode(9), Some(other.clone()));
    for state in [State::Requeued, State::Quarantined] {
        ledger.set_states(&[(old.id, state, None)], Flush::Now).expect("mark");
        assert_eq!(of_inode(1), Some(Record { state, ..old.clone() }));
    }
    assert_eq!(of_inode(2), None);
    let of_file = |found| ledger.latest_of_file(pipeline, source, &found).expect("look up");
    assert_eq!(of_file(identity(9)), Some(other.clone()));
    assert_eq!(of_file(Fingerprint { device: 5, ..identity(9) }), Some(other.clone()));
    assert_eq!(of_file(Fingerprint { mtime_ns: 1, ..identity(9) }), None);
    let renamed = Fingerprint { ctime_ns: 1, ..identity(9) };
    let again = Record { identity: renamed, ..record(&*ledger, pipeline, source, State::Done) };
    assert_eq!(of_file(renamed), Some(other.clone()));
    ledger.append(std::slice::from_ref(&again), Flush::Now).expect("append");
    assert_eq!(of_file(Fingerprint { ctime_ns: 2, ..identity(9) }), Some(again.clone()));
    assert_eq!(of_file(identity(9)), Some(other.clone()));
    ledger.set_states(&[(again.id, State::Quarantined, None)], Flush::Now).expect("mark");
    assert_eq!(of_file(Fingerprint { size: 1 << 40, ..identity(9) }), None);
    assert_eq!(ledger.latest_published(pipeline, source).expect("look up"), Some(other.clone()));
    let of_output = |path: &str| ledger.latest_for_output(pipeline, path.as_ref());
    assert_eq!(of_output("a.zst").expect("look up"), Some(other));
    assert_eq!(of_output("b.zst").expect("look up"), None);
}

fn the_first_and_the_last_record_of_a_pipeline_have_their_times(bench: &impl Bench) {
    let ledger = bench.open();
    let pipeline = pipeline(&*ledger);
    assert_eq!(ledger.last_record_ns(pipeline).expect("look up"), None);
    for at_ns in [3, 9, 7] {
        let record = record(&*ledger, pipeline, Path::new("a"), State::Done);
        ledger.append(&[Record { at_ns, ..record }], Flush::Now).expect("append");
    }
    let times = [ledger.first_record_ns(pipeline), ledger.last_record_ns(pipeline)];
    assert_eq!(times.map(|time| time.expect("look up")), [Some(3), Some(7)]);
    assert_eq!(ledger.last_record_ns(pipeline + 1).expect("look up"), None);
}

fn the_inodes_of_both_ends_of_a_pipeline_are_kept(bench: &impl Bench) {
    let ledger = bench.open();
    let pipeline = pipeline(&*ledger);
    let noted = |end| ledger.root_inode(pipeline, end).expect("look up");
    assert_eq!([PipelineEnd::Input, PipelineEnd::Output].map(noted), [None, None]);
    for inode in [7, 8, 8] {
        ledger.set_root_inode(pipeline, PipelineEnd::Input, inode).expect("store");
        ledger.set_root_inode(pipeline, PipelineEnd::Output, inode + 1).expect("store");
        let inodes = [PipelineEnd::Input, PipelineEnd::Output].map(noted);
        assert_eq!(inodes, [Some(inode), Some(inode + 1)]);
    }
    assert_eq!(ledger.root_inode(pipeline + 1, PipelineEnd::Output).expect("look up"), None);
}
