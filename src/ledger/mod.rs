//! The ledger: what was intended and what became of it, durable before anything depends on it.
//!
//! It is the write-ahead log of the commit protocol, the memory that keeps a source from being
//! published twice, and the history. Records match by identity, never by name alone.
//!
//! [`Ledger`] is the seam at which one machine's embedded database ([`sqlite::Sqlite`]) can give way
//! to a shared one: every write is an idempotent statement about records by their id.

pub mod sqlite;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{fingerprint::Fingerprint, policy::OnSuccess};

/// A record's number: unique in its ledger, growing.
pub type RecordId = i64;

/// The ledger's number for one (input, output) pair of directories.
pub type PipelineId = i64;

/// A BLAKE3 hash.
pub type Hash = [u8; 32];

crate::policy::words! {
    /// What is known of a record.
    State {
        /// Its output may be published: finished by recovery where it is found so.
        Intent = "intent",
        /// Its output is durable under its final name; the source is not disposed of yet.
        Published = "published",
        /// Nothing is left to do.
        Done = "done",
        /// The intent was not carried out, and its temp may be deleted.
        Withdrawn = "withdrawn",
        /// The output's name was taken and the policy says to leave it.
        Skipped = "skipped",
        /// It failed, or cannot be explained: a person decides.
        Quarantined = "quarantined",
        /// A person asked for it to be processed again; it was in quarantine, or was published.
        Requeued = "requeued",
        /// Its output is published, and the source changed before it was disposed of: it stayed,
        /// and its new content is another record's.
        Changed = "changed",
    }
}

impl State {
    /// Whether recovery must finish it.
    #[must_use]
    pub const fn is_unfinished(self) -> bool {
        matches!(self, Self::Intent | Self::Published)
    }
}

/// One attempt at one source, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: RecordId,
    pub pipeline: PipelineId,
    /// Below the pipeline's input.
    pub source: PathBuf,
    /// Of the source as it was read.
    pub identity: Fingerprint,
    /// None where it was quarantined before it was read whole.
    pub output: Option<Output>,
    pub on_success: OnSuccess,
    pub state: State,
    /// Why it was withdrawn, skipped or quarantined.
    pub reason: Option<String>,
    /// Where quarantine put the source; None where it was left in place.
    pub moved_to: Option<PathBuf>,
    /// Nanoseconds since the epoch.
    pub at_ns: i64,
}

/// What was made of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Below the pipeline's output.
    pub path: PathBuf,
    /// The temp's name, in the same directory.
    pub temp: OsString,
    /// Of the temp; the change time is the temp's, a rename moves it.
    pub identity: Fingerprint,
    /// Of the output's content.
    pub hash: Hash,
    /// Of the source's content.
    pub source_hash: Hash,
    /// The output this one may replace, as the policy found it.
    pub replaces: Option<Replaced>,
    /// The transforms that made it, in the words of the configuration; empty in records of older ledgers.
    pub transforms: String,
}

/// An output that another one takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    pub identity: Fingerprint,
    /// Of its content, where this service published it.
    pub hash: Option<Hash>,
}

/// When a write must have reached the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Before the call returns.
    Now,
    /// With the next write that is [`Flush::Now`]. A kill does not lose it, a power loss may.
    Deferred,
}

/// How the last run on this ledger ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreviousShutdown {
    Clean,
    Unclean,
}

/// What a history asks for; the newest record comes first.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    pub state: Option<State>,
    pub since_ns: Option<i64>,
    pub limit: Option<u64>,
    /// Only records older than this one.
    pub before: Option<RecordId>,
}

/// A pair of directories the ledger has records of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineDirs {
    pub id: PipelineId,
    pub name: String,
    pub input: PathBuf,
    pub output: PathBuf,
}

/// The ledger failed; after a failed durable write nothing more may be published.
#[derive(Debug, thiserror::Error)]
#[error("ledger {path}: {action}", path = path.display())]
pub struct Error {
    pub path: PathBuf,
    pub action: &'static str,
    pub kind: ErrorKind,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl Error {
    /// A failure that a test asked for.
    pub(crate) fn injected(source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull => ErrorKind::Full,
            std::io::ErrorKind::ResourceBusy => ErrorKind::Busy,
            _ => ErrorKind::Failed,
        };
        Self { path: PathBuf::new(), action: "injected", kind, source: source.into() }
    }
}

/// What a failure says about what was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The disk was full before anything of the transaction counted: nothing of it is written,
    /// and the ledger goes on.
    Full,
    /// Another process wrote for too long: nothing of it is written, and the ledger goes on.
    Busy,
    /// Nobody knows how much of it is durable.
    Failed,
}

pub type Result<T> = std::result::Result<T, Error>;

/// The durable memory of the service. Shared by all threads; calls block.
pub trait Ledger: Send + Sync + std::fmt::Debug {
    /// Random, made with the ledger: it marks the temps that are this ledger's.
    fn instance(&self) -> &str;

    /// Marks the ledger as in use, durably, and says how the last use ended. `boot` tells one run
    /// of the machine from another: a power loss after a clean stop can bring back files that were
    /// removed before it, so that stop is clean no more.
    fn begin(&self, boot: &str) -> Result<PreviousShutdown>;

    /// Whether a record was made since the machine booted. What such a record says is done cannot
    /// have been undone by a power loss.
    fn is_of_this_boot(&self, id: RecordId) -> bool;

    /// Whether a record was made since this ledger was opened.
    fn is_of_this_run(&self, id: RecordId) -> bool;

    /// Recovery is through: from here on the use can end cleanly.
    fn recovered(&self);

    /// Makes everything durable and marks the use as ended cleanly, in this run of the machine.
    /// Where recovery did not come to its end, what it is for is still there: the mark stays as it
    /// was, and so does the next start's reason to recover.
    fn end(&self, boot: &str) -> Result<()>;

    /// The number for this pair of directories; the name is what it is called from now on.
    fn pipeline(&self, name: &str, input: &Path, output: &Path) -> Result<PipelineId>;

    /// All pairs of directories ever registered.
    fn roots(&self) -> Result<Vec<PipelineDirs>>;

    /// The inode of the directory that was a pipeline's input when nothing of it was unfinished.
    fn input_inode(&self, pipeline: PipelineId) -> Result<Option<u64>>;

    /// Notes it. Where it is what was noted before, nothing is written.
    fn note_input_inode(&self, pipeline: PipelineId, inode: u64) -> Result<()>;

    /// Makes what was written [`Flush::Deferred`] durable where it has waited for so long. A disk that is
    /// full, and another process that writes, leave it to the next time.
    fn flush(&self, wait: Duration) -> Result<()>;

    /// From now on records get larger numbers than this one: a ledger that was restored from a backup
    /// does not know which it gave after that.
    fn skip_ids(&self, last: RecordId);

    /// A number no record has had. Not durable: an unused one is a gap.
    fn next_id(&self) -> RecordId;

    /// Adds records, or replaces those of the same id, all or none.
    fn append(&self, records: &[Record], when: Flush) -> Result<()>;

    /// Sets the state of records, all or none; the reason replaces the old one where given.
    fn mark(&self, marks: &[(RecordId, State, Option<String>)], when: Flush) -> Result<()>;

    /// The record of this number.
    fn record(&self, id: RecordId) -> Result<Option<Record>>;

    /// The newest record of a source path that is not [`State::Withdrawn`].
    fn latest(&self, pipeline: PipelineId, source: &Path) -> Result<Option<Record>>;

    /// The newest record of a source path and an inode whose output was published.
    fn latest_of_inode(
        &self,
        pipeline: PipelineId,
        source: &Path,
        inode: u64,
    ) -> Result<Option<Record>>;

    /// The newest record of a source path whose output was published.
    fn latest_published(&self, pipeline: PipelineId, source: &Path) -> Result<Option<Record>>;

    /// The newest record that published, or intends to publish, under this output path. Slow.
    fn latest_for_output(&self, pipeline: PipelineId, output: &Path) -> Result<Option<Record>>;

    /// The records recovery must finish, oldest first.
    fn unfinished(&self) -> Result<Vec<Record>>;

    fn history(&self, query: &HistoryQuery) -> Result<Vec<Record>>;
}
