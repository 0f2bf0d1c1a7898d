//! claim: takes a settled file, or decides why it is not taken.
//!
//! Owns: the job's permits, the ledger's record, the open source handle. Never touches the output side.
//!
//! A1: a source with a finished record in the ledger, by identity, is not read again.
//! A2: a file that any process has open for writing is not taken.

use std::{io, mem, path::Path};

use crate::{
    failpoint,
    fs::{FileMetadata, Kind, Writers},
    ledger::{self, Record, State},
    limits,
    pipeline::{
        budget::{Budget, is_large},
        channel::Shared,
        clock::Clock,
        context::Context,
        failure::ClaimError,
        in_commit::EarlierJob,
        job::{
            Arrival, Claimed, Committed, DeferReason, DiscoveredBy, DisposeRequest, FailedJob, Job,
            JobEnd, Prior, Streamed,
        },
    },
    protocol::{
        eligibility,
        prior_outcome::{PriorOutcome, classify, find_record, known_identity},
    },
    reason::Reason,
    source::{Opened, SourceError, SourceFile},
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

/// Looks up the files of a batch in one call. A file alone, or one of a batch whose look-up failed, is
/// looked up by [`Claim::claim`].
pub fn look_up_batch(jobs: &mut [Job]) {
    let [Job { context, .. }, _, ..] = &*jobs else { return };
    let clock = Clock::start(&context.meter, Stage::Claim);
    let sources: Vec<&Path> = jobs.iter().map(|job| &*job.path).collect();
    let latest = context.ledger.latest_of_each(context.id, &sources).unwrap_or_default();
    for (job, latest) in jobs.iter_mut().zip(latest) {
        job.prior = Prior::Known(latest.map(Box::new));
    }
    clock.stop(0);
}

/// Finds the record of the job's file.
fn record_of(job: &mut Job) -> ledger::Result<Option<Record>> {
    let Context { ledger, id, .. } = &*job.context;
    let latest = match mem::take(&mut job.prior) {
        Prior::Known(latest) => latest.map(|latest| *latest),
        Prior::Unknown => ledger.latest(*id, &job.path)?,
    };
    find_record(&**ledger, latest, &job.metadata.identity)
}

impl Claim {
    /// Looks up the file and claims it if it is small; `None` if the job ended here or went to dispose.
    pub fn claim(&self, job: Job, clock: &mut Clock) -> Result<Option<NextStage>, Box<FailedJob>> {
        if job.attempt > job.context.config.keys.attempts {
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
        let claimed = open(job)?;
        if let Some(Claimed { job, .. }) = &claimed
            && job.attempt == 1
            && job.earlier_record.is_none()
        {
            job.context.note_arrival();
        }
        Ok(claimed)
    }

    /// Looks up the file in the ledger; `None` if the job ended here or went to dispose.
    fn look_up(&self, mut job: Job) -> Result<Option<Job>, Box<FailedJob>> {
        let record = match record_of(&mut job) {
            Ok(record) => record,
            Err(source) => {
                let path = job.source_path();
                return Err(Box::new(job.fail(ClaimError::Ledger { path, source })));
            }
        };
        job.is_known = record.is_some();
        let Job { context, path, metadata, .. } = &job;
        let on_success = &context.config.on_success;
        let found = &known_identity(record.as_ref(), metadata.identity, job.input.may_renumber());
        let born_ns = || job.input.born_ns(path).ok().flatten();
        let outcome = classify(&*context.ledger, record.as_ref(), found, on_success, born_ns);
        match (outcome, record) {
            (PriorOutcome::New, record) => {
                // An operator asked for it to be processed again.
                if record.is_some_and(|record| record.state == State::Requeued) {
                    context.in_commit.forget(&metadata.identity);
                }
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
                let unknown = || Reason::stored(None, String::new());
                let reason = record.reason.unwrap_or_else(unknown);
                let path = job.source_path();
                return Err(Box::new(job.fail(ClaimError::NotMoved { path, reason })));
            }
            // Its mark may be postponed, as the ledger was busy or its disk full.
            (PriorOutcome::Unfinished, Some(record))
                if context.ledger.session().is_of_this_run(record.id) =>
            {
                job.defer(limits::BUSY_RECHECK_DELAY, DeferReason::Unacknowledged);
            }
            (PriorOutcome::Unfinished, Some(record)) => {
                job.context.note_deferred(&record);
                job.end(JobEnd::Skipped, 0);
            }
            (outcome, record) => end_unchanged(job, outcome, record),
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

/// Ends the job of a file for which nothing is to be done.
fn end_unchanged(job: Job, outcome: PriorOutcome, record: Option<Record>) {
    let transforms = record.and_then(|record| record.output).map(|output| output.transforms);
    let is_other = |transforms: &String| {
        !transforms.is_empty() && *transforms != job.context.config.transforms.recorded()
    };
    if outcome == PriorOutcome::Done
        && job.origin != DiscoveredBy::Again
        && transforms.as_ref().is_some_and(is_other)
    {
        job.context.meter.skipped_for_other_transforms();
    }
    tracing::debug!(event = "file.unchanged", pipeline = %job.context.name(), source = %crate::observe::display_path(&job.path), outcome = outcome.as_str(), "nothing to do");
    job.end(JobEnd::Skipped, 0);
}

/// Opens the source; `None` if the job ended because it is gone, not a file, or being written.
fn open(mut job: Job) -> Result<Option<Claimed>, Box<FailedJob>> {
    let source = match job.input.open(&job.path) {
        Ok(Opened::File(source)) => source,
        Ok(Opened::Gone) => {
            job.end(JobEnd::Gone, 0);
            return Ok(None);
        }
        Ok(Opened::Busy) => {
            job.defer(limits::BUSY_RECHECK_DELAY, DeferReason::Busy);
            return Ok(None);
        }
        Err(SourceError { path, source }) => {
            return Err(Box::new(job.fail(ClaimError::Open { path, source })));
        }
    };
    let settled_identity = job.metadata.identity;
    let attributes =
        source.metadata().and_then(|metadata| Ok((metadata, source.extended_attributes()?)));
    match attributes {
        Ok((metadata, extended)) => {
            if !metadata.identity.may_be_same_file(&settled_identity) {
                job.context.note_lost_name();
            }
            if !is_eligible(&job, &metadata) {
                job.end(JobEnd::Skipped, 0);
                return Ok(None);
            }
            (job.metadata, job.extended) = (metadata, extended);
        }
        Err(source) => {
            let path = job.source_path();
            return Err(Box::new(job.fail(ClaimError::Open { path, source })));
        }
    }
    if !settled_identity.has_equal_times(&job.metadata.identity) {
        job.note_change();
    }
    match check_writers(&job, &*source) {
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
    let skip_reason =
        || eligibility::skip_reason(job.context.config.rules(), &*job.input, metadata);
    metadata.kind == Kind::File && matches!(skip_reason(), Ok(None))
}

/// Returns the reason to defer a file that may have a writer. If the kernel cannot report writers, the
/// quiet time decides; if it may not, so does what was seen of the file's producer.
fn check_writers(job: &Job, source: &dyn SourceFile) -> io::Result<Option<DeferReason>> {
    let is_quiet = |time, reason| (job.quiet_for < time).then_some(reason);
    Ok(match source.writers()? {
        Writers::None => None,
        Writers::Some => Some(DeferReason::Busy),
        Writers::Denied if !job.input.is_remote() => {
            job.context.note_denied_writers(&job.path);
            match job.arrival {
                Arrival::Renamed => None,
                Arrival::Closed => is_quiet(limits::QUIET_TIME, DeferReason::Unseen),
                Arrival::Unknown => is_quiet(limits::UNSEEN_QUIET_TIME, DeferReason::Unseen),
            }
        }
        Writers::Denied | Writers::Unknown => is_quiet(limits::QUIET_TIME, DeferReason::Unsure),
    })
}
