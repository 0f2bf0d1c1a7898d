//! What the ledger has of a file: whether it was processed before, and what is left to do.

use crate::{
    fingerprint::Fingerprint,
    ledger::{self, Ledger, Record, State},
    policy::OnSuccess,
};

crate::policy::words! {
    /// The outcome of a file's earlier jobs, by the ledger.
    PriorOutcome {
        /// No record keeps the file from being processed.
        New = "new",
        /// It was processed and stays in the input.
        Done = "done",
        /// It was processed and should no longer be in the input.
        RetryDispose = "retry_dispose",
        /// It is in quarantine and waits for an operator.
        InQuarantine = "in_quarantine",
        /// Its move to quarantine was recorded, and it is still in the input.
        RetryQuarantine = "retry_quarantine",
        /// Its output's name was taken when it was processed.
        Skipped = "skipped",
        /// Its record is unfinished: recovery finishes it at the next start.
        Unfinished = "unfinished",
        /// By its metadata it is the processed file except for its change time: the content decides. A
        /// `chmod` moves that time, and so does the recovery of btrfs after a power loss. The same holds
        /// if the times are too coarse to show a change right after the file was read.
        MetadataChanged = "metadata_changed",
        /// A power loss returned it to a state before the processed one.
        RolledBack = "rolled_back",
    }
}

/// Finds the record of a file: the newest one of its path, which is given, or an older one if a power
/// loss restored, completely or in part, a file that a newer one had replaced, or took back a change of
/// its times alone.
pub fn find_record(
    ledger: &dyn Ledger,
    latest: Option<Record>,
    found: &Fingerprint,
) -> ledger::Result<Option<Record>> {
    let Some(record) = &latest else { return Ok(None) };
    if let Some(published) = find_undisposed(ledger, record, found)? {
        return Ok(Some(published));
    }
    if found.matches(&record.identity) {
        return Ok(latest);
    }
    if record.identity.inode == found.inode {
        let older = ledger.latest_of_file(record.pipeline, &record.source, found)?;
        let hash = |record: &Record| record.output.as_ref().map(|output| output.source_hash);
        // Only a power loss gives a file the change time that it had before. btrfs gives it a new
        // one when it replays its log: then the content decides.
        let was_replayed =
            record.on_success == OnSuccess::Keep && !ledger.session().is_of_this_boot(record.id);
        let is_taken_back = |older: &Record| {
            is_requeued(older, found)
                || hash(older) == hash(record) && (was_replayed || found.matches(&older.identity))
        };
        if let Some(older) = older.filter(is_taken_back) {
            return Ok(Some(older));
        }
        // A record without an output keeps no earlier one from being replaced. The operator may: by a
        // request.
        if record.output.is_some() || record.state == State::Requeued {
            return Ok(latest);
        }
        let published = ledger.latest_of_inode(record.pipeline, &record.source, found.inode)?;
        let is_rolled_back = |published: &Record| {
            found.is_earlier_state_of(&published.identity)
                || found.may_have_lost_content_of(&published.identity, published.at_ns)
        };
        return Ok(published.filter(is_rolled_back).or(latest));
    }
    let older = ledger.latest_of_inode(record.pipeline, &record.source, found.inode)?;
    // A new file may have the inode of an old one, but not its times.
    let is_same_file = |older: &Record| {
        found.matches(&older.identity)
            || found.is_earlier_state_of(&older.identity)
            || is_requeued(older, found)
    };
    Ok(older.filter(is_same_file).or(latest))
}

/// Checks whether a record is of a published output whose source, this file, is back from quarantine.
fn is_requeued(record: &Record, found: &Fingerprint) -> bool {
    record.state == State::Changed
        && record.is_undisposed()
        && found.matches_content(&record.identity)
}

/// Finds the record of the output that was published before its source went to quarantine; `None` if
/// the file in quarantine has no output.
pub fn find_published(ledger: &dyn Ledger, quarantined: &Record) -> ledger::Result<Option<Record>> {
    if !quarantined.is_undisposed() {
        return Ok(None);
    }
    let Record { pipeline, source, identity, .. } = quarantined;
    ledger.latest_of_file(*pipeline, source, identity)
}

/// Finds the record whose disposal is left to do, if the found file is back from quarantine. One that
/// stayed in place may have been touched to permit its disposal: by a `chmod`, for example.
fn find_undisposed(
    ledger: &dyn Ledger,
    latest: &Record,
    found: &Fingerprint,
) -> ledger::Result<Option<Record>> {
    let identity = &latest.identity;
    let is_back = match latest.state {
        State::Requeued => found.may_be_copy_of(identity),
        State::Quarantined => found.matches_content(identity) && !found.matches(identity),
        _ => false,
    };
    let published = if is_back { find_published(ledger, latest)? } else { None };
    let reason = || latest.reason.clone();
    Ok(published.map(|record| Record { state: State::Changed, reason: reason(), ..record }))
}

/// Returns the identity of a file that stays in the input, with the inode number of its record where that
/// number may not last, and nothing else differs.
#[must_use]
pub fn known_identity(
    record: Option<&Record>,
    found: Fingerprint,
    may_renumber: bool,
) -> Fingerprint {
    let stays = |record: &&Record| {
        record.on_success == OnSuccess::Keep || record.state == State::Quarantined
    };
    let is_renumbered =
        |record: &&Record| may_renumber && stays(record) && found.has_equal_times(&record.identity);
    match record.filter(is_renumbered) {
        Some(record) => Fingerprint { inode: record.identity.inode, ..found },
        None => found,
    }
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
        // A request was for the content that a power loss took, and so was a missing output: a consumer
        // may have it.
        State::Requeued | State::Quarantined
            if record.output.is_some()
                && !found.matches_content(&record.identity)
                && found.is_earlier_state_of(&record.identity) =>
        {
            PriorOutcome::RolledBack
        }
        State::Requeued | State::Withdrawn => PriorOutcome::New,
        // Whatever the file is by now: a second output could get the name of the first, which recovery
        // has yet to publish or to withdraw.
        State::Intent => PriorOutcome::Unfinished,
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
            if record.on_success == OnSuccess::Keep && found.may_be_copy_of(&record.identity) =>
        {
            PriorOutcome::MetadataChanged
        }
        // It is back from a quarantine on another disk.
        State::Changed if record.is_undisposed() && found.may_be_copy_of(&record.identity) => {
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

/// Classifies a file like [`prior_outcome`], also by the boot of its record and the time at which it
/// was created. A file that arrives after this service removed or archived its namesake is a new
/// delivery, even with equal metadata: file systems reuse an inode at once, and copies keep their times.
/// After the clock was set back it even looks like an earlier state of its namesake.
/// Only a power loss can restore the old file, which was created before its record was made; its change
/// time proves nothing, because `chmod` and the recovery of btrfs move that. A file whose content a power
/// loss took, and no later change of its mode or times, is rolled back, too. `born_ns` returns the
/// file's creation in nanoseconds since the epoch, where that is known: nowhere on network file systems.
#[must_use]
pub fn classify(
    ledger: &dyn Ledger,
    record: Option<&Record>,
    found: &Fingerprint,
    on_success: &OnSuccess,
    born_ns: impl FnOnce() -> Option<i64>,
) -> PriorOutcome {
    let outcome = prior_outcome(record, found, on_success);
    let Some(record) = record else { return outcome };
    if outcome == PriorOutcome::New {
        let has_lost_content = has_output(record)
            && !ledger.session().is_of_this_boot(record.id)
            && found.may_have_lost_content_of(&record.identity, record.at_ns)
            && born_ns().is_none_or(|born_ns| born_ns <= record.at_ns);
        return if has_lost_content { PriorOutcome::RolledBack } else { outcome };
    }
    let is_back = record.state == State::Changed && record.is_undisposed();
    if record.on_success == OnSuccess::Keep || is_back {
        return outcome;
    }
    let is_removed = record.state == State::Done && ledger.session().is_of_this_boot(record.id);
    let is_new = match outcome {
        // Its disposal may not be marked yet. A file that was recorded is older than its change time,
        // whatever became of the clock before it was recorded.
        PriorOutcome::MetadataChanged => {
            let latest_ns = record.at_ns.max(record.identity.ctime_ns);
            is_removed || born_ns().is_some_and(|born_ns| born_ns > latest_ns)
        }
        // It was removed in this boot; the metadata of a new delivery can be equal by chance. A disk that
        // lost power without this machine has the old one again.
        PriorOutcome::RetryDispose => {
            is_removed && born_ns().is_none_or(|born_ns| born_ns > record.identity.ctime_ns)
        }
        // A server or a disk may lose power without this machine.
        PriorOutcome::RolledBack => {
            is_removed && found.device == record.identity.device && born_ns().is_some()
        }
        _ => false,
    };
    if is_new { PriorOutcome::New } else { outcome }
}

const fn has_output(record: &Record) -> bool {
    match record.state {
        State::Published | State::Done | State::Changed => true,
        State::Quarantined | State::Requeued => record.output.is_some(),
        State::Intent | State::Withdrawn | State::Skipped => false,
    }
}

#[cfg(test)]
mod tests;
