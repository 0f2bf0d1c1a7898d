//! What the last run left is finished before the intake opens.
//!
//! [`plan`] decides from facts alone; [`apply`] does as it is told. Both may be interrupted at any
//! instant and run again: every action leaves a state whose plan is the rest of the work.
//!
//! V1: an output is published at most once: a temp that is gone was published, or is not to be.
//! V2: a source is removed only where its output is known to be published.
//! V3: what cannot be explained is told and left for a person; nothing of it is deleted.
//! V4: what could not be looked at is left for a later start, and the stop is not clean.

mod apply;
mod inspect;
mod quarantines;
mod sweep;

use std::{path::PathBuf, sync::Arc};

pub use apply::{RecoveryContext, apply};
pub use inspect::{Gathered, gather, largest_id};
pub use quarantines::Quarantines;
pub use sweep::sweep;

use crate::{
    fingerprint::Fingerprint,
    fs::Dir,
    ledger::{self, Record, State},
    observe::display_path,
};

/// What was found about an unfinished record.
#[derive(Clone, Debug)]
pub struct IntentFacts {
    pub record: Record,
    /// What has the temp's name now.
    pub temp: Option<Fingerprint>,
    /// What has the final name now.
    pub output: Option<Fingerprint>,
    /// What has the final name has the intended content, byte for byte; asked only where its
    /// identity is another.
    pub same_content: bool,
    /// The temp is below the output's root, in another directory: its own was moved away. Asked only
    /// where neither temp nor output is in its place.
    pub moved: bool,
    /// The events file has a line for it: it was acknowledged.
    pub acknowledged: bool,
}

/// What is to be done about one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The temp is there: give it its name, then as [`Action::Finish`].
    Publish,
    /// As `Publish`, in the place of the output it was to replace.
    Replace,
    /// It has its final name: make that durable, acknowledge, dispose of the source.
    Finish,
    /// As `Finish`; the temp's name is a second link to the output.
    FinishAndUnlink,
    /// It was acknowledged: only the source is to be disposed of.
    Dispose,
    /// The name was taken by another, or the directory was moved away with the temp: the intent is
    /// withdrawn, the source goes through the intake.
    Withdraw,
    /// Neither temp nor output: a consumer took it, or another hand removed it. The source stays
    /// and is not processed again until a person says so.
    Quarantine,
}

/// Decides about one record. Pure.
#[must_use]
pub fn plan(facts: &IntentFacts) -> Action {
    let IntentFacts { record, temp, output: found, same_content, moved, acknowledged } = facts;
    let Some(output) = &record.output else {
        return Action::Quarantine;
    };
    let is_ours = |found: &Fingerprint| found.matches_content(&output.identity);
    // Its name was durable before it was acknowledged, so its temp is gone: whoever says otherwise,
    // this one was never published.
    if found.is_none() && temp.as_ref().is_some_and(is_ours) {
        return Action::Publish;
    }
    if record.state == State::Published || *acknowledged {
        return Action::Dispose;
    }
    let is_replaced = |found: &Fingerprint| {
        output.replaces.is_some_and(|replaced| found.matches_content(&replaced.identity))
    };
    match (temp, found) {
        (Some(temp), Some(found)) if is_ours(temp) && is_ours(found) => Action::FinishAndUnlink,
        (Some(temp), Some(found)) if is_ours(temp) && is_replaced(found) => Action::Replace,
        // There are file systems that give two names of a file two inodes.
        (Some(temp), Some(_)) if is_ours(temp) && *same_content => Action::FinishAndUnlink,
        (Some(temp), Some(_)) if is_ours(temp) => Action::Withdraw,
        (None, Some(found)) if is_ours(found) || *same_content => Action::Finish,
        (None, None) if *moved => Action::Withdraw,
        _ => Action::Quarantine,
    }
}

/// What recovery did, for the log and the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub published: u64,
    pub disposed: u64,
    pub withdrawn: u64,
    pub quarantined: u64,
    pub temps_removed: u64,
    pub sources_returned: u64,
    /// Unfinished records and directories that could not be looked at: a later start has to.
    pub left: u64,
}

/// The two directories of a pipeline that has unfinished records.
#[derive(Clone, Debug)]
pub struct OpenedDirs {
    pub name: Arc<str>,
    pub input: Arc<Dir>,
    pub output: Arc<Dir>,
}

/// Recovery could not be finished; what it did is done, and the next start goes on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    #[error("cannot {action} {}", display_path(path))]
    Io { path: PathBuf, action: &'static str, source: std::io::Error },
    #[error("cannot write the events file")]
    Events(#[source] std::io::Error),
    /// The stop, or the end of `--once`, came before there was space.
    #[error("the events file has no space, and what is published waits for it")]
    NoSpace(#[source] std::io::Error),
}

impl Error {
    /// What caused it, for the log.
    fn cause(&self) -> String {
        std::error::Error::source(self).map(ToString::to_string).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
