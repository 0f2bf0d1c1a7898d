//! The reason of each failure, as it is recorded and reported.

use std::io;

use super::{
    ClaimError, CommitError, DisposeError, Failure, ReadError, TransformError, WriteError,
};
use crate::{
    reason::{Reason, ReasonCode},
    transforms::FailureCause,
};

impl Failure {
    /// Returns the code of the failure, and the error with all its causes.
    #[must_use]
    pub fn reason(&self) -> Reason {
        // The first attempt to quarantine the file recorded its reason.
        if let Self::Claim(ClaimError::NotMoved { reason, .. }) = self {
            return reason.clone();
        }
        Reason::new(self.code(), self.chain())
    }

    fn code(&self) -> ReasonCode {
        match self {
            Self::Claim(error) => match error {
                ClaimError::Open { source, .. } | ClaimError::Lease { source, .. } => {
                    source_code(source)
                }
                ClaimError::Ledger { .. } => ReasonCode::LedgerError,
                ClaimError::Panicked { .. } => ReasonCode::InternalError,
                ClaimError::Earlier { .. } => ReasonCode::RolledBack,
                ClaimError::NotMoved { reason, .. } => reason.code,
            },
            Self::Read(ReadError::Io { source, .. }) => source_code(source),
            Self::Read(ReadError::Changed { .. }) => ReasonCode::Changed,
            Self::Transform(TransformError::Codec { source, .. }) => cause_code(source.cause()),
            Self::Write(error) => match error {
                WriteError::NameTooLong { .. } => ReasonCode::NameTooLong,
                WriteError::NoName { .. } => ReasonCode::NameEmpty,
                WriteError::DirectoryTaken { .. } => ReasonCode::DirectoryTaken,
                WriteError::Directory { .. }
                | WriteError::Io { .. }
                | WriteError::Sync { .. }
                | WriteError::Short { .. } => ReasonCode::OutputError,
            },
            Self::Commit(error) => match error {
                CommitError::NameTaken { .. } | CommitError::Contended { .. } => {
                    ReasonCode::NameTaken
                }
                CommitError::Moved { .. } => ReasonCode::DirectoryMoved,
                CommitError::Sync { .. }
                | CommitError::DirectorySync { .. }
                | CommitError::TemporaryName { .. }
                | CommitError::Look { .. }
                | CommitError::Rename { .. } => ReasonCode::OutputError,
                CommitError::Ledger { .. }
                | CommitError::LookUp { .. }
                | CommitError::LedgerFull { .. }
                | CommitError::LedgerBusy { .. } => ReasonCode::LedgerError,
                CommitError::Acknowledge { .. } => ReasonCode::EventsError,
            },
            Self::Dispose(error) => match error {
                DisposeError::Source { .. } | DisposeError::Directory { .. } => {
                    ReasonCode::DisposalFailed
                }
                DisposeError::Quarantine { .. } => ReasonCode::QuarantineFailed,
                DisposeError::Record { .. } => ReasonCode::LedgerError,
                DisposeError::Report { .. } => ReasonCode::EventsError,
                DisposeError::NotPutBack { .. } => ReasonCode::NameLost,
            },
        }
    }
}

fn source_code(error: &io::Error) -> ReasonCode {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ReasonCode::PermissionDenied,
        _ => ReasonCode::SourceError,
    }
}

const fn cause_code(cause: &FailureCause) -> ReasonCode {
    match cause {
        FailureCause::Corrupt(_) => ReasonCode::Corrupt,
        FailureCause::Truncated => ReasonCode::Truncated,
        FailureCause::Trailing { .. } => ReasonCode::TrailingData,
        FailureCause::Unknown => ReasonCode::UnknownFormat,
        FailureCause::Unsupported(_) | FailureCause::NotCompiledIn(_) => ReasonCode::Unsupported,
        FailureCause::Memory { .. } => ReasonCode::DecoderMemory,
        FailureCause::OutputBytes { .. } => ReasonCode::OutputLimit,
        FailureCause::Ratio { .. } => ReasonCode::RatioLimit,
        FailureCause::Program(_) => ReasonCode::ProgramFailed,
        FailureCause::Rejected(_) => ReasonCode::ProgramRejected,
        FailureCause::Unavailable(_) => ReasonCode::ProgramUnavailable,
        FailureCause::NoIdentity => ReasonCode::NoIdentity,
        FailureCause::KeysUnavailable(_) => ReasonCode::KeysUnavailable,
        FailureCause::Stopped | FailureCause::Failed(_) | FailureCause::NotReversed { .. } => {
            ReasonCode::TransformFailed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_the_code_of_the_error_and_its_causes() {
        let source = FailureCause::Truncated.into();
        let failure = Failure::from(TransformError::Codec { path: "a".into(), source });
        let reason = failure.reason();
        assert_eq!(reason.code, ReasonCode::Truncated);
        assert_eq!(reason.text, "cannot transform a: the input is truncated");
    }

    #[test]
    fn a_file_that_could_not_be_moved_keeps_the_reason_of_its_first_attempt() {
        let reason = Reason::new(ReasonCode::Corrupt, "it is damaged");
        let failure = ClaimError::NotMoved { path: "a".into(), reason: reason.clone() };
        assert_eq!(Failure::from(failure).reason(), reason);
    }
}
