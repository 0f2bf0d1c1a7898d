//! claim: takes a settled file, or decides why it is not taken.
//!
//! Owns: the job's permits, the ledger's record, the open source handle. Never touches the output side.
//!
//! A1: a source with a finished record in the ledger, by identity, is not read again.
//! A2: a file that any process has open for writing is not taken.

use std::{fs::File, io};

use crate::{
    failpoint,
    fs::{self, FileMetadata, Kind, Writers},
    limits,
    pipeline::{
        budget::{Budget, is_large},
        channel::Shared,
        clock::Clock,
        failure::ClaimError,
        in_commit::EarlierJob,
        job::{
            Claimed, Committed, DeferReason, DiscoveredBy, DisposeRequest, FailedJob, Job, Outcome,
            Streamed,
        },
    },
    protocol::{
        eligibility,
        prior_outcome::{PriorOutcome, classify, find_record},
    },
    stage::Stage,
};

/// The state of claim's thread.
#[derive(Clone, Debug)]
pub struct Claim {
    pub shared: Shared,
    pub budget: Budget,
}

/// The next stage of a settled file.
#[derive(Debug)]
pub enum NextStage {
    Read(Claimed),
    /// A large file holds no permit and no handle until a lane is free.
    Lane(Streamed),
}

impl Claim {
    /// Looks up the file and claims it if it is small; `None` if the job ended here or went to dispose.
    pub fn claim(&self, job: Job, clock: &mut Clock) -> Result<Option<NextStage>, Box<FailedJob>> {
        if job.attempt > job.context.config.attempts {
            let path = job.source_path();
            return Err(Box::new(job.fail(ClaimError::Panicked { path })));
        }
        let Some(job) = self.look_up(job)? else {
            return Ok(None);
        };
        if is_large(job.metadata.identity.size) {
            // It waits for a lane.
            job.meter.stage_started(Stage::Settle);
            return Ok(Some(NextStage::Lane(Streamed::Settled(job))));
        }
        // It may have grown since it settled.
        Ok(self.take(job, clock)?.map(|claimed| {
            let is_large = is_large(claimed.job.metadata.identity.size);
            if is_large {
                NextStage::Lane(Streamed::Grown(claimed))
            } else {
                NextStage::Read(claimed)
            }
        }))
    }

    /// Claims the file; `None` if it is gone or not ready.
    pub fn take(&self, mut job: Job, clock: &mut Clock) -> Result<Option<Claimed>, Box<FailedJob>> {
        job.keep_permits(clock.wait(|| self.budget.take(job.metadata.identity.size)));
        if let Err(source) = failpoint::hit("claim") {
            let path = job.source_path();
            return Err(Box::new(job.fail(ClaimError::Open { path, source })));
        }
        open(job)
    }

    /// Looks up the file in the ledger; `None` if the job ended here or went to dispose.
    fn look_up(&self, mut job: Job) -> Result<Option<Job>, Box<FailedJob>> {
        let Job { context, path, metadata, .. } = &job;
        let record = match find_record(&*context.ledger, context.id, path, &metadata.identity) {
            Ok(record) => record,
            Err(source) => {
                let path = job.source_path();
                return Err(Box::new(job.fail(ClaimError::Ledger { path, source })));
            }
        };
        let on_success = &job.context.config.on_success;
        let outcome =
            classify(&*context.ledger, record.as_ref(), &job.metadata.identity, on_success);
        match (outcome, record) {
            (PriorOutcome::New, _) => {
                let Some(job) = Self::check_in_commit(job) else { return Ok(None) };
                if job.origin == DiscoveredBy::Rescan {
                    job.context.meter.rescan_found(1);
                }
                return Ok(Some(job));
            }
            (PriorOutcome::MetadataChanged, Some(record)) => {
                job.earlier_record = Some(Box::new(record));
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
                job.context.defer_unfinished(&job.path);
                job.end(Outcome::Skipped, 0);
            }
            (outcome, record) => {
                let transforms =
                    record.and_then(|record| record.output).map(|output| output.transforms);
                let is_other = |transforms: &String| {
                    !transforms.is_empty()
                        && *transforms != job.context.config.transforms.to_string()
                };
                if outcome == PriorOutcome::Done && transforms.as_ref().is_some_and(is_other) {
                    job.context.meter.skipped_for_other_transforms();
                }
                tracing::debug!(event = "file.unchanged", source = %crate::observe::display_path(&job.path), ?outcome, "nothing to do");
                job.end(Outcome::Skipped, 0);
            }
        }
        Ok(None)
    }
}

impl Claim {
    /// Checks whether the file got this name while its output was published under another one; `None`
    /// if the job ended here.
    fn check_in_commit(mut job: Job) -> Option<Job> {
        match job.context.in_commit.earlier_job(&job.metadata) {
            None => Some(job),
            Some(EarlierJob::Committing) => {
                job.defer(limits::BUSY_RECHECK_DELAY, DeferReason::Busy);
                None
            }
            Some(EarlierJob::Renamed(record)) => {
                job.earlier_record = Some(record);
                Some(job)
            }
        }
    }
}

/// Opens the source; `None` if the job ended because it is gone, not a file, or being written.
fn open(mut job: Job) -> Result<Option<Claimed>, Box<FailedJob>> {
    let source = match job.input.open_file(&job.path) {
        Ok(source) => source,
        Err(error) if is_not_a_file(&error) => {
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
    let settled_identity = job.metadata.identity;
    match fs::metadata_of(&source) {
        Ok(metadata) if is_eligible(&job, &metadata) => job.metadata = metadata,
        Ok(_) => {
            job.end(Outcome::Skipped, 0);
            return Ok(None);
        }
        Err(source) => {
            let path = job.source_path();
            return Err(Box::new(job.fail(ClaimError::Open { path, source })));
        }
    }
    let is_quiet = job.quiet && settled_identity == job.metadata.identity;
    match check_writers(&source, is_quiet) {
        Ok(None) => Ok(Some(Claimed { job, source })),
        Ok(Some(reason)) => {
            job.defer(limits::BUSY_RECHECK_DELAY, reason);
            Ok(None)
        }
        Err(source) => {
            let path = job.source_path();
            Err(Box::new(job.fail(ClaimError::Lease { path, source })))
        }
    }
}

/// Checks that this is a regular file and that the source rules allow it; a failed check counts as no.
fn is_eligible(job: &Job, metadata: &FileMetadata) -> bool {
    let skip_reason = || eligibility::skip_reason(job.context.config.trust, &job.input, metadata);
    metadata.kind == Kind::File && matches!(skip_reason(), Ok(None))
}

/// Checks whether the file vanished, or another type of file replaced it, after it settled.
fn is_not_a_file(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        errno,
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NXIO | Errno::NODEV)
    )
}

/// Returns the reason to defer a file that may have a writer. If the kernel cannot report writers, the
/// quiet time decides.
fn check_writers(source: &File, is_quiet: bool) -> io::Result<Option<DeferReason>> {
    Ok(match fs::check_writers(source)? {
        Writers::None => None,
        Writers::Some => Some(DeferReason::Busy),
        Writers::Unknown => (!is_quiet).then_some(DeferReason::Unsure),
    })
}
