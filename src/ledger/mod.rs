//! The ledger: the durable record of intents and outcomes, written before any step that depends on
//! it.
//!
//! It is the write-ahead log of the commit protocol, the memory that keeps a source from being
//! published twice, and the history. Records match by identity, never by name alone.
//!
//! [`Ledger`] is the seam at which a shared database can replace the embedded one of a single
//! machine ([`sqlite::Sqlite`]): every write is an idempotent statement about records by their ids.
//! Each implementation passes the suite of `conformance.rs`.

#[cfg(test)]
mod conformance;
#[cfg(any(test, feature = "failpoints"))]
pub mod memory;
mod session;
pub mod sqlite;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use self::session::{OpenWork, Session};
pub use crate::outcome::State;
use crate::{fingerprint::Fingerprint, policy::OnSuccess, reason::Reason};

/// The use that a ledger is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// By the service, which creates it or migrates an older one.
    Service,
    /// To write to an existing one, next to a service that may use it.
    Command,
    /// Read-only, next to a service that uses it.
    Reading,
}

/// Opens the ledger at this path.
///
/// # Errors
///
/// It cannot be used, or, for [`Access::Command`] and [`Access::Reading`], another version made it.
pub fn open(path: &Path, access: Access) -> Result<Arc<dyn Ledger>> {
    Ok(Arc::new(match access {
        Access::Service => sqlite::Sqlite::open(path)?,
        Access::Command => sqlite::Sqlite::open_existing(path)?,
        Access::Reading => sqlite::Sqlite::open_read_only(path)?,
    }))
}

/// A record's number: unique in its ledger, growing.
pub type RecordId = i64;

/// The ledger's number for one (input, output) pair of directories.
pub type PipelineId = i64;

/// A BLAKE3 hash.
pub type Hash = [u8; 32];

/// A SHA-256 digest.
pub type Sha256 = [u8; 32];

/// One attempt at one source, and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: RecordId,
    pub pipeline: PipelineId,
    /// Path relative to the pipeline's input.
    pub source: PathBuf,
    /// The identity of the source as it was read.
    pub identity: Fingerprint,
    /// `None` if it was quarantined before it was read completely.
    pub output: Option<Output>,
    pub on_success: OnSuccess,
    pub state: State,
    /// The reason for which it was withdrawn, skipped or quarantined.
    pub reason: Option<Reason>,
    /// The source's path in quarantine; `None` if it stayed in place.
    pub moved_to: Option<PathBuf>,
    /// The time of the record, in nanoseconds since the epoch.
    pub at_ns: i64,
}

impl Record {
    /// Returns the size of its output, 0 without one.
    #[must_use]
    pub fn output_bytes(&self) -> u64 {
        self.output.as_ref().map_or(0, |output| output.identity.size)
    }

    /// Returns the sentence of its reason.
    #[must_use]
    pub fn reason_text(&self) -> Option<&str> {
        self.reason.as_ref().map(|reason| reason.text.as_str())
    }

    /// Checks whether it failed after its output was published.
    #[must_use]
    pub fn is_undisposed(&self) -> bool {
        self.reason.as_ref().is_some_and(|reason| reason.code.is_after_publication())
    }
}

/// A record's new state; a given reason replaces the old one.
pub type StateUpdate = (RecordId, State, Option<Reason>);

/// The output of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Path relative to the pipeline's output.
    pub path: PathBuf,
    /// The temp's name, in the same directory.
    pub temp: OsString,
    /// The identity of the temp; the change time is the temp's, and a rename moves it.
    pub identity: Fingerprint,
    /// The hash of the output's content.
    pub hash: Hash,
    /// The hash of the source's content.
    pub source_hash: Hash,
    /// The output that this one may replace, as the policy found it.
    pub replaces: Option<Replaced>,
    /// The transforms that made it, in the configuration's notation; empty in records of older
    /// ledgers.
    pub transforms: String,
    /// The digest in its checksum file; `None` without one.
    pub sha256: Option<Sha256>,
}

/// An output that another one replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    pub identity: Fingerprint,
    /// The hash of its content, if this service published it.
    pub hash: Option<Hash>,
    /// The digest in its checksum file, if this service published that and it is there.
    pub sha256: Option<Sha256>,
}

/// The time by which a write must have reached the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Before the call returns.
    Now,
    /// With the next [`Flush::Now`] write. A kill does not lose it, a power loss may.
    Deferred,
}

/// How the previous run on this ledger ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreviousShutdown {
    Clean,
    Unclean,
}

/// The filter of a history; the newest record comes first.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    pub state: Option<State>,
    pub since_ns: Option<i64>,
    pub limit: Option<u64>,
    /// Only records older than this one.
    pub before: Option<RecordId>,
}

/// The pair of directories of a pipeline in the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineDirs {
    pub id: PipelineId,
    pub name: String,
    pub input: PathBuf,
    pub output: PathBuf,
}

/// An end of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PipelineEnd {
    Input,
    Output,
}

/// A failure of the ledger. After a failed durable write nothing more may be published.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the ledger {path}", path = path.display())]
pub struct Error {
    pub path: PathBuf,
    pub action: &'static str,
    pub kind: ErrorKind,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl Error {
    /// Makes a failure that a test injects.
    pub(crate) fn injected(source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull => ErrorKind::Full,
            std::io::ErrorKind::ResourceBusy => ErrorKind::Busy,
            _ => ErrorKind::Failed,
        };
        Self { path: PathBuf::new(), action: "write to", kind, source: source.into() }
    }
}

/// What a failure means for the records to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The disk was full before the transaction counted: none of it is written, and the ledger
    /// stays usable.
    Full,
    /// Another process held the ledger for too long: nothing is written, and the ledger stays
    /// usable.
    Busy,
    /// It is unknown how much of the write is durable.
    Failed,
}

pub type Result<T> = std::result::Result<T, Error>;

/// The durable memory of the service. Shared by all threads; calls block.
pub trait Ledger: Send + Sync + std::fmt::Debug {
    /// Returns the ledger's random identifier, created with it: it marks this ledger's temps.
    fn instance(&self) -> &str;

    /// Returns its session, with the numbers of records.
    fn session(&self) -> &Session;

    /// Begins the session: marks the ledger as in use, durably, and returns how the previous one
    /// ended. `boot` identifies the machine's boot: a power loss after a clean stop can bring back
    /// files that were removed before it, so a clean stop of another boot counts as unclean, and so
    /// does a session that joins again. Recovery begins with it, and nothing before recovery uses the
    /// ledger: a start that fails earlier leaves the next one nothing to recover.
    fn join(&self, boot: &str) -> Result<PreviousShutdown>;

    /// Ends the session: makes everything durable and marks it as ended cleanly, in its boot. If
    /// recovery did not complete, or other work did not end ([`Session::begin_work`]), the mark stays as
    /// it was, and the next start recovers.
    fn leave(&self) -> Result<()>;

    /// Returns the number of this pair of directories and sets its current name.
    fn register_pipeline(&self, name: &str, input: &Path, output: &Path) -> Result<PipelineId>;

    /// Returns all registered pairs of directories.
    fn pipelines(&self) -> Result<Vec<PipelineDirs>>;

    /// Returns the inode of the directory that was an end of a pipeline when none of its work was
    /// unfinished.
    fn root_inode(&self, pipeline: PipelineId, end: PipelineEnd) -> Result<Option<u64>>;

    /// Stores that inode; writes nothing if it is stored already.
    fn set_root_inode(&self, pipeline: PipelineId, end: PipelineEnd, inode: u64) -> Result<()>;

    /// Makes [`Flush::Deferred`] writes durable that have waited for `wait`. A full disk or another
    /// writing process postpones it to the next call.
    fn flush(&self, wait: Duration) -> Result<()>;

    /// Adds records, or replaces those with the same id, all or none.
    fn append(&self, records: &[Record], when: Flush) -> Result<()>;

    /// Sets the states of records, all or none.
    fn set_states(&self, updates: &[StateUpdate], when: Flush) -> Result<()>;

    /// Returns the record with this number.
    fn record(&self, id: RecordId) -> Result<Option<Record>>;

    /// Returns for each of these source paths, in their order, the newest record that is not
    /// [`State::Withdrawn`]: in one call for a batch of files, which all see one state of the ledger.
    fn latest_of_each(
        &self,
        pipeline: PipelineId,
        sources: &[&Path],
    ) -> Result<Vec<Option<Record>>>;

    /// Returns the newest record of a source path that is not [`State::Withdrawn`].
    fn latest(&self, pipeline: PipelineId, source: &Path) -> Result<Option<Record>> {
        Ok(self.latest_of_each(pipeline, &[source])?.pop().flatten())
    }

    /// Returns the newest record of a source path and an inode whose output was published, also if its
    /// source was quarantined or requeued since.
    fn latest_of_inode(
        &self,
        pipeline: PipelineId,
        source: &Path,
        inode: u64,
    ) -> Result<Option<Record>>;

    /// Returns the newest record of a source path and this file, by inode, size and time of
    /// modification, whose output was published; one with its change time comes first.
    fn latest_of_file(
        &self,
        pipeline: PipelineId,
        source: &Path,
        found: &Fingerprint,
    ) -> Result<Option<Record>>;

    /// Returns the newest record of a source path whose output was published.
    fn latest_published(&self, pipeline: PipelineId, source: &Path) -> Result<Option<Record>>;

    /// Returns the newest record that published, or intends to publish, under this output path.
    /// Slow.
    fn latest_for_output(&self, pipeline: PipelineId, output: &Path) -> Result<Option<Record>>;

    /// Returns the time of the pipeline's first record, in nanoseconds since the epoch. Slow.
    fn first_record_ns(&self, pipeline: PipelineId) -> Result<Option<i64>>;

    /// Returns the time of the pipeline's newest record, in nanoseconds since the epoch. Slow if those of other
    /// pipelines follow it.
    fn last_record_ns(&self, pipeline: PipelineId) -> Result<Option<i64>>;

    /// Returns the records that recovery must finish, oldest first.
    fn unfinished(&self) -> Result<Vec<Record>>;

    /// Returns the records that match the query, newest first.
    fn history(&self, query: &HistoryQuery) -> Result<Vec<Record>>;

    /// Returns finished records with numbers above `after`, in their order, at most `limit`.
    fn finished(&self, after: RecordId, limit: u64) -> Result<Vec<Record>>;

    /// Returns the newest [`State::Done`] record of a source path that was archived with this size and
    /// time of modification; one with this inode comes first.
    fn archived(
        &self,
        pipeline: PipelineId,
        source: &Path,
        found: &Fingerprint,
    ) -> Result<Option<Record>>;

    /// Sets or clears the reasons of finished records, all or none, durably.
    fn set_reasons(&self, reasons: &[(RecordId, Option<Reason>)]) -> Result<()>;

    /// Removes records, and returns how many. Keeps one that is unfinished, the one with the highest number,
    /// and one that is not the oldest of its source path: whatever stays is newer than what went. Written as
    /// [`Flush::Deferred`]: a power loss may bring records back.
    fn remove_records(&self, ids: &[RecordId]) -> Result<u64>;
}
