//! The halt of all publishing after a storage failure.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{pipeline::failure::Failure, sync::Mutex};

/// Ends all publishing. It is set once; then the commit rejects every output and the service stops.
#[derive(Clone, Debug, Default)]
pub struct Halt {
    token: CancellationToken,
    /// The storage failure, as one line.
    reason: Arc<Mutex<Option<String>>>,
}

impl Halt {
    /// Sets the halt; the first reason stays.
    pub fn set(&self, failure: &Failure) {
        let mut reason = self.reason.lock();
        if reason.is_none() {
            let chain = failure.chain();
            tracing::error!(event = "storage.failed", reason = %chain, "storage failed, stopping");
            *reason = Some(chain);
            self.token.cancel();
        }
    }

    #[must_use]
    pub fn is_set(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until it is set.
    pub async fn wait(&self) {
        self.token.cancelled().await;
    }

    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.reason.lock().clone()
    }
}
