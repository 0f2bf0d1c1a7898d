//! claim: takes a settled file, or says why not.
//!
//! Owns: the job's permits, the ledger's answer, the open source handle. Never touches the output side.
//!
//! A1: a source that the ledger knows as done, by identity, is not read again.
//! A2: a file that someone has open for writing is not taken.

use std::{fs::File, io, path::Path};

use crate::{
    failpoint,
    fingerprint::Fingerprint,
    fs::{self, FileMetadata, Kind, Writers},
    ledger::{self, Ledger, PipelineId, Record, State},
    limits,
    pipeline::{
        budget::{Budget, is_large},
        channel::Shared,
        clock::Clock,
        eligibility,
        failure::ClaimError,
        in_commit,
        job::{
            Claimed, Committed, DeferReason, DiscoveredBy, DisposeRequest, FailedJob, Job, Outcome,
            Streamed,
        },
    },
    policy::OnSuccess,
    stage::Stage,
};

/// What claim's thread holds.
#[derive(Clone, Debug)]
pub struct Claim {
    pub shared: Shared,
    pub budget: Budget,
}

/// What the ledger knows of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriorOutcome {
    /// Nothing that keeps it from being processed.
    New,
    /// It was processed, and is to stay.
    Done,
    /// It was processed, and should not be here any more.
    RetryDispose,
    /// It waits for a person.
    InQuarantine,
    /// It was to be moved to quarantine, and is still here.
    RetryQuarantine,
    /// Its output's name was taken when it was processed.
    Skipped,
    /// An unfinished record: recovery's, at the next start.
    Unfinished,
    /// As far as a look can tell it is what was processed, but for its change time: the content
    /// decides. A `chmod` moves that time, and btrfs does when it recovers from a power loss. So it is
    /// where the times are too coarse to tell of a change right after it was read.
    MetadataChanged,
    /// A power loss took it back to a state before the one that was processed.
    RolledBack,
}

/// The record that speaks of a file: the newest of its path, or an older one of the same inode where
/// a power loss brought back what a newer file had replaced, whole or in part.
pub fn recorded(
    ledger: &dyn Ledger,
    pipeline: PipelineId,
    source: &Path,
    found: &Fingerprint,
) -> ledger::Result<Option<Record>> {
    let latest = ledger.latest(pipeline, source)?;
    let another = |latest: &Record| latest.identity.inode != found.inode;
    if !latest.as_ref().is_some_and(another) {
        return Ok(latest);
    }
    let older = ledger.latest_of_inode(pipeline, source, found.inode)?;
    // A new file may have the inode of an old one, but not its times.
    let of_it = |older: &Record| {
        found.matches(&older.identity) || found.is_earlier_state_of(&older.identity)
    };
    Ok(older.filter(of_it).or(latest))
}

/// Sorts a file by the newest record of its path. Only the identity makes it the same file.
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
            let kept = [on_success, &record.on_success].map(|it| *it == OnSuccess::Keep);
            if kept == [true, true] { PriorOutcome::Done } else { PriorOutcome::RetryDispose }
        }
        State::Published | State::Done | State::Changed
            if found.matches_content(&record.identity) =>
        {
            PriorOutcome::MetadataChanged
        }
        // Moved to another disk, or on a file system whose inode numbers do not last.
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

/// As [`prior_outcome`], by the ledger. A file that came after this service had removed or archived its
/// namesake is a new delivery, be it the same in all that can be seen of it: file systems use an
/// inode again at once, and copies keep their times. Only a power loss can bring the old one back.
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

/// Where a settled file goes.
#[derive(Debug)]
pub enum Next {
    Read(Claimed),
    /// A large one holds no permit and no handle before a lane has time for it.
    Lane(Streamed),
}

impl Claim {
    /// Looks the file up and claims a small one; `None` where the job ended here or went elsewhere.
    pub fn claim(&self, job: Job, clock: &mut Clock) -> Result<Option<Next>, Box<FailedJob>> {
        if job.attempt > job.context.config.attempts {
            let path = job.source_path();
            return Err(Box::new(job.fail(ClaimError::Panicked { path })));
        }
        let Some(job) = self.look_up(job)? else {
            return Ok(None);
        };
        if is_large(job.seen.identity.size) {
            // It waits for a lane.
            job.meter.stage_started(Stage::Settle);
            return Ok(Some(Next::Lane(Streamed::Settled(job))));
        }
        // It may have grown since it settled.
        Ok(self.take(job, clock)?.map(|claimed| {
            let large = is_large(claimed.job.seen.identity.size);
            if large { Next::Lane(Streamed::Grown(claimed)) } else { Next::Read(claimed) }
        }))
    }

    /// Claims the file; `None` where it is gone or not to be taken yet.
    pub fn take(&self, mut job: Job, clock: &mut Clock) -> Result<Option<Claimed>, Box<FailedJob>> {
        job.keep_permits(clock.wait(|| self.budget.take(job.seen.identity.size)));
        if let Err(source) = failpoint::hit("claim") {
            let path = job.source_path();
            return Err(Box::new(job.fail(ClaimError::Open { path, source })));
        }
        open(job)
    }

    /// Asks the ledger; `None` where the job ended here or went elsewhere.
    fn look_up(&self, mut job: Job) -> Result<Option<Job>, Box<FailedJob>> {
        let Job { context, path, seen, .. } = &job;
        let record = match recorded(&*context.ledger, context.id, path, &seen.identity) {
            Ok(record) => record,
            Err(source) => {
                let path = job.source_path();
                return Err(Box::new(job.fail(ClaimError::Ledger { path, source })));
            }
        };
        let on_success = &job.context.config.on_success;
        let known = classify(&*context.ledger, record.as_ref(), &job.seen.identity, on_success);
        match (known, record) {
            (PriorOutcome::New, _) => {
                let Some(job) = Self::not_in_commit(job) else { return Ok(None) };
                if job.origin == DiscoveredBy::Rescan {
                    job.context.meter.rescan_found(1);
                }
                return Ok(Some(job));
            }
            (PriorOutcome::MetadataChanged, Some(record)) => {
                job.before = Some(Box::new(record));
                return Ok(Some(job));
            }
            (PriorOutcome::RetryDispose, Some(record)) => {
                self.shared.failed.send(DisposeRequest::Again(Committed { job, record }));
            }
            (PriorOutcome::RolledBack, _) => {
                let path = job.source_path();
                return Err(Box::new(job.fail(ClaimError::Earlier { path })));
            }
            (PriorOutcome::RetryQuarantine, Some(record)) => {
                let reason = record.reason.unwrap_or_default();
                let path = job.source_path();
                return Err(Box::new(job.fail(ClaimError::NotMoved { path, reason })));
            }
            (PriorOutcome::Unfinished, _) => {
                job.context.met_unfinished(&job.path);
                job.end(Outcome::Skipped, 0);
            }
            (known, record) => {
                let transforms =
                    record.and_then(|record| record.output).map(|output| output.transforms);
                let other = |made_by: &String| {
                    !made_by.is_empty() && *made_by != job.context.config.transforms.to_string()
                };
                if known == PriorOutcome::Done && transforms.as_ref().is_some_and(other) {
                    job.context.meter.skipped_for_other_transforms();
                }
                tracing::debug!(event = "file.unchanged", source = %crate::observe::display_path(&job.path), ?known, "nothing to do");
                job.end(Outcome::Skipped, 0);
            }
        }
        Ok(None)
    }
}

impl Claim {
    /// A file may have got this name while its output was published under another; `None` where the
    /// job ended here or went elsewhere.
    fn not_in_commit(mut job: Job) -> Option<Job> {
        match job.context.in_commit.known(&job.seen) {
            None => Some(job),
            Some(in_commit::Known::Committing) => {
                job.defer(limits::BUSY_RECHECK_DELAY, DeferReason::Busy);
                None
            }
            Some(in_commit::Known::Renamed(record)) => {
                job.before = Some(record);
                Some(job)
            }
        }
    }
}

/// Opens the source; `None` where the job ended because it is gone, not a file, or being written.
fn open(mut job: Job) -> Result<Option<Claimed>, Box<FailedJob>> {
    let source = match job.input.open_file(&job.path) {
        Ok(source) => source,
        Err(error) if is_no_file(&error) => {
            job.end(Outcome::Skipped, 0);
            return Ok(None);
        }
        // Another process holds a write lease on it.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            job.defer(limits::BUSY_RECHECK_DELAY, DeferReason::Busy);
            return Ok(None);
        }
        Err(source) => {
            let path = job.source_path();
            return Err(Box::new(job.fail(ClaimError::Open { path, source })));
        }
    };
    let was = job.seen.identity;
    match fs::seen_of(&source) {
        Ok(seen) if is_ours_to_take(&job, &seen) => job.seen = seen,
        Ok(_) => {
            job.end(Outcome::Skipped, 0);
            return Ok(None);
        }
        Err(source) => {
            let path = job.source_path();
            return Err(Box::new(job.fail(ClaimError::Open { path, source })));
        }
    }
    let quiet = job.quiet && was == job.seen.identity;
    match check_writers(&source, quiet) {
        Ok(None) => Ok(Some(Claimed { job, source })),
        Ok(Some(cause)) => {
            job.defer(limits::BUSY_RECHECK_DELAY, cause);
            Ok(None)
        }
        Err(source) => {
            let path = job.source_path();
            Err(Box::new(job.fail(ClaimError::Lease { path, source })))
        }
    }
}

/// A regular file, and one that the policy trusts; where that cannot be told, it does not.
fn is_ours_to_take(job: &Job, seen: &FileMetadata) -> bool {
    let refused = || eligibility::refused(job.context.config.trust, &job.input, seen);
    seen.kind == Kind::File && matches!(refused(), Ok(None))
}

/// Vanished, or replaced by something that is no file since it was seen.
fn is_no_file(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        errno,
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NXIO | Errno::NODEV)
    )
}

/// Why the file is not to be taken yet. Where the kernel cannot tell, quiet time must.
fn check_writers(source: &File, quiet: bool) -> io::Result<Option<DeferReason>> {
    Ok(match fs::check_writers(source)? {
        Writers::None => None,
        Writers::Some => Some(DeferReason::Busy),
        Writers::Unknown => (!quiet).then_some(DeferReason::Unsure),
    })
}

#[cfg(test)]
mod tests;
