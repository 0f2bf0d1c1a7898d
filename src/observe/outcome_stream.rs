//! The stream of outcomes to the listeners. A slow listener delays nothing: it loses the oldest records
//! and receives their number.

use tokio::sync::broadcast;

use crate::{limits, outcome::Outcome};

/// Sends outcomes. Clones have the same listeners.
#[derive(Clone, Debug)]
pub struct OutcomeStream(broadcast::Sender<Outcome>);

impl Default for OutcomeStream {
    fn default() -> Self {
        Self(broadcast::Sender::new(limits::OUTCOME_STREAM_RECORDS_MAX))
    }
}

impl OutcomeStream {
    pub fn listen(&self) -> broadcast::Receiver<Outcome> {
        self.0.subscribe()
    }

    /// Returns the number of listeners.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.0.receiver_count()
    }

    /// Sends a record to the listeners. Without listeners the record is not made.
    pub fn send(&self, record: impl FnOnce() -> Outcome) {
        if self.0.receiver_count() > 0 {
            // The last listener may have left just now.
            self.0.send(record()).ok();
        }
    }
}
