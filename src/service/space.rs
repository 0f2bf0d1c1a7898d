//! The wait for space in the state directory, at the start.

use std::time::Instant;

use tidemill_lifecycle::Lifecycle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::error::ServiceError;
use crate::{config::Config, limits};

/// Decides whether a step of the start is repeated: until the stop while the disk is full, and with
/// `--once` for at most [`limits::ONCE_STORAGE_TIMEOUT`].
#[derive(Debug)]
pub struct SpaceWait {
    stop: CancellationToken,
    once: bool,
    started_at: Instant,
}

impl SpaceWait {
    pub fn new(life: &Lifecycle, config: &Config) -> Self {
        let stop = life.handle().closing();
        Self { stop, once: config.once, started_at: Instant::now() }
    }

    /// Waits after a step for which there was no space, and returns whether to repeat it.
    pub async fn repeats<T>(&self, result: &Result<T, ServiceError>) -> bool {
        let Err(ServiceError::NoSpace(error)) = result else { return false };
        tracing::warn!(
            event = "service.no_space",
            error,
            "no space in the state directory, start waiting"
        );
        let is_timed_out = self.once && self.started_at.elapsed() > limits::ONCE_STORAGE_TIMEOUT;
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = sleep(limits::BACKOFF) => !is_timed_out,
        }
    }
}
