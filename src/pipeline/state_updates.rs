//! What became of records, written to the ledger lazily.

use crate::{
    failpoint,
    ledger::{self, ErrorKind, Flush, Ledger, RecordId, State},
};

/// A record's new state.
pub type StateUpdate = (RecordId, State, Option<String>);

/// Marks that could not be written because the ledger's disk was full, or another process wrote to it.
/// They wait for the next ones: a mark holds nothing that recovery could not derive from the intent.
#[derive(Debug, Default)]
pub struct StateUpdates {
    late: Vec<StateUpdate>,
}

impl StateUpdates {
    /// Writes these, and those that are late. A full disk and a busy ledger are no error: they are
    /// late then.
    pub fn write(
        &mut self,
        ledger: &dyn Ledger,
        marks: Vec<StateUpdate>,
    ) -> Result<(), ledger::Error> {
        self.late.extend(marks);
        let written = failpoint::hit("commit::mark")
            .map_err(ledger::Error::injected)
            .and_then(|()| ledger.mark(&self.late, Flush::Deferred));
        match written {
            Err(error) if error.kind != ErrorKind::Failed => {
                let late = self.late.len();
                tracing::warn!(event = "ledger.unavailable", late, error = %error.source, "cannot write to the ledger, state updates postponed");
                Ok(())
            }
            written => {
                self.late.clear();
                written
            }
        }
    }
}
