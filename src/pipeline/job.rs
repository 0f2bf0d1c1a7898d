//! A file on its way: a type for each station. Moving the value is the transition, and what a
//! value owns is released when it is dropped, wherever that happens.

mod sighting;
mod ticket;

use std::{
    fs::File,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use self::ticket::Ticket;
pub use self::{
    sighting::{Arrival, DiscoveredBy, Observation},
    ticket::Feedback,
};
use crate::{
    fingerprint::Fingerprint,
    fs::{Dir, FileMetadata, Temp},
    ledger::{Hash, Record, RecordId},
    observe::{JobMeter, OutcomeKind, Trace},
    pipeline::{
        circuit_breaker::Probe, context::Context, failure::Failure, in_commit::CommitGuard,
    },
};

/// What travels with a file through all stations.
///
/// Every job ends in exactly one [`Outcome`]: by [`Job::end`], or, where it is dropped on the way
/// (a stop that could not wait, a panic), by its ticket.
#[derive(Debug)]
#[must_use = "a job ends by `end`"]
pub struct Job {
    pub context: Arc<Context>,
    /// The input's root as it was when the file was seen.
    pub input: Arc<Dir>,
    /// Below the input.
    pub path: PathBuf,
    /// The source when it settled; after claim, as it was opened.
    pub seen: FileMetadata,
    /// 1 for the first try.
    pub attempt: u32,
    /// Whether the file has been quiet long enough to be taken without the kernel's answer.
    pub quiet: bool,
    pub was_replaced: bool,
    pub origin: DiscoveredBy,
    /// The record of an earlier job that may have processed this very content.
    pub before: Option<Box<Record>>,
    pub id: RecordId,
    pub settled_at: Instant,
    /// Tells how far it is.
    pub meter: Arc<JobMeter>,
    /// Notes when each stage began and ended with it.
    pub trace: Trace,
    /// Where this job shows whether a sick place is well again. Dropping it lets the next one try.
    probe: Option<Probe>,
    /// The intake's: cancelled when it closes. A job that has not begun goes back to it then.
    stop: CancellationToken,
    /// From the last look at the source's name on, where the source is to be removed: dropping it
    /// says that it was, or stays.
    pub commit: Option<CommitGuard>,
    ticket: Ticket,
    permits: Permits,
}

/// The share of the limits a job holds. Dropping it gives the share back.
#[derive(Debug, Default)]
pub struct Permits {
    pub file: Option<OwnedSemaphorePermit>,
    pub bytes: Option<OwnedSemaphorePermit>,
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its output is durable, and the source was disposed of.
    Published,
    /// Nothing was to be done, for this reason.
    Skipped,
    /// It is in quarantine.
    Quarantined,
    /// It goes through the intake again after this time, as this attempt.
    Deferred { after: Duration, attempt: u32, cause: DeferReason },
    /// The service stops, and work on it was thrown away or failed before: the next start resumes it.
    Left,
    /// The intake closed before any work on it had begun: the next start finds it in the input.
    HandedBack,
}

impl Outcome {
    /// Whether a job that ended so is work for later.
    #[must_use]
    pub fn is_owed(&self) -> bool {
        match self {
            Self::Left | Self::Deferred { cause: DeferReason::Failed | DeferReason::Place, .. } => {
                true
            }
            Self::Published
            | Self::Skipped
            | Self::Quarantined
            | Self::HandedBack
            | Self::Deferred { .. } => false,
        }
    }
}

/// Why a job goes through the intake again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeferReason {
    /// Someone has it open for writing.
    Busy,
    /// Nobody can tell whether someone writes it: it must be quiet for a time.
    Unsure,
    /// It changed while it was read.
    Changed,
    /// It failed, and may succeed.
    Failed,
    /// Another file got its name before its output was published.
    Replaced,
    /// The place is sick.
    Place,
}

/// What the intake knows of a file that it sends on its way.
#[derive(Debug)]
pub struct SettledFile {
    pub path: PathBuf,
    pub seen: FileMetadata,
    pub attempt: u32,
    pub quiet: bool,
    /// An earlier job of this name ended because another file got it: this one is published even
    /// where that happens again, so that a name that is replaced all the time has an output.
    pub was_replaced: bool,
    /// It was taken before, and failed or met a sick place: a stop leaves it as unfinished work.
    pub owed: bool,
    /// Since it was seen first, or came back.
    pub waited: Duration,
    pub origin: DiscoveredBy,
    pub trace: Trace,
}

impl Job {
    pub fn new(
        context: Arc<Context>,
        input: Arc<Dir>,
        (settled, probe): (SettledFile, Option<Probe>),
        feedback: mpsc::UnboundedSender<Feedback>,
        stop: CancellationToken,
    ) -> Self {
        let SettledFile { path, seen, attempt, quiet, was_replaced, owed, origin, trace, .. } =
            settled;
        let ticket = Ticket::new(feedback, path.clone(), attempt, owed);
        let id = context.ledger.next_id();
        let meter = context.meter.job_started(id, &path, seen.identity.size);
        let permits = Permits::default();
        let (settled_at, before) = (Instant::now(), None);
        Self {
            context,
            input,
            path,
            seen,
            attempt,
            quiet,
            was_replaced,
            origin,
            before,
            id,
            settled_at,
            meter,
            trace,
            probe,
            stop,
            commit: None,
            ticket,
            permits,
        }
    }

    /// Work on its content begins: from here on a drain waits for it.
    pub fn begin(&mut self) {
        self.ticket.begin();
    }

    /// Whether the intake closed before work on it began: dropping it hands it back.
    #[must_use]
    pub fn is_recalled(&self) -> bool {
        !self.ticket.has_begun() && self.is_stopping()
    }

    /// Whether its intake is closed.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Holds these permits until the job ends, the bytes until [`Self::release_bytes`].
    pub fn keep_permits(&mut self, permits: Permits) {
        self.permits = permits;
    }

    /// Holds these bytes besides, until [`Self::release_bytes`].
    pub fn hold_more(&mut self, bytes: Option<OwnedSemaphorePermit>) {
        match (&mut self.permits.bytes, bytes) {
            (Some(held), Some(more)) => held.merge(more),
            (held @ None, more) => *held = more,
            (Some(_), None) => {}
        }
    }

    /// The content is no longer in memory.
    pub fn release_bytes(&mut self) {
        self.permits.bytes = None;
    }

    /// The source's whole path, for messages.
    #[must_use]
    pub fn source_path(&self) -> PathBuf {
        self.context.source_path(&self.path)
    }

    /// The job's one outcome.
    pub fn end(mut self, outcome: Outcome, output_bytes: u64) {
        let kind = match &outcome {
            Outcome::Published => OutcomeKind::Published,
            Outcome::Skipped => OutcomeKind::Skipped,
            Outcome::Quarantined => OutcomeKind::Quarantined,
            Outcome::Deferred { .. } | Outcome::Left | Outcome::HandedBack => OutcomeKind::Deferred,
        };
        let source_bytes = self.seen.identity.size;
        self.context.meter.outcome(kind, source_bytes, output_bytes);
        self.trace.outcome(kind, self.attempt, (source_bytes, output_bytes));
        // Before the intake hears of it, which may send the next one.
        (self.probe, self.commit) = (None, None);
        self.ticket.send(outcome);
    }

    /// Ends it for now; the intake sends it again.
    pub fn defer(self, after: Duration, cause: DeferReason) {
        let attempt = self.attempt + u32::from(cause == DeferReason::Failed);
        self.end(Outcome::Deferred { after, attempt, cause }, 0);
    }

    /// The failed job, with the error that its verdict is made from.
    pub fn fail(self, failure: impl Into<Failure>) -> FailedJob {
        FailedJob { job: self, failure: failure.into() }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.context.meter.job_finished(self.id);
    }
}

/// A job whose source is open and known to be finished by its producer.
#[derive(Debug)]
pub struct Claimed {
    pub job: Job,
    pub source: File,
}

/// The whole content of a small file, unchanged while it was read.
#[derive(Debug)]
pub struct Loaded {
    pub claimed: Claimed,
    pub bytes: Vec<u8>,
}

/// The whole output of a small file.
#[derive(Debug)]
pub struct Transformed {
    pub job: Job,
    pub bytes: Vec<u8>,
    pub hashes: Hashes,
}

/// What a stage takes: it can tell whose it is.
pub trait Item {
    fn job(&self) -> &Job;
}

/// Each station's way to its job.
macro_rules! items {
    ($($station:ty: $($field:ident).+),+ $(,)?) => {
        $(impl Item for $station {
            fn job(&self) -> &Job {
                &self.$($field).+
            }
        })+
    };
}

/// What a lane of the large files takes.
#[derive(Debug)]
pub enum Streamed {
    /// A large source, which the lane claims when it has time for it.
    Settled(Job),
    /// A small source whose output outgrew its buffer.
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

/// BLAKE3 of what was read and of what came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashes {
    pub source: Hash,
    pub output: Hash,
}

/// Where the content of a temp is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentState {
    Cached,
    Durable,
}

/// A whole output in a temporary file, waiting for its name.
#[derive(Debug)]
pub struct Staged {
    pub job: Job,
    pub temp: Temp,
    /// Of the temp, after mode, owner and times were set.
    pub identity: Fingerprint,
    pub content: ContentState,
    /// The final path, below the output.
    pub output: PathBuf,
    pub hashes: Hashes,
}

/// An output that is durable under its final name. The record is its intent.
#[derive(Debug)]
pub struct Committed {
    pub job: Job,
    pub record: Record,
}

/// A job that could not go on.
#[derive(Debug)]
#[must_use = "a failed job is disposed of"]
pub struct FailedJob {
    pub job: Job,
    pub failure: Failure,
}

/// What the last stage takes.
#[derive(Debug)]
pub enum DisposeRequest {
    Committed(Committed),
    Failed(FailedJob),
    /// The ledger knows the source as done, and it is there: its disposal did not last.
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
