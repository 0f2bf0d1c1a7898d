use std::cell::RefCell;

use super::*;
use crate::{
    fs::{ExtendedAttributes, FileMetadata, Kind},
    ledger::{Flush, Output, Replaced},
    policy::OnSuccess,
    protocol::SharedOutcomeLog,
    sink::{Attributes, Precondition, Sealing},
};

const TEMP: Fingerprint =
    Fingerprint { device: 1, inode: 7, size: 100, mtime_ns: 50, ctime_ns: 60 };
const OLD: Fingerprint = Fingerprint { inode: 5, ..TEMP };
const REPLACED: Replaced = Replaced { identity: OLD, hash: None, sha256: None };
const FOREIGN: Fingerprint = Fingerprint { inode: 9, size: 3, ..TEMP };

fn facts(state: State, temp: Option<Fingerprint>, output: Option<Fingerprint>) -> IntentFacts {
    let record = Record {
        id: 1,
        pipeline: 1,
        source: "a".into(),
        identity: TEMP,
        output: Some(Output {
            path: "a.zst".into(),
            temp: "t".into(),
            identity: TEMP,
            hash: [1; 32],
            source_hash: [2; 32],
            replaces: Some(REPLACED),
            transforms: String::new(),
            sha256: None,
        }),
        on_success: OnSuccess::Delete,
        state,
        reason: None,
        moved_to: None,
        at_ns: 0,
    };
    IntentFacts { record, temp, output, same_content: false, moved: false, acknowledged: false }
}

#[test]
fn every_state_a_crash_can_leave_has_its_plan() {
    let renamed = Fingerprint { ctime_ns: 99, ..TEMP };
    for (temp, output, action) in [
        (Some(TEMP), None, Action::Publish),
        (Some(TEMP), Some(OLD), Action::Replace),
        (Some(TEMP), Some(renamed), Action::FinishAndUnlink),
        (Some(TEMP), Some(FOREIGN), Action::Withdraw),
        (None, Some(renamed), Action::Finish),
        (None, None, Action::Quarantine),
        (None, Some(FOREIGN), Action::Quarantine),
        (None, Some(OLD), Action::Quarantine),
        (Some(FOREIGN), None, Action::Quarantine),
    ] {
        assert_eq!(plan(&facts(State::Intent, temp, output)), action, "{temp:?} {output:?}");
    }
}

#[test]
fn an_acknowledged_output_is_never_published_again() {
    for (temp, output) in
        [(None, None), (None, Some(FOREIGN)), (Some(TEMP), Some(FOREIGN)), (Some(FOREIGN), None)]
    {
        assert_eq!(plan(&facts(State::Published, temp, output)), Action::Dispose);
        let acknowledged = IntentFacts { acknowledged: true, ..facts(State::Intent, temp, output) };
        assert_eq!(plan(&acknowledged), Action::Dispose);
    }
}

/// A line of another record with the same number counted: the source was removed, then the temp.
#[test]
fn a_temp_without_an_output_is_published_whatever_says_that_it_was_acknowledged() {
    for state in [State::Intent, State::Published] {
        for acknowledged in [false, true] {
            let facts = IntentFacts { acknowledged, ..facts(state, Some(TEMP), None) };
            assert_eq!(plan(&facts), Action::Publish, "{state} {acknowledged}");
        }
    }
}

#[test]
fn a_temp_in_a_directory_that_was_moved_away_was_not_published() {
    let moved = |state| IntentFacts { moved: true, ..facts(state, None, None) };
    assert_eq!(plan(&moved(State::Intent)), Action::Withdraw);
    assert_eq!(plan(&moved(State::Published)), Action::Dispose);
}

#[test]
fn the_same_bytes_under_the_final_name_are_the_output() {
    let copied = IntentFacts { same_content: true, ..facts(State::Intent, None, Some(FOREIGN)) };
    assert_eq!(plan(&copied), Action::Finish);
    let linked = IntentFacts { temp: Some(TEMP), ..copied };
    assert_eq!(plan(&linked), Action::FinishAndUnlink);
}

/// A file that may have a name: our output, the one it may replace, a copy of ours, another's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occupant {
    Ours,
    Old,
    Copy,
    Foreign,
}

const OCCUPANTS: [Option<Occupant>; 5] = [
    None,
    Some(Occupant::Ours),
    Some(Occupant::Old),
    Some(Occupant::Copy),
    Some(Occupant::Foreign),
];

/// One record and its names, as small as possible, and the actions taken on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct World {
    temp: Option<Occupant>,
    output: Option<Occupant>,
    state: State,
    acknowledgements: u32,
    renames: u32,
    source: bool,
    replaces: bool,
}

/// The steps of recovery, in order; it may be interrupted after each.
#[derive(Clone, Copy, Debug)]
enum Step {
    Name,
    UnlinkTemp,
    Acknowledge,
    Mark(State),
    Dispose,
}

fn steps(action: Action) -> Vec<Step> {
    use Step::{Acknowledge, Dispose, Mark, Name, UnlinkTemp};
    let finish = [Acknowledge, Mark(State::Published), Dispose, Mark(State::Done)];
    let first: &[Step] = match action {
        Action::Publish | Action::Replace => &[Name],
        Action::FinishAndUnlink => &[UnlinkTemp],
        Action::Finish => &[],
        Action::Dispose => return vec![Dispose, Mark(State::Done)],
        Action::Withdraw => return vec![Mark(State::Withdrawn)],
        Action::Quarantine => return vec![Mark(State::Quarantined)],
    };
    [first, &finish].concat()
}

impl World {
    fn facts(&self) -> IntentFacts {
        let identity = |thing| match thing {
            Occupant::Ours => TEMP,
            Occupant::Old => OLD,
            Occupant::Copy => Fingerprint { inode: 11, ..TEMP },
            Occupant::Foreign => FOREIGN,
        };
        let mut facts = facts(self.state, self.temp.map(identity), self.output.map(identity));
        facts.same_content = self.output == Some(Occupant::Copy);
        facts.acknowledged = self.acknowledgements > 0;
        if let Some(output) = &mut facts.record.output {
            output.replaces = self.replaces.then_some(REPLACED);
        }
        facts
    }

    fn apply(mut self, action: Action, step: Step) -> Self {
        match step {
            Step::Name => {
                let allowed = match action {
                    Action::Replace => self.output == Some(Occupant::Old) && self.replaces,
                    _ => self.output.is_none(),
                };
                assert!(allowed && self.temp == Some(Occupant::Ours), "V3: {self:?}");
                (self.temp, self.output) = (None, self.temp);
                self.renames += 1;
            }
            Step::UnlinkTemp => {
                let published = [Some(Occupant::Ours), Some(Occupant::Copy)].contains(&self.output);
                assert!(published && self.temp == Some(Occupant::Ours), "V3: {self:?}");
                self.temp = None;
            }
            Step::Acknowledge => {
                let ours = [Some(Occupant::Ours), Some(Occupant::Copy)].contains(&self.output);
                assert!(ours, "only a published output is acknowledged: {self:?}");
                self.acknowledgements += 1;
            }
            Step::Mark(state) => self.state = state,
            Step::Dispose => {
                assert!(
                    self.acknowledgements > 0 || self.state == State::Published,
                    "V2: {self:?}"
                );
                self.source = false;
            }
        }
        self
    }

    /// Recovers with up to `interruptions` at every possible point, and with a consumer that takes
    /// acknowledged outputs. Collects every possible result.
    fn recover(self, interruptions: u32, results: &mut Vec<Self>) {
        if !self.state.is_unfinished() {
            return results.push(self);
        }
        let action = plan(&self.facts());
        let mut now = self;
        for step in steps(action) {
            if interruptions > 0 {
                now.recover(interruptions - 1, results);
                if now.acknowledgements > 0 {
                    Self { output: None, ..now }.recover(interruptions - 1, results);
                }
            }
            now = now.apply(action, step);
        }
        now.recover(interruptions, results);
    }
}

#[test]
fn an_interrupted_recovery_publishes_and_acknowledges_once_and_reaches_the_same_result() {
    let (mut worlds, mut recoveries) = (0, 0);
    for (temp, output) in
        OCCUPANTS.into_iter().flat_map(|temp| OCCUPANTS.map(|output| (temp, output)))
    {
        for (state, acknowledgements) in
            [(State::Intent, 0), (State::Intent, 1), (State::Published, 1)]
        {
            // The name was durable, and the temp gone, before the acknowledgement.
            if acknowledgements == 1 && temp == Some(Occupant::Ours) {
                continue;
            }
            for replaces in [false, true] {
                let initial = World {
                    temp,
                    output,
                    state,
                    acknowledgements,
                    renames: 0,
                    source: true,
                    replaces,
                };
                let mut uninterrupted = Vec::new();
                initial.recover(0, &mut uninterrupted);
                let mut all = Vec::new();
                initial.recover(3, &mut all);
                for result in &all {
                    assert!(
                        result.acknowledgements <= 1 && result.renames <= 1,
                        "V1: {initial:?} {result:?}"
                    );
                    assert!(
                        acknowledgements == 0 || result.renames == 0,
                        "V1: {initial:?} {result:?}"
                    );
                    assert!(
                        result.source || result.acknowledgements == 1,
                        "V2: {initial:?} {result:?}"
                    );
                    let without_output = |world: &World| World { output: None, ..*world };
                    assert_eq!(
                        without_output(result),
                        without_output(&uninterrupted[0]),
                        "another result: {initial:?}"
                    );
                    let consumed = result.output.is_none() && result.acknowledgements == 1;
                    assert!(
                        consumed || result.output == uninterrupted[0].output,
                        "{initial:?} {result:?}"
                    );
                }
                worlds += 1;
                recoveries += all.len();
            }
        }
    }
    assert_eq!(worlds, OCCUPANTS.len() * (OCCUPANTS.len() * 6 - 4));
    assert!(recoveries > 10 * worlds, "{recoveries}");
}

/// Recovery on a ledger and a sink in memory: it knows neither SQLite nor directories of outputs.
#[test]
fn what_a_kill_left_in_any_sink_is_finished() {
    let input = tempfile::tempdir().expect("temporary directory");
    let ledger = ledger::memory::Store::default().open();
    let store = sink::memory::Store::default();
    let open_sink = |_: &str, _: &Path| {
        Ok(Arc::new(store.open(crate::ledger::Ledger::instance(&ledger))) as Arc<dyn Sink>)
    };
    let ledger: &dyn ledger::Ledger = &ledger;
    let pipeline =
        ledger.register_pipeline("main", input.path(), "/out".as_ref()).expect("register");
    let intend = |name: &str| {
        let sink = open_sink("main", Path::new("/out")).expect("open");
        let output = stage(&*sink, name);
        let facts = facts(State::Intent, None, None);
        let (id, source) = (ledger.session().next_id(), name.into());
        Record { id, pipeline, source, output: Some(output), ..facts.record }
    };
    let records = ["staged", "published", "taken", "gone"].map(intend);
    ledger.append(&records, Flush::Now).expect("append");
    for name in ["published", "gone"] {
        let output = records.iter().filter_map(|record| record.output.as_ref());
        let output = output.clone().find(|output| output.path == Path::new(name)).expect("its");
        let sink = open_sink("main", Path::new("/out")).expect("open");
        sink.resume(output, Precondition::Absent).expect("publish");
    }
    assert_eq!(store.take("gone".as_ref()).as_deref(), Some(&b"gone"[..]));
    store.put("taken".as_ref(), b"theirs");

    let stores = (ledger, &open_sink as &OpenSink<'_>);
    let events = SharedOutcomeLog::default();
    let Gathered { roots, facts, deferred } = gather(stores, &events, &|_| false).expect("gather");
    assert_eq!((facts.len(), deferred), (4, 0));
    let plans = facts.into_iter().map(|facts| (facts.clone(), plan(&facts))).collect();
    let quarantines = Quarantines { events: &events, ledger: ledger.instance(), count: &|_, _| {} };
    let counted = RefCell::new(Vec::new());
    let context = RecoveryContext {
        count_published: &|_, record| counted.borrow_mut().push(record.id),
        ledger,
        events: &events,
        roots: &roots,
        patience: &|_| false,
        quarantines: &quarantines,
        pipelines: &[],
    };
    let (summary, unconfirmed) = apply(&context, plans).expect("apply");
    let expected =
        Summary { published: 2, disposed: 2, withdrawn: 1, quarantined: 1, ..Summary::default() };
    assert_eq!(summary, expected);
    assert_eq!(*counted.borrow(), [records[0].id, records[1].id]);
    let state = |record: &Record| ledger.record(record.id).expect("look up").expect("it").state;
    // Their sources are not there, and may have their private names.
    let states = |published| [published, published, State::Withdrawn, State::Quarantined];
    assert_eq!(records.each_ref().map(state), states(State::Published));
    let mut swept = SweptInputs::default();
    confirm(&context, (&unconfirmed, &swept)).expect("nothing was searched");
    assert_eq!(records.each_ref().map(state), states(State::Published));
    swept.searched.insert(input.path().to_path_buf());
    confirm(&context, (&unconfirmed, &swept)).expect("confirm");
    assert_eq!(records.each_ref().map(state), states(State::Done));
    let read = |name: &str| store.read(name.as_ref());
    assert_eq!(read("staged").as_deref(), Some(&b"staged"[..]));
    assert_eq!(read("published").as_deref(), Some(&b"published"[..]));
    assert_eq!(read("taken").as_deref(), Some(&b"theirs"[..]));
    assert_eq!(read("gone"), None);
    // The withdrawn one is no longer live.
    let swept = roots[&pipeline].sink.sweep(&|_| false);
    assert_eq!((swept.removed, store.staged_names().len()), (1, 0));
}

/// Leaves a staged output whose content is its name, as a process that is killed does.
fn stage(sink: &dyn Sink, name: &str) -> Output {
    let mut writer = sink.create(name.as_ref(), &|_| None).expect("create");
    writer.write(name.as_bytes()).expect("write");
    let metadata = FileMetadata {
        kind: Kind::File,
        identity: TEMP,
        mode: 0o644,
        owner: 0,
        group: 0,
        names: 1,
    };
    let attributes = Attributes { metadata: &metadata, extended: &ExtendedAttributes::default() };
    let hash = *blake3::hash(name.as_bytes()).as_bytes();
    let mut staged = writer.finish(attributes, &hash, Sealing::Batch).expect("finish");
    staged.protect();
    Output {
        path: name.into(),
        temp: staged.staged_name().to_owned(),
        identity: staged.identity(),
        hash,
        source_hash: hash,
        replaces: None,
        transforms: String::new(),
        sha256: None,
    }
}
