//! The stream of outcomes to the listeners. A slow listener delays nothing: it loses the oldest records
//! and receives their number.

use serde::Serialize;
use tokio::sync::broadcast;

use crate::{limits, reason::ReasonCode};

/// One outcome in the ledger.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutcomeRecord {
    /// Number of the record in the ledger.
    pub id: i64,
    pub pipeline: String,
    /// Relative to the input, escaped for people.
    pub path: String,
    pub state: &'static str,
    /// RFC 3339, UTC.
    pub at: String,
    /// Relative to the output.
    pub output: Option<String>,
    pub source_bytes: u64,
    pub output_bytes: Option<u64>,
    pub reason_code: Option<ReasonCode>,
    pub reason: Option<String>,
    /// Number of attempts; `None` if only the ledger is queried, which does not record it.
    pub attempts: Option<u32>,
    /// From the source's settling to this outcome; none where it comes from the ledger.
    pub seconds: Option<f64>,
}

/// Sends outcomes. Clones have the same listeners.
#[derive(Clone, Debug)]
pub struct OutcomeStream(broadcast::Sender<OutcomeRecord>);

impl Default for OutcomeStream {
    fn default() -> Self {
        Self(broadcast::Sender::new(limits::OUTCOME_STREAM_RECORDS_MAX))
    }
}

impl OutcomeStream {
    pub fn listen(&self) -> broadcast::Receiver<OutcomeRecord> {
        self.0.subscribe()
    }

    /// Returns the number of listeners.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.0.receiver_count()
    }

    /// Sends a record to the listeners. Without listeners the record is not made.
    pub fn send(&self, record: impl FnOnce() -> OutcomeRecord) {
        if self.0.receiver_count() > 0 {
            // The last listener may have left just now.
            self.0.send(record()).ok();
        }
    }
}
