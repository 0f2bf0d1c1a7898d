//! A file in flight: one type for each step through the pipeline. Moving the value is the transition,
//! and dropping it anywhere releases its resources.

mod end;
mod observation;
mod ticket;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use self::ticket::Ticket;
pub use self::{
    end::{DeferReason, JobEnd},
    observation::{Arrival, DiscoveredBy, Observation},
    ticket::Feedback,
};
use crate::{
    fs::{ExtendedAttributes, FileMetadata},
    ledger::{Record, RecordId},
    observe::{JobMeter, Trace},
    pipeline::{
        circuit_breaker::Probe, context::Context, failure::Failure, in_commit::CommitGuard,
        output_hasher::Hashes, side_file::SideFile,
    },
    sink::{self, Attributes},
    source::{Source, SourceFile},
};

/// The state that travels with a file through all stages.
///
/// Every job ends in exactly one [`JobEnd`]: by [`Job::end`], or, if it is dropped earlier (a forced
/// stop, a panic), by its ticket.
#[derive(Debug)]
#[must_use = "a job ends by `end`"]
pub struct Job {
    pub context: Arc<Context>,
    /// The input in which the file was discovered.
    pub input: Arc<dyn Source>,
    /// The source's path below the input.
    pub path: PathBuf,
    /// The source's metadata when it settled; from claim on, of the open handle.
    pub metadata: FileMetadata,
    /// The extended attributes of the open handle, from claim on.
    pub extended: ExtendedAttributes,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// The time for which the file was unchanged when it settled.
    pub quiet_for: Duration,
    /// The time since which it is unchanged; see [`Self::quiet_now`].
    quiet_since: Instant,
    /// The evidence that its producer has finished it.
    pub arrival: Arrival,
    /// See [`SettledFile::was_replaced`].
    pub was_replaced: bool,
    pub origin: DiscoveredBy,
    /// The ledger's newest record of the path, until claim takes it.
    pub prior: Prior,
    /// Whether the ledger has a record of the path; set by claim.
    pub is_known: bool,
    /// The record of an earlier job that may have processed the same content; set by claim.
    pub earlier_record: Option<Box<Record>>,
    /// Records with lower numbers are of a source that had its name before; set before its output gets a
    /// name.
    pub succession: Option<RecordId>,
    /// The ID of the job's record.
    pub id: RecordId,
    pub settled_at: Instant,
    /// The job's progress, written by the stages.
    pub meter: Arc<JobMeter>,
    /// The start and end of each stage.
    pub trace: Trace,
    /// The circuit breaker's probe, if this job tests unavailable storage. Dropping it allows the next
    /// probe.
    probe: Option<Probe>,
    /// Cancelled when the intake closes: then a job that has not begun returns to it.
    stop: CancellationToken,
    /// The entry of a source in commit, from the last check of its name on. Dropping it ends the entry.
    pub commit: Option<CommitGuard>,
    ticket: Ticket,
    permits: Permits,
}

/// A job's share of the limits. Dropping it returns the share.
#[derive(Debug, Default)]
pub struct Permits {
    pub file: Option<OwnedSemaphorePermit>,
    pub bytes: Option<OwnedSemaphorePermit>,
}

/// The newest record of a job's path.
#[derive(Debug, Default)]
pub enum Prior {
    /// It was not looked up with the batch.
    #[default]
    Unknown,
    Known(Option<Box<Record>>),
}

/// A file that the intake sends to claim.
#[derive(Debug)]
pub struct SettledFile {
    pub path: PathBuf,
    pub metadata: FileMetadata,
    pub attempt: u32,
    pub quiet_for: Duration,
    pub arrival: Arrival,
    /// Whether an earlier job of this name ended because another file got the name: this one is
    /// published even if that happens again, so that a name that is replaced all the time has an
    /// output.
    pub was_replaced: bool,
    /// Whether an earlier attempt failed or met unavailable storage: a stop counts the file as
    /// unfinished.
    pub was_attempted: bool,
    /// The time since it was first observed, or returned.
    pub waited: Duration,
    pub origin: DiscoveredBy,
    pub trace: Trace,
}

impl Job {
    pub fn new(
        context: Arc<Context>,
        input: Arc<dyn Source>,
        (settled, probe): (SettledFile, Option<Probe>),
        feedback: mpsc::UnboundedSender<Feedback>,
        stop: CancellationToken,
    ) -> Self {
        let SettledFile {
            path,
            metadata,
            attempt,
            quiet_for,
            arrival,
            was_replaced,
            was_attempted,
            origin,
            trace,
            ..
        } = settled;
        let ticket = Ticket::new(feedback, path.clone(), attempt, was_attempted);
        let id = context.ledger.session().next_id();
        let meter = context.meter.job_started(id, &path, metadata.identity.size);
        let (settled_at, earlier_record) = (Instant::now(), None);
        Self {
            context,
            input,
            path,
            metadata,
            extended: ExtendedAttributes::default(),
            attempt,
            quiet_for,
            quiet_since: settled_at.checked_sub(quiet_for).unwrap_or(settled_at),
            arrival,
            was_replaced,
            origin,
            prior: Prior::Unknown,
            is_known: false,
            earlier_record,
            succession: None,
            id,
            settled_at,
            meter,
            trace,
            probe,
            stop,
            commit: None,
            ticket,
            permits: Permits::default(),
        }
    }

    /// Notes that its output has an intent from here on, or may have.
    pub fn begin_intent(&mut self) {
        if let Some(guard) = &mut self.commit {
            guard.has_intent = true;
        }
    }

    /// Notes that its output is acknowledged, or its intent withdrawn.
    pub fn end_intent(&mut self) {
        if let Some(guard) = &mut self.commit {
            guard.has_intent = false;
        }
    }

    /// Marks the start of the work on its content: from here on a drain waits for it.
    pub fn begin(&mut self) {
        self.ticket.begin();
    }

    /// Notes that the file changed after it settled.
    pub fn note_change(&mut self) {
        (self.quiet_for, self.quiet_since) = (Duration::ZERO, Instant::now());
        self.arrival = Arrival::Unknown;
    }

    /// Returns how long the file is unchanged, if it is still the one that was read.
    #[must_use]
    pub fn quiet_now(&self) -> Duration {
        self.quiet_since.elapsed()
    }

    /// Checks whether the intake closed before the job began: dropping it returns it to the intake.
    #[must_use]
    pub fn is_recalled(&self) -> bool {
        !self.ticket.has_begun() && self.is_stopping()
    }

    /// Checks whether its intake is closed.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Holds these permits until the job ends, the bytes until [`Self::release_bytes`].
    pub fn keep_permits(&mut self, permits: Permits) {
        self.permits = permits;
    }

    /// Adds bytes to the job's permits, until [`Self::release_bytes`].
    pub fn add_bytes(&mut self, bytes: Option<OwnedSemaphorePermit>) {
        match (&mut self.permits.bytes, bytes) {
            (Some(held), Some(more)) => held.merge(more),
            (held @ None, more) => *held = more,
            (Some(_), None) => {}
        }
    }

    /// Returns the permits for bytes: the content is no longer in memory.
    pub fn release_bytes(&mut self) {
        self.permits.bytes = None;
    }

    /// Returns the source's full path, for messages.
    #[must_use]
    pub fn source_path(&self) -> PathBuf {
        self.context.source_path(&self.path)
    }

    /// Returns the attributes of the source, which its output gets.
    #[must_use]
    pub const fn attributes(&self) -> Attributes<'_> {
        Attributes { metadata: &self.metadata, extended: &self.extended }
    }

    /// Ends the job with its one outcome. Its output was counted when it was acknowledged.
    pub fn end(mut self, outcome: JobEnd, output_bytes: u64) {
        let kind = outcome.kind();
        let source_bytes = self.metadata.identity.size;
        // A file that another scan finds done is one that this run counted before.
        if outcome != JobEnd::Skipped || self.origin != DiscoveredBy::Again {
            self.context.meter.outcomes().ended(kind, source_bytes);
        }
        self.trace.outcome(kind, self.attempt, (source_bytes, output_bytes));
        // Before the feedback, upon which the intake may send the next job.
        (self.probe, self.commit) = (None, None);
        self.ticket.send(outcome);
    }

    /// Ends the job; the intake sends the file again later.
    pub fn defer(self, after: Duration, cause: DeferReason) {
        let attempt = self.attempt + u32::from(cause == DeferReason::Failed);
        self.end(JobEnd::Deferred { after, attempt, cause }, 0);
    }

    /// Adds the error that decides the job's verdict.
    pub fn fail(self, failure: impl Into<Failure>) -> FailedJob {
        FailedJob { job: self, failure: failure.into() }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.context.meter.job_finished(self.id);
    }
}

/// A job whose source is open and finished by its producer.
#[derive(Debug)]
pub struct Claimed {
    pub job: Job,
    pub source: Box<dyn SourceFile>,
}

/// The entire content of a small file, unchanged while it was read.
#[derive(Debug)]
pub struct Loaded {
    pub claimed: Claimed,
    pub bytes: Vec<u8>,
}

/// The entire output of a small file.
#[derive(Debug)]
pub struct Transformed {
    pub job: Job,
    pub bytes: Vec<u8>,
    pub hashes: Hashes,
}

/// An item of a channel between two stages.
pub trait Item {
    /// Returns the job it belongs to.
    fn job(&self) -> &Job;
}

/// Implements [`Item`] by a field.
macro_rules! items {
    ($($item:ty: $($field:ident).+),+ $(,)?) => {
        $(impl Item for $item {
            fn job(&self) -> &Job {
                &self.$($field).+
            }
        })+
    };
}

/// An item of the lane of the large files.
#[derive(Debug)]
pub enum Streamed {
    /// A large source, which the lane claims when it is free.
    Settled(Job),
    /// A source that grew, or whose output outgrew its buffer.
    Grown(Claimed),
}

impl Item for Streamed {
    fn job(&self) -> &Job {
        match self {
            Self::Settled(job) | Self::Grown(Claimed { job, .. }) => job,
        }
    }
}

items!(Claimed: job, Loaded: claimed.job, Transformed: job, Staged: job, Committed: job, FailedJob: job);

impl Item for Job {
    fn job(&self) -> &Job {
        self
    }
}

/// A complete output in the sink, before its publication.
#[derive(Debug)]
pub struct Staged {
    pub job: Job,
    /// The output. Dropping it discards it.
    pub file: Box<dyn sink::Staged>,
    /// The final path, below the output.
    pub output: PathBuf,
    pub hashes: Hashes,
    /// Its checksum file; `None` without one.
    pub side: Option<SideFile>,
}

/// An output that is durable under its final name. The record is its intent.
#[derive(Debug)]
pub struct Committed {
    pub job: Job,
    pub record: Record,
}

/// A job that failed in a stage.
#[derive(Debug)]
#[must_use = "a failed job is disposed of"]
pub struct FailedJob {
    pub job: Job,
    pub failure: Failure,
}

/// An item of dispose.
#[derive(Debug)]
pub enum DisposeRequest {
    Committed(Committed),
    Failed(FailedJob),
    /// The source has a finished record and still exists: its disposal did not last.
    Again(Committed),
}

impl Item for DisposeRequest {
    fn job(&self) -> &Job {
        match self {
            Self::Committed(committed) | Self::Again(committed) => &committed.job,
            Self::Failed(failed) => &failed.job,
        }
    }
}
