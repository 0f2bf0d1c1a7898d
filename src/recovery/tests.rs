use super::*;
use crate::{
    ledger::{Output, Replaced},
    policy::OnSuccess,
};

const TEMP: Fingerprint =
    Fingerprint { device: 1, inode: 7, size: 100, modified_ns: 50, changed_ns: 60 };
const OLD: Fingerprint = Fingerprint { inode: 5, ..TEMP };
const REPLACED: Replaced = Replaced { identity: OLD, hash: None };
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
    let renamed = Fingerprint { changed_ns: 99, ..TEMP };
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

/// What may have a name: our output, the one that it may replace, a copy of ours, another's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    Ours,
    Old,
    Copy,
    Foreign,
}

const THINGS: [Option<Thing>; 5] =
    [None, Some(Thing::Ours), Some(Thing::Old), Some(Thing::Copy), Some(Thing::Foreign)];

/// One record and its names, as small as can be, and what was done with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct World {
    temp: Option<Thing>,
    output: Option<Thing>,
    state: State,
    told: u32,
    named: u32,
    source: bool,
    replaces: bool,
}

/// What recovery does, in its order; it may end after each.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Name,
    UnlinkTemp,
    Tell,
    Mark(State),
    DisposeOfSource,
}

fn deeds(action: Action) -> Vec<Deed> {
    use Deed::{DisposeOfSource, Mark, Name, Tell, UnlinkTemp};
    let finish = [Tell, Mark(State::Published), DisposeOfSource, Mark(State::Done)];
    let first: &[Deed] = match action {
        Action::Publish | Action::Replace => &[Name],
        Action::FinishAndUnlink => &[UnlinkTemp],
        Action::Finish => &[],
        Action::Dispose => return vec![DisposeOfSource, Mark(State::Done)],
        Action::Withdraw => return vec![Mark(State::Withdrawn)],
        Action::Quarantine => return vec![Mark(State::Quarantined)],
    };
    [first, &finish].concat()
}

impl World {
    fn facts(&self) -> IntentFacts {
        let identity = |thing| match thing {
            Thing::Ours => TEMP,
            Thing::Old => OLD,
            Thing::Copy => Fingerprint { inode: 11, ..TEMP },
            Thing::Foreign => FOREIGN,
        };
        let mut facts = facts(self.state, self.temp.map(identity), self.output.map(identity));
        facts.same_content = self.output == Some(Thing::Copy);
        facts.acknowledged = self.told > 0;
        if let Some(output) = &mut facts.record.output {
            output.replaces = self.replaces.then_some(REPLACED);
        }
        facts
    }

    fn after(mut self, action: Action, deed: Deed) -> Self {
        match deed {
            Deed::Name => {
                let allowed = match action {
                    Action::Replace => self.output == Some(Thing::Old) && self.replaces,
                    _ => self.output.is_none(),
                };
                assert!(allowed && self.temp == Some(Thing::Ours), "V3: {self:?}");
                (self.temp, self.output) = (None, self.temp);
                self.named += 1;
            }
            Deed::UnlinkTemp => {
                let published = [Some(Thing::Ours), Some(Thing::Copy)].contains(&self.output);
                assert!(published && self.temp == Some(Thing::Ours), "V3: {self:?}");
                self.temp = None;
            }
            Deed::Tell => {
                let ours = [Some(Thing::Ours), Some(Thing::Copy)].contains(&self.output);
                assert!(ours, "only what is published is told: {self:?}");
                self.told += 1;
            }
            Deed::Mark(state) => self.state = state,
            Deed::DisposeOfSource => {
                assert!(self.told > 0 || self.state == State::Published, "V2: {self:?}");
                self.source = false;
            }
        }
        self
    }

    /// Recovers, with so many ends in the middle at every place where there can be one, and with a
    /// consumer that takes what was told. Gives every end it can come to.
    fn recover(self, ends: u32, found: &mut Vec<Self>) {
        if !self.state.is_unfinished() {
            return found.push(self);
        }
        let action = plan(&self.facts());
        let mut now = self;
        for deed in deeds(action) {
            if ends > 0 {
                now.recover(ends - 1, found);
                if now.told > 0 {
                    Self { output: None, ..now }.recover(ends - 1, found);
                }
            }
            now = now.after(action, deed);
        }
        now.recover(ends, found);
    }
}

#[test]
fn however_often_recovery_ends_early_it_publishes_and_tells_once_and_comes_to_the_same_end() {
    let (mut worlds, mut recoveries) = (0, 0);
    for (temp, output) in THINGS.into_iter().flat_map(|temp| THINGS.map(|output| (temp, output))) {
        for (state, told) in [(State::Intent, 0), (State::Intent, 1), (State::Published, 1)] {
            // Its name was durable, and its temp's gone, before it was acknowledged.
            if told == 1 && temp == Some(Thing::Ours) {
                continue;
            }
            for replaces in [false, true] {
                let begin = World { temp, output, state, told, named: 0, source: true, replaces };
                let mut whole = Vec::new();
                begin.recover(0, &mut whole);
                let mut all = Vec::new();
                begin.recover(3, &mut all);
                for end in &all {
                    assert!(end.told <= 1 && end.named <= 1, "V1: {begin:?} {end:?}");
                    assert!(told == 0 || end.named == 0, "V1: {begin:?} {end:?}");
                    assert!(end.source || end.told == 1, "V2: {begin:?} {end:?}");
                    let taken = |end: &World| World { output: None, ..*end };
                    assert_eq!(taken(end), taken(&whole[0]), "another end: {begin:?}");
                    let consumed = end.output.is_none() && end.told == 1;
                    assert!(consumed || end.output == whole[0].output, "{begin:?} {end:?}");
                }
                worlds += 1;
                recoveries += all.len();
            }
        }
    }
    assert_eq!(worlds, THINGS.len() * (THINGS.len() * 6 - 4));
    assert!(recoveries > 10 * worlds, "{recoveries}");
}
