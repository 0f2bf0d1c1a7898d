//! The errors of each stage, and the one verdict on each of them.

use std::{io, path::PathBuf};

use crate::{
    codec, error,
    ledger::{self, ErrorKind},
    observe::{display_path, is_full},
    stage::Stage,
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
    #[error("{reason}")]
    NotMoved { path: PathBuf, reason: String },
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
    Codec { path: PathBuf, source: codec::Error },
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

#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error("cannot make the temporary file of {} durable", display_path(path))]
    Sync { path: PathBuf, source: io::Error },
    #[error("cannot make the directory of {} durable", display_path(path))]
    DirectorySync { path: PathBuf, source: io::Error },
    #[error("cannot remove the temporary name of {}", display_path(path))]
    TemporaryName { path: PathBuf, source: io::Error },
    #[error("cannot record the intent to publish {}", display_path(path))]
    Ledger { path: PathBuf, source: ledger::Error },
    #[error("{} exists, and {policy}", display_path(path))]
    NameTaken { path: PathBuf, policy: &'static str },
    #[error("cannot stat {}", display_path(path))]
    Look { path: PathBuf, source: io::Error },
    #[error("cannot rename the temporary file to {}", display_path(path))]
    Rename { path: PathBuf, source: io::Error },
    #[error("cannot publish {}: the ledger's disk is full", display_path(path))]
    LedgerFull { path: PathBuf },
    #[error("the directory of {} was moved away", display_path(path))]
    Moved { path: PathBuf },
    #[error("cannot publish {}: another program writes to the ledger", display_path(path))]
    LedgerBusy { path: PathBuf },
    #[error("cannot write the events file")]
    Acknowledge { source: io::Error },
}

#[derive(Debug, thiserror::Error)]
pub enum DisposeError {
    #[error("output published, but {} cannot be {what}", display_path(path))]
    Source { path: PathBuf, what: &'static str, source: io::Error },
    #[error("cannot move {} to quarantine", display_path(path))]
    Quarantine { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error(
        "output published, but another file replaced {} and cannot be restored to this name: it is {}",
        display_path(path),
        display_path(private)
    )]
    NotPutBack { path: PathBuf, private: PathBuf, source: io::Error },
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
    /// Storage is unavailable: the intake pauses and retries automatically; the file is not at fault.
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

    /// Decides the response to this failure; no other code does.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Claim(ClaimError::Open { source, .. } | ClaimError::Lease { source, .. })
            | Self::Read(ReadError::Io { source, .. }) => source_verdict(source),
            Self::Claim(ClaimError::Ledger { .. }) => Verdict::Pause,
            Self::Claim(
                ClaimError::Panicked { .. }
                | ClaimError::Earlier { .. }
                | ClaimError::NotMoved { .. },
            ) => Verdict::Quarantine,
            Self::Transform(TransformError::Codec { source, .. }) if source.is_final() => {
                Verdict::Quarantine
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
                CommitError::DirectorySync { source, .. } | CommitError::Acknowledge { source }
                    if is_full(source) =>
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
                CommitError::Moved { .. } => Verdict::Unfinished,
                CommitError::Look { source, .. } | CommitError::Rename { source, .. } => {
                    storage_verdict(source)
                }
                CommitError::LedgerFull { .. } | CommitError::LedgerBusy { .. } => Verdict::Pause,
            },
            Self::Dispose(DisposeError::Source { source, .. }) => disposal_verdict(source),
            Self::Dispose(DisposeError::Quarantine { .. }) => Verdict::Pause,
            Self::Dispose(DisposeError::NotPutBack { .. }) => Verdict::Quarantine,
        }
    }

    /// Returns the error and all its causes, on one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// Judges an error on the source's side: it blames the file, except for a lack of the machine's
/// resources or a lost network mount.
fn source_verdict(error: &io::Error) -> Verdict {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    match errno {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::STALE | Errno::NOTCONN) => {
            Verdict::Pause
        }
        _ => Verdict::Retry,
    }
}

/// Judges an error of the source's disposal: a move needs space and support by the file system, which
/// may also have become read-only or unavailable.
fn disposal_verdict(error: &io::Error) -> Verdict {
    use io::ErrorKind::{
        NotConnected, QuotaExceeded, ReadOnlyFilesystem, StaleNetworkFileHandle, StorageFull,
        TimedOut, Unsupported,
    };
    match error.kind() {
        StorageFull
        | QuotaExceeded
        | Unsupported
        | ReadOnlyFilesystem
        | NotConnected
        | StaleNetworkFileHandle
        | TimedOut => Verdict::Pause,
        _ => Verdict::Retry,
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
    match error::storage_health(error) {
        error::StorageHealth::Available => Verdict::Retry,
        error::StorageHealth::Unavailable => Verdict::Pause,
        error::StorageHealth::ReadOnly => Verdict::Fatal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_failed(errno: rustix::io::Errno) -> Verdict {
        Failure::from(WriteError::Io { path: "a".into(), source: errno.into() }).verdict()
    }

    fn read_failed(errno: rustix::io::Errno) -> Verdict {
        Failure::from(ReadError::Io { path: "a".into(), source: errno.into() }).verdict()
    }

    #[test]
    fn an_io_error_blames_the_side_it_happened_on() {
        use rustix::io::Errno;
        for (errno, writing, reading) in [
            (Errno::NOSPC, Verdict::Pause, Verdict::Retry),
            (Errno::DQUOT, Verdict::Pause, Verdict::Retry),
            (Errno::MFILE, Verdict::Pause, Verdict::Pause),
            (Errno::IO, Verdict::Pause, Verdict::Retry),
            (Errno::STALE, Verdict::Pause, Verdict::Pause),
            (Errno::ROFS, Verdict::Fatal, Verdict::Retry),
            (Errno::NAMETOOLONG, Verdict::Retry, Verdict::Retry),
        ] {
            assert_eq!(write_failed(errno), writing, "writing: {errno}");
            assert_eq!(read_failed(errno), reading, "reading: {errno}");
        }
    }

    #[test]
    fn a_disposal_that_storage_cannot_do_does_not_blame_the_file() {
        use rustix::io::Errno;
        let verdict = |source: io::Error| {
            Failure::from(DisposeError::Source { path: "a".into(), what: "removed", source })
                .verdict()
        };
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::STALE] {
            assert_eq!(verdict(errno.into()), Verdict::Pause, "{errno}");
        }
        assert_eq!(verdict(io::ErrorKind::Unsupported.into()), Verdict::Pause);
        assert_eq!(verdict(Errno::PERM.into()), Verdict::Retry);
    }

    #[test]
    fn damage_and_limits_are_final_and_a_failed_encoder_is_not() {
        let transform = crate::transforms::Transform::DecompressAny;
        let failure = |source| Failure::from(TransformError::Codec { path: "a".into(), source });
        let broken = || io::Error::other("broken");
        for source in [
            codec::Error::Corrupt { transform, source: broken() },
            codec::Error::Truncated { transform },
            codec::Error::Ratio { transform, limit: 1 },
            codec::Error::Memory { transform, limit: 1 },
            codec::Error::Unsupported { transform, feature: "a dictionary" },
        ] {
            assert_eq!(failure(source).verdict(), Verdict::Quarantine);
        }
        let encode = codec::Error::Encode { transform, source: broken() };
        assert_eq!(failure(encode).verdict(), Verdict::Retry);
    }

    #[test]
    fn a_failed_directory_sync_is_fatal_and_a_failed_file_sync_is_not() {
        let source = || io::Error::from(rustix::io::Errno::IO);
        let path = || PathBuf::from("a");
        let file = Failure::from(CommitError::Sync { path: path(), source: source() });
        let directory =
            Failure::from(CommitError::DirectorySync { path: path(), source: source() });
        assert_eq!((file.verdict(), directory.verdict()), (Verdict::Pause, Verdict::Fatal));
    }
}
