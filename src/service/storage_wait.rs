//! The wait of the start for storage: for space, or for the end of another program's transaction.

use std::time::Instant;

use tidemill_lifecycle::Lifecycle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::error::ServiceError;
use crate::{config::Config, limits};

/// Decides whether a step of the start is repeated: until the stop while the disk is full or the
/// ledger is busy, and with `--once` for at most [`limits::ONCE_STORAGE_TIMEOUT`].
#[derive(Debug)]
pub struct StorageWait {
    stop: CancellationToken,
    once: bool,
    started_at: Instant,
}

impl StorageWait {
    pub fn new(life: &Lifecycle, config: &Config) -> Self {
        let stop = life.handle().closing();
        Self { stop, once: config.once, started_at: Instant::now() }
    }

    /// Waits after a step that storage could not do for now, and returns whether to repeat it.
    pub async fn repeats<T>(&self, result: &Result<T, ServiceError>) -> bool {
        let Err(error) = result else { return false };
        if !error.is_temporary() {
            return false;
        }
        log_wait(error);
        let is_timed_out = self.once && self.started_at.elapsed() > limits::ONCE_STORAGE_TIMEOUT;
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = sleep(limits::BACKOFF) => !is_timed_out,
        }
    }
}

/// Logs what the start waits for.
pub fn log_wait(error: &ServiceError) {
    if let ServiceError::LedgerBusy(error) = error {
        tracing::warn!(
            event = "service.ledger_busy",
            error,
            "another program writes to the ledger, start waiting"
        );
    } else {
        tracing::warn!(
            event = "service.no_space",
            %error,
            "no space in the state directory, start waiting"
        );
    }
}
