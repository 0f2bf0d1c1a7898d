//! The errors that keep the service from starting or stop it, and the time limit of a resource.

use std::{io, time::Duration};

use tidemill_lifecycle::StartError;
use tokio::task::spawn_blocking;

pub use crate::error::chain;
use crate::{error::Exit, ledger};

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
            Self::RestartRequired(_) | Self::Busy(_) | Self::NoSpace(_) | Self::StartCut => {
                Exit::WorkLeft
            }
            Self::Stopping => Exit::Drained,
        }
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

/// Maps as [`map_start_error`] does, but a read-only disk to a storage error and a full one to a wait.
pub(super) fn map_io_start_error(error: StartError) -> ServiceError {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let cause = match &error {
        StartError::Failed { source, .. } => source.downcast_ref::<io::Error>(),
        _ => None,
    };
    match cause.map(io::Error::kind) {
        Some(ReadOnlyFilesystem) => map_start_error(ServiceError::Storage)(error),
        Some(QuotaExceeded | StorageFull) => map_start_error(ServiceError::NoSpace)(error),
        _ => map_start_error(ServiceError::Config)(error),
    }
}

/// Maps as [`map_start_error`] does, but a failed ledger to a storage error, a busy one to a restart,
/// and one without space to a wait.
pub(super) fn map_ledger_start_error(
    otherwise: fn(String) -> ServiceError,
) -> impl Fn(StartError) -> ServiceError {
    move |error| {
        let cause = match &error {
            StartError::Failed { source, .. } => source.downcast_ref::<ledger::Error>(),
            _ => None,
        };
        match cause.map(|error| error.kind) {
            Some(ledger::ErrorKind::Busy) => map_start_error(ServiceError::RestartRequired)(error),
            Some(ledger::ErrorKind::Full) => map_start_error(ServiceError::NoSpace)(error),
            Some(ledger::ErrorKind::Failed) => map_start_error(ServiceError::Storage)(error),
            None => map_start_error(otherwise)(error),
        }
    }
}

/// Runs blocking work on another thread and resumes its panic here.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
