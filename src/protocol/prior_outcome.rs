//! What the ledger has of a file: whether it was processed before, and what is left to do.

use std::path::Path;

use crate::{
    fingerprint::Fingerprint,
    ledger::{self, Ledger, PipelineId, Record, State},
    policy::OnSuccess,
};

/// The outcome of a file's earlier jobs, by the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriorOutcome {
    /// No record keeps the file from being processed.
    New,
    /// It was processed and stays in the input.
    Done,
    /// It was processed and should no longer be in the input.
    RetryDispose,
    /// It is in quarantine and waits for an operator.
    InQuarantine,
    /// Its move to quarantine was recorded, and it is still in the input.
    RetryQuarantine,
    /// Its output's name was taken when it was processed.
    Skipped,
    /// Its record is unfinished: recovery finishes it at the next start.
    Unfinished,
    /// By its metadata it is the processed file except for its change time: the content decides. A
    /// `chmod` moves that time, and so does the recovery of btrfs after a power loss. The same holds
    /// if the times are too coarse to show a change right after the file was read.
    MetadataChanged,
    /// A power loss returned it to a state before the processed one.
    RolledBack,
}

/// Finds the record of a file: the newest one of its path, or an older one of the same inode if a
/// power loss restored, completely or in part, a file that a newer one had replaced.
pub fn find_record(
    ledger: &dyn Ledger,
    pipeline: PipelineId,
    source: &Path,
    found: &Fingerprint,
) -> ledger::Result<Option<Record>> {
    let latest = ledger.latest(pipeline, source)?;
    let is_other_inode = |latest: &Record| latest.identity.inode != found.inode;
    if !latest.as_ref().is_some_and(is_other_inode) {
        return Ok(latest);
    }
    let older = ledger.latest_of_inode(pipeline, source, found.inode)?;
    // A new file may have the inode of an old one, but not its times.
    let is_same_file = |older: &Record| {
        found.matches(&older.identity) || found.is_earlier_state_of(&older.identity)
    };
    Ok(older.filter(is_same_file).or(latest))
}

/// Classifies a file by its record. Only an equal identity makes it the same file.
#[must_use]
pub fn prior_outcome(
    record: Option<&Record>,
    found: &Fingerprint,
    on_success: &OnSuccess,
) -> PriorOutcome {
    let Some(record) = record else {
        return PriorOutcome::New;
    };
    let same = found.matches(&record.identity);
    let may_differ = same && record.identity.may_hide_a_change(record.at_ns);
    match record.state {
        State::Requeued | State::Withdrawn => PriorOutcome::New,
        State::Intent if same => PriorOutcome::Unfinished,
        State::Published | State::Done | State::Changed if may_differ => {
            PriorOutcome::MetadataChanged
        }
        State::Published | State::Done | State::Changed if same => {
            let keep = [on_success, &record.on_success].map(|policy| *policy == OnSuccess::Keep);
            if keep == [true, true] { PriorOutcome::Done } else { PriorOutcome::RetryDispose }
        }
        State::Published | State::Done | State::Changed
            if found.matches_content(&record.identity) =>
        {
            PriorOutcome::MetadataChanged
        }
        // It was moved to another disk, or its file system does not keep inode numbers.
        State::Published | State::Done
            if record.on_success == OnSuccess::Keep && found.is_copy_of(&record.identity) =>
        {
            PriorOutcome::MetadataChanged
        }
        State::Published | State::Done | State::Changed
            if found.is_earlier_state_of(&record.identity) =>
        {
            PriorOutcome::RolledBack
        }
        State::Quarantined if same && record.moved_to.is_some() => PriorOutcome::RetryQuarantine,
        State::Quarantined if same => PriorOutcome::InQuarantine,
        State::Skipped if same => PriorOutcome::Skipped,
        _ => PriorOutcome::New,
    }
}

/// Classifies a file like [`prior_outcome`], also by the boot of its record. A file that arrives after
/// this service removed or archived its namesake is a new delivery, even with equal metadata: file
/// systems reuse an inode at once, and copies keep their times. Only a power loss can restore the old
/// file.
#[must_use]
pub fn classify(
    ledger: &dyn Ledger,
    record: Option<&Record>,
    found: &Fingerprint,
    on_success: &OnSuccess,
) -> PriorOutcome {
    let was_disposed_of = |record: &Record| {
        record.state == State::Done
            && record.on_success != OnSuccess::Keep
            && ledger.is_of_this_boot(record.id)
    };
    match prior_outcome(record, found, on_success) {
        PriorOutcome::MetadataChanged if record.is_some_and(was_disposed_of) => PriorOutcome::New,
        other => other,
    }
}

#[cfg(test)]
mod tests;
