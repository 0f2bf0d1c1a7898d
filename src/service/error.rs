//! The errors that keep the service from starting or stop it, and the time limit of a resource.

use std::{io, time::Duration};

use tidemill_lifecycle::StartError;

pub use crate::error::chain;
use crate::{
    error::{Exit, is_of_disk},
    ledger,
};

/// Time limit for opening or closing a resource. Local files that take longer are unavailable.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Reason why the service could not start or had to stop.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("{0}")]
    Config(String),
    #[error("{0}")]
    Storage(String),
    /// A directory of a pipeline is read-only: the configuration is wrong, or the file system failed.
    #[error("{0}")]
    ReadOnly(String),
    #[error("{0}")]
    Internal(String),
    /// Another process uses the state directory; a later start may succeed.
    #[error("{0}")]
    Busy(String),
    /// The disk of the state directory or of the events file stayed full; a later start may succeed.
    #[error("{0}")]
    NoSpace(String),
    /// Another program writes to the ledger and did not end; a later start may succeed.
    #[error("{0}")]
    LedgerBusy(String),
    /// Only a restart can continue.
    #[error("{0}")]
    RestartRequired(String),
    /// A signal came before the service was ready.
    #[error("stopped during the start")]
    Stopping,
    /// The second signal came while a resource was being opened, which may have begun work.
    #[error("start interrupted: the next start continues it")]
    StartCut,
}

impl ServiceError {
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::ReadOnly(_) => Exit::Config,
            Self::Storage(_) => Exit::Storage,
            Self::Internal(_) => Exit::Internal,
            Self::RestartRequired(_)
            | Self::Busy(_)
            | Self::NoSpace(_)
            | Self::LedgerBusy(_)
            | Self::StartCut => Exit::WorkLeft,
            Self::Stopping => Exit::Success,
        }
    }

    /// Checks whether the start waits for the end of this error.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::NoSpace(_) | Self::LedgerBusy(_))
    }

    /// Checks whether the directories of a pipeline are read-only, or cannot be created now: the
    /// pipeline may start later.
    #[must_use]
    pub const fn may_end_later(&self) -> bool {
        matches!(self, Self::ReadOnly(_) | Self::Storage(_))
    }
}

/// Maps a failed start of a resource; `otherwise` makes the error of a failure.
pub(super) fn map_start_error(
    otherwise: fn(String) -> ServiceError,
) -> impl Fn(StartError) -> ServiceError {
    move |error| match error {
        StartError::Stopping { .. } => ServiceError::Stopping,
        error @ StartError::TimedOut { .. } => ServiceError::Storage(chain(&error)),
        error @ StartError::Panicked { .. } => ServiceError::Internal(chain(&error)),
        error @ StartError::Failed { .. } => otherwise(chain(&error)),
    }
}

/// Maps as [`map_start_error`] does, but an error of the disk to a storage error and a full disk to a wait.
pub(super) fn map_io_start_error(error: StartError) -> ServiceError {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    let cause = match &error {
        StartError::Failed { source, .. } => source.downcast_ref::<io::Error>(),
        _ => None,
    };
    let is_of_disk = cause.is_some_and(is_of_disk);
    match cause.map(io::Error::kind) {
        _ if is_of_disk => map_start_error(ServiceError::Storage)(error),
        Some(QuotaExceeded | StorageFull) => map_start_error(ServiceError::NoSpace)(error),
        _ => map_start_error(ServiceError::Config)(error),
    }
}

/// Returns what an error of the ledger means for the start: one without space and a busy one are
/// waited for.
pub(super) const fn ledger_failure(error: &ledger::Error) -> fn(String) -> ServiceError {
    match error.kind {
        ledger::ErrorKind::Busy => ServiceError::LedgerBusy,
        ledger::ErrorKind::Full => ServiceError::NoSpace,
        ledger::ErrorKind::Failed => ServiceError::Storage,
    }
}

/// Maps as [`map_start_error`] does, but an error of the ledger as [`ledger_failure`] does.
pub(super) fn map_ledger_start_error(
    otherwise: fn(String) -> ServiceError,
) -> impl Fn(StartError) -> ServiceError {
    move |error| {
        let cause = match &error {
            StartError::Failed { source, .. } => source.downcast_ref::<ledger::Error>(),
            _ => None,
        };
        let map = cause.map_or(otherwise, ledger_failure);
        map_start_error(map)(error)
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn an_error_of_the_disk_is_no_fault_of_the_configuration() {
        for (errno, wanted) in [
            (Errno::IO, Exit::Storage),
            (Errno::STALE, Exit::Storage),
            (Errno::ROFS, Exit::Storage),
            (Errno::NOSPC, Exit::WorkLeft),
            (Errno::NOTDIR, Exit::Config),
        ] {
            let source = Box::new(io::Error::from(errno));
            let error = StartError::Failed { name: "events".into(), source };
            assert_eq!(map_io_start_error(error).exit(), wanted, "{errno}");
        }
    }
}
