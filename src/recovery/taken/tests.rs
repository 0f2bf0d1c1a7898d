//! What recovery does with taken sources, on a source and a ledger in memory.

use std::{path::PathBuf, sync::Arc};

use super::*;
use crate::{
    fs::NodeId,
    ledger::memory,
    policy::OnSuccess,
    source::{
        Leftover,
        memory::{Memory, Store},
    },
};

const CONTENT: &str = "content";

/// A source that an earlier run had taken, and its record.
struct Bench {
    files: Store,
    input: Memory,
    ledger: memory::Memory,
    record: Record,
}

impl Bench {
    fn new(state: State, moved_to: Option<&str>) -> Self {
        let files = Store::default();
        let input = files.open("/in".as_ref(), &NodeId::new("0011"));
        files.put("d/a".as_ref(), CONTENT.as_bytes());
        let ledger = memory::Store::default().open();
        let pipeline =
            ledger.register_pipeline("main", "/in".as_ref(), "/out".as_ref()).expect("register");
        let record = Record {
            id: ledger.session().next_id(),
            pipeline,
            source: "d/a".into(),
            identity: input.stat("d/a".as_ref()).expect("stat").expect("exists").identity,
            output: None,
            on_success: OnSuccess::Delete,
            state,
            reason: None,
            moved_to: moved_to.map(PathBuf::from),
            at_ns: 0,
        };
        let taken = input.take(&TakeRequest::of(&record)).expect("take");
        assert!(matches!(taken, TakeResult::Taken(_)), "{taken:?}");
        Self { files, input, ledger, record }
    }

    fn append(&self, record: &Record) {
        self.ledger.append(std::slice::from_ref(record), Flush::Now).expect("append");
    }

    /// Resolves what was taken; returns the outcome, and the files of the input and outside.
    fn resolve(&self) -> (SourceOutcome, Vec<(String, String)>) {
        let quarantines =
            Quarantines { events: &Arc::default(), ledger: "00000000", count: &|_, _| () };
        let (ledger, input) = (&self.ledger, &self.input);
        let context = SweepContext { ledger, quarantines: &quarantines, pipelines: &[], input };
        let leftovers = input.leftovers();
        let [Ok(Leftover::Taken(taken))] = &*leftovers else { panic!("{leftovers:?}") };
        let outcome = resolve(context, taken).expect("resolve");
        let text = |(path, content): (PathBuf, Vec<u8>)| {
            (path.display().to_string(), String::from_utf8(content).expect("text"))
        };
        (outcome, self.files.content().into_iter().map(text).collect())
    }

    fn is_taken(&self) -> bool {
        !self.input.leftovers().is_empty()
    }
}

fn files(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(path, content)| ((*path).into(), (*content).into())).collect()
}

#[test]
fn the_source_of_a_published_output_is_removed() {
    for state in [State::Published, State::Done, State::Changed] {
        let bench = Bench::new(state, None);
        bench.append(&bench.record);
        assert_eq!(bench.resolve(), (SourceOutcome::Disposed, files(&[])), "{state}");
        assert!(!bench.is_taken());
    }
}

#[test]
fn a_source_without_an_output_gets_its_name_back() {
    for state in [State::Intent, State::Withdrawn, State::Quarantined] {
        let bench = Bench::new(state, None);
        bench.append(&bench.record);
        let returned = files(&[("d/a", CONTENT)]);
        assert_eq!(bench.resolve(), (SourceOutcome::Returned, returned), "{state}");
    }
}

#[test]
fn another_file_than_the_recorded_one_gets_its_name_back() {
    let bench = Bench::new(State::Done, None);
    let identity = Fingerprint { size: 1, ..bench.record.identity };
    bench.append(&Record { identity, ..bench.record.clone() });
    assert_eq!(bench.resolve(), (SourceOutcome::Returned, files(&[("d/a", CONTENT)])));
}

#[test]
fn a_move_to_quarantine_is_finished_and_without_its_slot_the_name_is_restored() {
    let bench = Bench::new(State::Quarantined, Some("/quarantine/d/a"));
    let slot = bench.input.quarantine_slot("/quarantine".as_ref(), "d/a".as_ref(), &|_| false);
    assert_eq!(Some(slot.expect("slot")), bench.record.moved_to);
    bench.append(&bench.record);
    let moved = files(&[("/quarantine/d/a", CONTENT)]);
    assert_eq!(bench.resolve(), (SourceOutcome::Disposed, moved));
    let bench = Bench::new(State::Quarantined, Some("/missing/a"));
    bench.append(&bench.record);
    let (_, left) = bench.resolve();
    assert_eq!(left, files(&[("d/a", CONTENT)]));
}

#[test]
fn what_cannot_be_explained_or_returned_stays_taken() {
    let unknown = Bench::new(State::Done, None);
    assert_eq!(unknown.resolve(), (SourceOutcome::Kept, files(&[])));
    assert!(unknown.is_taken());
    let replaced = Bench::new(State::Intent, None);
    replaced.append(&replaced.record);
    replaced.files.put("d/a".as_ref(), b"next");
    assert_eq!(replaced.resolve(), (SourceOutcome::Kept, files(&[("d/a", "next")])));
    assert!(replaced.is_taken());
}

/// Its producer had set the time back before it was read, and a power loss undid that.
#[test]
fn a_source_that_lost_content_and_its_earlier_time_is_quarantined_in_place() {
    for (is_rebooted, at_ns, expected) in
        [(false, 1, State::Done), (true, 1, State::Quarantined), (true, -1, State::Done)]
    {
        let bench = Bench::new(State::Done, None);
        let found = bench.record.identity;
        let (size, mtime_ns) = (found.size + 1, found.mtime_ns - 10);
        bench.append(&Record {
            identity: Fingerprint { size, mtime_ns, ..found },
            at_ns: found.mtime_ns + at_ns,
            ..bench.record.clone()
        });
        if is_rebooted {
            bench.ledger.join("next boot").expect("join");
        }
        assert_eq!(bench.resolve(), (SourceOutcome::Returned, files(&[("d/a", CONTENT)])));
        let latest = bench.ledger.latest(bench.record.pipeline, "d/a".as_ref()).expect("look up");
        assert_eq!(latest.expect("recorded").state, expected, "rebooted: {is_rebooted}, {at_ns}");
    }
}
