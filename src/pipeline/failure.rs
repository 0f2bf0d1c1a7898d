//! The errors of each stage, and the one verdict on each of them.

mod reason;

use std::{io, path::PathBuf};

use crate::{
    error,
    ledger::{self, ErrorKind},
    observe::{display_path, is_full, is_repeatable},
    reason::Reason,
    sink,
    stage::Stage,
    transforms,
};

#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("cannot open {}", display_path(path))]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot check {} for writers", display_path(path))]
    Lease { path: PathBuf, source: io::Error },
    #[error("cannot look up {} in the ledger", display_path(path))]
    Ledger { path: PathBuf, source: ledger::Error },
    #[error(
        "internal error, tidemill panicked while it processed {}; hint: report the panic message of the log",
        display_path(path)
    )]
    Panicked { path: PathBuf },
    #[error(
        "{} is in an earlier state than the processed one: its producer did not make it durable before a power loss, or the clock went back; the published output stays",
        display_path(path)
    )]
    Earlier { path: PathBuf },
    /// The reason is that of the first attempt to quarantine the file.
    #[error("{}", reason.text)]
    NotMoved { path: PathBuf, reason: Reason },
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read {}", display_path(path))]
    Io { path: PathBuf, source: io::Error },
    #[error("{} changed while it was read", display_path(path))]
    Changed { path: PathBuf },
}

#[derive(Debug, thiserror::Error)]
pub enum TransformError {
    #[error("cannot transform {}", display_path(path))]
    Codec { path: PathBuf, source: transforms::Error },
}

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error(
        "the output name of {} is too long: {bytes} bytes, at most 255 are allowed",
        display_path(path)
    )]
    NameTooLong { path: PathBuf, bytes: usize },
    #[error("the transforms result in an empty output name for {}", display_path(path))]
    NoName { path: PathBuf },
    #[error("cannot open the output directory of {}", display_path(path))]
    Directory { path: PathBuf, source: io::Error },
    #[error(
        "cannot create the output directory of {}: its name belongs to a file that is not a directory",
        display_path(path)
    )]
    DirectoryTaken { path: PathBuf, source: io::Error },
    #[error("cannot write the temporary file of {}", display_path(path))]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot make the temporary file of {} durable", display_path(path))]
    Sync { path: PathBuf, source: io::Error },
    #[error(
        "the temporary file of {} has {found} bytes instead of the {written} written",
        display_path(path)
    )]
    Short { path: PathBuf, written: u64, found: u64 },
}

impl WriteError {
    /// Classifies an error of the sink, for the output of the source with this path.
    pub fn of(path: PathBuf, error: sink::Error) -> Self {
        let source = error.source;
        match error.kind {
            sink::ErrorKind::Directory => Self::Directory { path, source },
            sink::ErrorKind::DirectoryTaken => Self::DirectoryTaken { path, source },
            sink::ErrorKind::Sync => Self::Sync { path, source },
            sink::ErrorKind::Short { written, found } => Self::Short { path, written, found },
            _ => Self::Io { path, source },
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error("cannot make the temporary file of {} durable", display_path(path))]
    Sync { path: PathBuf, source: io::Error },
    #[error("cannot make the directory of {} durable", display_path(path))]
    DirectorySync { path: PathBuf, source: io::Error },
    #[error("cannot remove the temporary names in {}", display_path(path))]
    TemporaryName { path: PathBuf, source: io::Error },
    #[error("cannot record the intent to publish {}", display_path(path))]
    Ledger { path: PathBuf, source: ledger::Error },
    #[error("{} exists, and {policy}", display_path(path))]
    NameTaken { path: PathBuf, policy: &'static str },
    #[error("cannot stat {}", display_path(path))]
    Look { path: PathBuf, source: io::Error },
    #[error("cannot look up the output {} in the ledger", display_path(path))]
    LookUp { path: PathBuf, source: ledger::Error },
    #[error("cannot rename the temporary file to {}", display_path(path))]
    Rename { path: PathBuf, source: io::Error },
    #[error("cannot publish {}: the ledger's disk is full", display_path(path))]
    LedgerFull { path: PathBuf },
    #[error("another program keeps changing {}", display_path(path))]
    Contended { path: PathBuf },
    #[error("the directory of {} was moved away", display_path(path))]
    Moved { path: PathBuf },
    #[error("cannot publish {}: another program writes to the ledger", display_path(path))]
    LedgerBusy { path: PathBuf },
    #[error("cannot write the events file")]
    Acknowledge { source: io::Error },
}

impl CommitError {
    /// Classifies an error of the sink.
    pub fn of(error: sink::Error) -> Self {
        let sink::Error { kind, path, source } = error;
        match kind {
            sink::ErrorKind::SyncNames => Self::DirectorySync { path, source },
            sink::ErrorKind::Remove => Self::TemporaryName { path, source },
            sink::ErrorKind::Publish | sink::ErrorKind::Taken => Self::Rename { path, source },
            sink::ErrorKind::Look => Self::Look { path, source },
            _ => Self::Sync { path, source },
        }
    }
}

impl From<sink::Error> for CommitError {
    fn from(error: sink::Error) -> Self {
        Self::of(error)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DisposeError {
    #[error("output published, but {} cannot be {what}", display_path(path))]
    Source { path: PathBuf, what: &'static str, source: io::Error },
    /// The directory permits no disposal, whatever the file.
    #[error("output published, but no source can be {what} {}", display_path(path))]
    Directory { path: PathBuf, what: &'static str, source: io::Error },
    #[error("cannot record the end of {}", display_path(path))]
    Record { path: PathBuf, source: ledger::Error },
    #[error("cannot write the events file")]
    Report { source: io::Error },
    #[error("cannot move {} to quarantine", display_path(path))]
    Quarantine { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error(
        "output published, but another file replaced {} and cannot be restored to this name: it is {}",
        display_path(path),
        display_path(private)
    )]
    NotPutBack { path: PathBuf, private: PathBuf, source: io::Error },
}

impl DisposeError {
    fn verdict(&self, network_input: bool) -> Verdict {
        match self {
            Self::Source { source, .. } => disposal_verdict(source, network_input),
            // The ledger accepts nothing any more, and the events file is in an unknown state: a pause
            // would never end.
            Self::Record { source, .. } if source.kind == ErrorKind::Failed => Verdict::Fatal,
            Self::Report { source } if !is_repeatable(source) => Verdict::Fatal,
            Self::Directory { .. }
            | Self::Quarantine { .. }
            | Self::Record { .. }
            | Self::Report { .. } => Verdict::Pause,
            Self::NotPutBack { .. } => Verdict::Quarantine,
        }
    }
}

/// The cause of a failed job, by its stage.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Transform(#[from] TransformError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Dispose(#[from] DisposeError),
}

/// The response to a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The producer has not finished the file: retry after a short wait, without a limit of attempts.
    Unfinished,
    /// The file is at fault: retry with a doubling wait, then quarantine it.
    Retry,
    /// The file is at fault, and another attempt would fail the same way.
    Quarantine,
    /// Storage is unavailable or read-only: the intake of this pipeline pauses and retries automatically;
    /// the file is not at fault.
    Pause,
    /// Storage failed: nothing more may be acknowledged, the process exits with code 74.
    Fatal,
}

impl Failure {
    #[must_use]
    pub const fn stage(&self) -> Stage {
        match self {
            Self::Claim(_) => Stage::Claim,
            Self::Read(_) => Stage::Read,
            Self::Transform(_) => Stage::Transform,
            Self::Write(_) => Stage::Write,
            Self::Commit(_) => Stage::Commit,
            Self::Dispose(_) => Stage::Dispose,
        }
    }

    /// Decides the response to this failure; no other code does. The input is on a local file system, or
    /// the failure is not of the input.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict_with(false)
    }

    /// As [`Self::verdict`], where the input may be on a network file system.
    #[must_use]
    pub fn verdict_with(&self, network_input: bool) -> Verdict {
        match self {
            Self::Claim(ClaimError::Open { source, .. } | ClaimError::Lease { source, .. })
            | Self::Read(ReadError::Io { source, .. }) => source_verdict(source, network_input),
            Self::Claim(ClaimError::Ledger { .. }) => Verdict::Pause,
            Self::Claim(
                ClaimError::Panicked { .. }
                | ClaimError::Earlier { .. }
                | ClaimError::NotMoved { .. },
            ) => Verdict::Quarantine,
            Self::Transform(TransformError::Codec { source, .. }) if source.is_final() => {
                Verdict::Quarantine
            }
            Self::Transform(TransformError::Codec { source, .. }) if source.is_unavailable() => {
                Verdict::Pause
            }
            Self::Transform(_) => Verdict::Retry,
            Self::Read(ReadError::Changed { .. }) => Verdict::Unfinished,
            Self::Write(error) => match error {
                WriteError::NameTooLong { .. }
                | WriteError::NoName { .. }
                | WriteError::DirectoryTaken { .. } => Verdict::Quarantine,
                WriteError::Directory { source, .. } | WriteError::Io { source, .. } => {
                    storage_verdict(source)
                }
                WriteError::Sync { source, .. } => sync_verdict(source),
                WriteError::Short { .. } => Verdict::Pause,
            },
            Self::Commit(error) => match error {
                CommitError::Sync { source, .. } => sync_verdict(source),
                CommitError::TemporaryName { source, .. } => sync_verdict(source),
                // A full disk: nothing was lost, and a retry succeeds when there is space.
                CommitError::DirectorySync { source, .. } if is_full(source) => Verdict::Pause,
                CommitError::Acknowledge { source } if is_repeatable(source) => Verdict::Pause,
                // A file system that became read-only stays so for this handle until it is mounted
                // again: a later sync of the directory cannot succeed by mistake.
                CommitError::DirectorySync { source, .. }
                    if source.kind() == io::ErrorKind::ReadOnlyFilesystem =>
                {
                    Verdict::Pause
                }
                CommitError::Ledger { source, .. } if source.kind != ErrorKind::Failed => {
                    Verdict::Pause
                }
                CommitError::DirectorySync { .. }
                | CommitError::Ledger { .. }
                | CommitError::Acknowledge { .. } => Verdict::Fatal,
                CommitError::NameTaken { .. } => Verdict::Quarantine,
                CommitError::Moved { .. } | CommitError::Contended { .. } => Verdict::Unfinished,
                CommitError::Look { source, .. } | CommitError::Rename { source, .. } => {
                    storage_verdict(source)
                }
                CommitError::LookUp { .. }
                | CommitError::LedgerFull { .. }
                | CommitError::LedgerBusy { .. } => Verdict::Pause,
            },
            Self::Dispose(error) => error.verdict(network_input),
        }
    }

    /// Returns the error and all its causes, on one line.
    #[must_use]
    pub fn chain(&self) -> String {
        error::chain(self)
    }
}

/// Judges an error on the source's side: it blames the file, unless the error says that the input does
/// not respond or the machine lacks resources.
fn source_verdict(error: &io::Error, is_network: bool) -> Verdict {
    if error::blames_input(error, is_network) { Verdict::Pause } else { Verdict::Retry }
}

/// Judges an error of the source's disposal: a move also needs space and support by the file system,
/// which may have become read-only.
fn disposal_verdict(error: &io::Error, is_network: bool) -> Verdict {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull, Unsupported};
    // The archive is another place than the source, and often another disk.
    if let Some(error) = error::target_error(error) {
        return storage_verdict(error);
    }
    match error.kind() {
        StorageFull | QuotaExceeded | Unsupported | ReadOnlyFilesystem => Verdict::Pause,
        _ => source_verdict(error, is_network),
    }
}

/// Judges a failed sync: it never blames the file.
fn sync_verdict(error: &io::Error) -> Verdict {
    match storage_verdict(error) {
        Verdict::Retry => Verdict::Pause,
        verdict => verdict,
    }
}

fn storage_verdict(error: &io::Error) -> Verdict {
    if error::blames_output(error) { Verdict::Pause } else { Verdict::Retry }
}

#[cfg(test)]
mod tests;
