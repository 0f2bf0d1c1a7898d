//! Finishes the unfinished work of the previous run before the intake opens.
//!
//! [`plan`] decides from facts alone; [`apply`] carries the decisions out. Both may be interrupted
//! at any instant and run again: every action leaves a state whose plan is the rest of the work.
//!
//! V1: an output is published at most once: a missing temp was published, or must not be.
//! V2: a source is removed only if its output is known to be published.
//! V3: a state that cannot be explained is reported and kept for the operator; nothing of it is
//! deleted.
//! V4: work that cannot be inspected is deferred to a later start, and the stop is not clean.

mod apply;
mod inspect;
mod mounts;
mod quarantines;
mod search;
mod sweep;
mod taken;
mod unconfirmed;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use apply::{Count, RecoveryContext, apply, confirm};
pub use inspect::{Gathered, gather, largest_id};
pub use quarantines::Quarantines;
pub use sweep::{SweepRequest, sweep};
pub use unconfirmed::{SweptInputs, Unconfirmed};

use crate::{
    fingerprint::Fingerprint,
    ledger::{self, Record, State},
    observe::display_path,
    sink::{self, Sink},
    source::Source,
};

/// The facts about an unfinished record.
#[derive(Clone, Debug)]
pub struct IntentFacts {
    pub record: Record,
    /// The file that has the temp's name now.
    pub temp: Option<Fingerprint>,
    /// The file that has the final name now.
    pub output: Option<Fingerprint>,
    /// Whether the file with the final name has the intended content, byte for byte; compared only
    /// if its identity differs.
    pub same_content: bool,
    /// Whether the temp is below the output's root in another directory: its own was moved away.
    /// Searched only if neither temp nor output is in its directory.
    pub moved: bool,
    /// Whether the events file has a line for the record: it was acknowledged.
    pub acknowledged: bool,
}

/// The action for one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The temp exists: give it its final name, then as [`Action::Finish`].
    Publish,
    /// As `Publish`, over the output that it was to replace.
    Replace,
    /// The output has its final name: make that durable, acknowledge, dispose of the source.
    Finish,
    /// As `Finish`; the temp's name is a second link to the output and is removed.
    FinishAndUnlink,
    /// The output was acknowledged: only dispose of the source.
    Dispose,
    /// Another file took the name, or the directory was moved away with the temp: withdraw the
    /// intent; the source goes through the intake.
    Withdraw,
    /// Neither temp nor output exists: a consumer took it, or another process removed it. The
    /// source stays and is not processed again until the operator requeues it.
    Quarantine,
}

/// Decides about one record. Pure.
#[must_use]
pub fn plan(facts: &IntentFacts) -> Action {
    let IntentFacts { record, temp, output: existing, same_content, moved, acknowledged } = facts;
    let Some(output) = &record.output else {
        return Action::Quarantine;
    };
    let is_ours = |found: &Fingerprint| found.matches_content(&output.identity);
    // An acknowledgement means that the final name was durable and the temp gone. So this one was
    // never published, whatever the record or the events file states.
    if existing.is_none() && temp.as_ref().is_some_and(is_ours) {
        return Action::Publish;
    }
    if record.state == State::Published || *acknowledged {
        return Action::Dispose;
    }
    let is_replaced = |found: &Fingerprint| {
        output.replaces.is_some_and(|replaced| found.matches_content(&replaced.identity))
    };
    match (temp, existing) {
        (Some(temp), Some(found)) if is_ours(temp) && is_ours(found) => Action::FinishAndUnlink,
        (Some(temp), Some(found)) if is_ours(temp) && is_replaced(found) => Action::Replace,
        // Some file systems give two names of a file two inodes.
        (Some(temp), Some(_)) if is_ours(temp) && *same_content => Action::FinishAndUnlink,
        (Some(temp), Some(_)) if is_ours(temp) => Action::Withdraw,
        (None, Some(found)) if is_ours(found) || *same_content => Action::Finish,
        (None, None) if *moved => Action::Withdraw,
        _ => Action::Quarantine,
    }
}

/// The counts of what recovery did, for the log and the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub published: u64,
    pub disposed: u64,
    pub withdrawn: u64,
    pub quarantined: u64,
    pub temps_removed: u64,
    pub sources_returned: u64,
    /// Unfinished records and directories that could not be inspected: a later start must.
    pub deferred: u64,
}

/// The two ends of a pipeline that has unfinished records.
#[derive(Clone, Debug)]
pub struct OpenedDirs {
    pub name: Arc<str>,
    pub input: Arc<dyn Source>,
    /// The output's root.
    pub output: PathBuf,
    pub sink: Arc<dyn Sink>,
}

/// Opens the sink of the pipeline with this name and this output root, or fails where it does not
/// respond.
pub type OpenSink<'a> = dyn Fn(&str, &Path) -> io::Result<Arc<dyn Sink>> + 'a;

/// Recovery could not finish; what it did is done, and the next start continues.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    #[error("cannot {action} {}", display_path(path))]
    Io { path: PathBuf, action: &'static str, source: io::Error },
    #[error("cannot write the events file")]
    Events(#[source] io::Error),
    /// The stop, or the limit of `--once`, came before it could be written.
    #[error("cannot write the events file; published outputs wait for it")]
    EventsUnavailable(#[source] io::Error),
}

impl From<sink::Error> for Error {
    fn from(error: sink::Error) -> Self {
        let sink::Error { kind, path, source } = error;
        Self::Io { path, action: kind.action(), source }
    }
}

#[cfg(test)]
mod tests;
