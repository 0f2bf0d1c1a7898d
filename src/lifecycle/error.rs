//! The failure of a resource or a task, in one form for errors and panics.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

/// Error of a resource or a task. `&str`, `String`, `anyhow::Error` and every error type that is
/// `Send + Sync` convert into it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
pub(super) enum TaskError {
    Failed(BoxError),
    Panicked(String),
}

/// Runs `future` and turns a panic into a value. Everything it owned is dropped before this returns.
pub(super) async fn catch_panic<T, E: Into<BoxError>>(
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, TaskError> {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(result) => result.map_err(|error| TaskError::Failed(error.into())),
        Err(payload) => Err(TaskError::Panicked(message(payload))),
    }
}

fn message(payload: Box<dyn Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast_ref::<&str>().map_or("?", |text| text).to_owned(),
    }
}

impl fmt::Display for TaskError {
    /// Writes the chain of causes on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => {
                write!(f, "{error}")?;
                let mut cause = error.source();
                while let Some(error) = cause {
                    write!(f, ": {error}")?;
                    cause = error.source();
                }
                Ok(())
            }
            Self::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}
