//! Outcomes as they happen, for who listens. Nobody is waited for: who lags loses the oldest, and
//! is told how many.

use serde::Serialize;
use tokio::sync::broadcast;

use crate::limits;

/// One outcome that the ledger has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutcomeRecord {
    /// The ledger's number of the record.
    pub id: i64,
    pub pipeline: String,
    /// Below the input, for people to read.
    pub path: String,
    pub state: &'static str,
    /// RFC 3339, UTC.
    pub at: String,
    /// Below the output.
    pub output: Option<String>,
    pub source_bytes: u64,
    pub output_bytes: Option<u64>,
    pub reason: Option<String>,
    /// Tries it took; none where only the ledger is left to ask.
    pub attempts: Option<u32>,
    /// From the source's settling to this outcome; none where it comes from the ledger.
    pub seconds: Option<f64>,
}

/// Clones speak to the same listeners.
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

    /// How many listen.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.0.receiver_count()
    }

    /// Tells those who listen, if any: without them the notice is not even made.
    pub fn send(&self, notice: impl FnOnce() -> OutcomeRecord) {
        if self.0.receiver_count() > 0 {
            // The last listener may have left just now.
            self.0.send(notice()).ok();
        }
    }
}
