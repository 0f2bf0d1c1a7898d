//! What may happen, and how often.

use proptest::{collection::vec, prelude::*, sample::select};
use tidemill::failpoint::{DETOUR_NAMES, NAMES, RECOVERY_NAMES, STORE_NAMES};

use crate::neighbour::Transaction;

/// Few names, so that things happen to the same one.
pub const PATHS: [&str; 4] = ["a", "b", "d/a", "d/e/c"];

/// What hinders a run for a moment, and ends nothing.
const HINDRANCES: [&str; 6] = [
    "events::append=1*return(enospc)->off",
    "events::sync=1*return(enospc)->off",
    "commit::intent=1*return(ebusy)->off",
    "commit::mark=1*return(ebusy)->off",
    "commit::directory=1*return(enospc)->off",
    "commit::sync=1*return(eio)->off",
];

/// A run of the model.
#[derive(Clone, Debug)]
pub struct Case {
    pub on_success: &'static str,
    pub on_exists: &'static str,
    /// The file system of the outputs has no rename that refuses to replace: they are linked.
    pub links: bool,
    pub served: Served,
    pub steps: Vec<Step>,
}

/// The directories that are on a file system in user space, which does not say who writes a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    Neither,
    Input,
    Output,
    Both,
}

impl Served {
    pub const fn has_input(self) -> bool {
        matches!(self, Self::Input | Self::Both)
    }

    pub const fn has_output(self) -> bool {
        matches!(self, Self::Output | Self::Both)
    }
}

#[derive(Clone, Debug)]
pub enum Step {
    /// Something happens while the service is down.
    Hand(Hand),
    /// `--once`, to its end.
    Once,
    /// `--once`, which kills itself when it comes by this failpoint after this many passes.
    KilledAt(&'static str, u8),
    /// `--once`, while storage is full or busy for a moment: it waits, and goes on.
    Hindered(&'static str),
    /// `--once`, killed after this many microseconds.
    KilledAfter(u32),
    /// The service watches, while things happen with this many microseconds after each.
    Watch(Vec<(Hand, u32)>, End),
    /// As [`Self::Watch`], but its file system answers nothing to the thread that comes by this failpoint
    /// first, until the end.
    Stuck(&'static str, Vec<(Hand, u32)>, End),
    /// The operator no longer keeps sources: from the next start on this is the policy.
    Policy(&'static str),
    /// The operator has a source processed again, this one of those that are there, while the
    /// service is down.
    Reprocess(u8),
}

#[derive(Clone, Copy, Debug)]
pub enum End {
    Kill,
    Drain,
}

/// What anyone but the service may do. Producers work on the input, the others on the output.
#[derive(Clone, Copy, Debug)]
pub enum Hand {
    /// A producer makes a file, or rewrites it in place.
    Write(&'static str, Size),
    /// A producer makes it elsewhere and renames it to its name.
    MoveIn(&'static str, Size),
    /// A producer begins a file under a temporary name next to its final one.
    Begin(&'static str, Size),
    /// It renames what it began to its final name.
    Finish(&'static str),
    /// A producer delivers other content under the name of a source that was acknowledged and
    /// disposed of.
    Redeliver(&'static str, Size),
    Append(&'static str),
    Remove(&'static str),
    Rename(&'static str, &'static str),
    MakeDirectory(&'static str),
    /// The consumer takes an acknowledged output: this one of those that are there.
    Take(u8),
    /// Another program puts a file where this source's output would go: next to nothing, or over an
    /// acknowledged output.
    Foreign(&'static str),
    /// Another program makes a directory there.
    ForeignDirectory(&'static str),
    /// Another service, which has a ledger of its own, says in the same events file that it published
    /// what this source has, under the number of the next record.
    ForeignLine(&'static str),
    /// Another program holds a transaction on the ledger for this many milliseconds, while the others go on.
    HoldLedger(Transaction, u64),
    /// The file systems in user space answer nothing for this many milliseconds, and then go on.
    Hang(u64),
}

#[derive(Clone, Copy, Debug)]
pub enum Size {
    /// Crosses the stages as one buffer.
    Small,
    /// Streams through a lane.
    Large,
}

pub fn case() -> impl Strategy<Value = Case> {
    (
        select(&["keep", "delete", "archive"][..]),
        // The default policy is the one with a rule of its own.
        select(&["update", "update", "fail", "replace", "suffix", "skip"][..]),
        any::<bool>(),
        prop_oneof![
            6 => Just(Served::Neither),
            1 => Just(Served::Input),
            1 => Just(Served::Output),
            1 => Just(Served::Both),
        ],
        vec(step(), 3..16),
    )
        .prop_map(|(on_success, on_exists, links, served, steps)| Case {
            on_success,
            on_exists,
            links,
            served,
            steps,
        })
}

fn step() -> impl Strategy<Value = Step> {
    let hands = || vec((hand(), 0_u32..30_000), 1..5);
    let end = || prop_oneof![Just(End::Drain), Just(End::Kill)];
    prop_oneof![
        8 => hand().prop_map(Step::Hand),
        2 => Just(Step::Once),
        4 => (select(&NAMES[..]), prop_oneof![3 => Just(0), 1 => 1_u8..3]).prop_map(|(name, passes)| Step::KilledAt(name, passes)),
        1 => select(&RECOVERY_NAMES[..]).prop_map(|name| Step::KilledAt(name, 0)),
        1 => select(&STORE_NAMES[..2]).prop_map(|name| Step::KilledAt(name, 0)),
        1 => select(&HINDRANCES[..]).prop_map(Step::Hindered),
        1 => (0_u32..60_000).prop_map(Step::KilledAfter),
        1 => select(&DETOUR_NAMES[..3]).prop_map(|name| Step::KilledAt(name, 0)),
        1 => (hands(), end()).prop_map(|(hands, end)| Step::Watch(hands, end)),
        1 => (select(&NAMES[..]), hands(), end())
            .prop_map(|(name, hands, end)| Step::Stuck(name, hands, end)),
        1 => select(&["delete", "archive"][..]).prop_map(Step::Policy),
        4 => any::<u8>().prop_map(Step::Reprocess),
    ]
}

/// Mostly a moment.
fn millis() -> impl Strategy<Value = u64> {
    prop_oneof![7 => 1_u64..60, 1 => 60_u64..1_000]
}

fn hand() -> impl Strategy<Value = Hand> {
    let path = || select(&PATHS[..]);
    let size = || prop_oneof![5 => Just(Size::Small), 1 => Just(Size::Large)];
    prop_oneof![
        4 => (path(), size()).prop_map(|(path, size)| Hand::Write(path, size)),
        4 => (path(), size()).prop_map(|(path, size)| Hand::MoveIn(path, size)),
        2 => (path(), size()).prop_map(|(path, size)| Hand::Begin(path, size)),
        3 => path().prop_map(Hand::Finish),
        5 => (path(), size()).prop_map(|(path, size)| Hand::Redeliver(path, size)),
        2 => path().prop_map(Hand::Append),
        1 => path().prop_map(Hand::Remove),
        2 => (path(), path()).prop_map(|(from, to)| Hand::Rename(from, to)),
        1 => path().prop_map(Hand::MakeDirectory),
        4 => any::<u8>().prop_map(Hand::Take),
        2 => path().prop_map(Hand::Foreign),
        1 => path().prop_map(Hand::ForeignDirectory),
        2 => path().prop_map(Hand::ForeignLine),
        1 => (select(&[Transaction::Writing, Transaction::Reading][..]), millis())
            .prop_map(|(transaction, millis)| Hand::HoldLedger(transaction, millis)),
        1 => millis().prop_map(Hand::Hang),
    ]
}
