//! The errors that keep the service from starting or stop it, and the time limit of a resource.

use std::{io, time::Duration};

use tokio::task::spawn_blocking;

use crate::{error::Exit, ledger, lifecycle::StartError};

/// Name of the ledger resource: a failure to close it is a storage failure.
pub const LEDGER: &str = "ledger";
/// Time limit for opening or closing a resource. Local files that take longer are unavailable.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Reason why the service could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("{0}")]
    Config(String),
    #[error("{0}")]
    Storage(String),
    #[error("{0}")]
    Internal(String),
    /// Another process uses the state directory; a later start may succeed.
    #[error("{0}")]
    Busy(String),
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
            Self::Config(_) => Exit::Config,
            Self::Storage(_) => Exit::Storage,
            Self::Internal(_) => Exit::Internal,
            Self::RestartRequired(_) | Self::Busy(_) | Self::StartCut => Exit::WorkLeft,
            Self::Stopping => Exit::Drained,
        }
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

/// Maps as [`map_start_error`] does, but a full or read-only disk to a storage error.
pub(super) fn map_io_start_error(error: StartError) -> ServiceError {
    use io::ErrorKind::{ReadOnlyFilesystem, StorageFull};
    let cause = match &error {
        StartError::Failed { source, .. } => source.downcast_ref::<io::Error>(),
        _ => None,
    };
    match cause.map(io::Error::kind) {
        Some(ReadOnlyFilesystem | StorageFull) => map_start_error(ServiceError::Storage)(error),
        _ => map_start_error(ServiceError::Config)(error),
    }
}

/// Maps as [`map_start_error`] does, but a failed ledger to a storage error and a busy one to a restart.
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
            Some(ledger::ErrorKind::Full | ledger::ErrorKind::Failed) => {
                map_start_error(ServiceError::Storage)(error)
            }
            None => map_start_error(otherwise)(error),
        }
    }
}

/// Formats an error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Runs blocking work on another thread and resumes its panic here.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
