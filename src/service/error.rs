//! Why the service could not start or had to stop, and how long a resource may take to open or close.

use std::{io, time::Duration};

use tokio::task::spawn_blocking;

use crate::{error::Exit, ledger, lifecycle::StartError};

/// The resource whose failed end is failed storage.
pub const LEDGER: &str = "ledger";
/// A hook that only touches local files answers within this, or the place is not well.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Why the service could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("{0}")]
    Config(String),
    #[error("{0}")]
    Storage(String),
    #[error("{0}")]
    Internal(String),
    /// Another process has the state directory, and will give it back.
    #[error("{0}")]
    Busy(String),
    /// Only the next start can go on.
    #[error("{0}")]
    RestartRequired(String),
    /// A signal came before it was ready.
    #[error("stopped while it started")]
    Stopping,
    /// The second signal came while a hook ran, which may have begun work.
    #[error("stopped in the middle of the start: the next start goes on")]
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

/// What a failed hook means for the exit code.
pub(super) fn map_start_error(
    of: fn(String) -> ServiceError,
) -> impl Fn(StartError) -> ServiceError {
    move |error| match error {
        StartError::Stopping { .. } => ServiceError::Stopping,
        error @ StartError::TimedOut { .. } => ServiceError::Storage(chain(&error)),
        error @ StartError::Panicked { .. } => ServiceError::Internal(chain(&error)),
        error @ StartError::Failed { .. } => of(chain(&error)),
    }
}

/// As [`map_start_error`], where the cause decides: a disk that is full, read-only or failing is storage's.
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

/// As [`map_start_error`], where a failure of the ledger is storage's, and its being busy is for a later start.
pub(super) fn sort_ledger(
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

/// Runs blocking work; a panic in it goes on here.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(made) => made,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
