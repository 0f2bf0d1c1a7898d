//! What can go wrong in each stage, and the one verdict on it.

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
    #[error("cannot ask who writes {}", display_path(path))]
    Lease { path: PathBuf, source: io::Error },
    #[error("cannot look {} up", display_path(path))]
    Ledger { path: PathBuf, source: ledger::Error },
    #[error(
        "the program failed inside while it worked on {}: please report the log's panic message",
        display_path(path)
    )]
    Panicked { path: PathBuf },
    #[error(
        "{} is in an earlier state than the one that was processed: its producer did not make it durable before a power loss, or the clock went back; the published output stays",
        display_path(path)
    )]
    Earlier { path: PathBuf },
    /// The reason is the one it was quarantined for.
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
        "the output's name would have {bytes} bytes, and a name may have 255: {}",
        display_path(path)
    )]
    NameTooLong { path: PathBuf, bytes: usize },
    #[error("the transforms leave no name for an output of {}", display_path(path))]
    NoName { path: PathBuf },
    #[error("cannot open the output directory of {}", display_path(path))]
    Directory { path: PathBuf, source: io::Error },
    #[error(
        "the output directory of {} cannot be made: something that is no directory has its name",
        display_path(path)
    )]
    DirectoryTaken { path: PathBuf, source: io::Error },
    #[error("cannot write the temporary file of {}", display_path(path))]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot make the temporary file of {} durable", display_path(path))]
    Sync { path: PathBuf, source: io::Error },
    #[error(
        "{written} bytes were written for {}, and its temporary file has {found}",
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
    #[error("cannot look at {}", display_path(path))]
    Look { path: PathBuf, source: io::Error },
    #[error("cannot give {} its name", display_path(path))]
    Rename { path: PathBuf, source: io::Error },
    #[error("the ledger's disk is full: {} is not published", display_path(path))]
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
    #[error("its output is published, and {} cannot be {what}", display_path(path))]
    Source { path: PathBuf, what: &'static str, source: io::Error },
    #[error("cannot put {} into quarantine", display_path(path))]
    Quarantine { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error(
        "its output is published, and {} was replaced since by a file that could not be put back: it is {}",
        display_path(path),
        display_path(private)
    )]
    NotPutBack { path: PathBuf, private: PathBuf, source: io::Error },
}

/// Why a job failed, by the stage that it failed in.
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

/// What is done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The file was not finished: again after a short while, as often as it takes.
    Unfinished,
    /// The file is sick: again with a doubling wait, then quarantine.
    Retry,
    /// The file is sick, and another try would fail the same way.
    Quarantine,
    /// The place is sick: the intake pauses and tries by itself; the file is not to blame.
    Pause,
    /// Storage failed: nothing more may be acknowledged, the process ends with code 74.
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

    /// The one place that decides what a failure means.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Claim(ClaimError::Open { source, .. } | ClaimError::Lease { source, .. })
            | Self::Read(ReadError::Io { source, .. }) => of_source(source),
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
                    of_place(source)
                }
                WriteError::Sync { source, .. } => of_sync(source),
                WriteError::Short { .. } => Verdict::Pause,
            },
            Self::Commit(error) => match error {
                CommitError::Sync { source, .. } => of_sync(source),
                // A full disk: nothing was lost, and the same can be done again when there is space.
                CommitError::TemporaryName { source, .. } => of_sync(source),
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
                    of_place(source)
                }
                CommitError::LedgerFull { .. } | CommitError::LedgerBusy { .. } => Verdict::Pause,
            },
            Self::Dispose(DisposeError::Source { source, .. }) => of_disposal(source),
            Self::Dispose(DisposeError::Quarantine { .. }) => Verdict::Pause,
            Self::Dispose(DisposeError::NotPutBack { .. }) => Verdict::Quarantine,
        }
    }

    /// The error and all its causes, on one line.
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

/// An error on the source's side blames the file, but for what only the machine can lack.
fn of_source(error: &io::Error) -> Verdict {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    match errno {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::STALE | Errno::NOTCONN) => {
            Verdict::Pause
        }
        _ => Verdict::Retry,
    }
}

/// A source cannot be disposed of: a move needs room and something that the file system can do, and
/// the place may be read-only by now, or away.
fn of_disposal(error: &io::Error) -> Verdict {
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

/// What cannot be made durable is no fault of the file.
fn of_sync(error: &io::Error) -> Verdict {
    match of_place(error) {
        Verdict::Retry => Verdict::Pause,
        verdict => verdict,
    }
}

fn of_place(error: &io::Error) -> Verdict {
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
    fn a_disposal_that_the_place_cannot_do_is_no_fault_of_its_file() {
        use rustix::io::Errno;
        let disposing = |source: io::Error| {
            Failure::from(DisposeError::Source { path: "a".into(), what: "removed", source })
                .verdict()
        };
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::STALE] {
            assert_eq!(disposing(errno.into()), Verdict::Pause, "{errno}");
        }
        assert_eq!(disposing(io::ErrorKind::Unsupported.into()), Verdict::Pause);
        assert_eq!(disposing(Errno::PERM.into()), Verdict::Retry);
    }

    #[test]
    fn damage_and_limits_are_final_and_a_failed_encoder_is_not() {
        let transform = crate::transforms::Transform::DecompressAny;
        let of = |source| Failure::from(TransformError::Codec { path: "a".into(), source });
        let broken = || io::Error::other("broken");
        for source in [
            codec::Error::Corrupt { transform, source: broken() },
            codec::Error::Truncated { transform },
            codec::Error::Ratio { transform, limit: 1 },
            codec::Error::Memory { transform, limit: 1 },
            codec::Error::Unsupported { transform, feature: "a dictionary" },
        ] {
            assert_eq!(of(source).verdict(), Verdict::Quarantine);
        }
        let encode = codec::Error::Encode { transform, source: broken() };
        assert_eq!(of(encode).verdict(), Verdict::Retry);
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
