//! New states of records, written to the ledger lazily.

use crate::{
    failpoint,
    ledger::{self, ErrorKind, Flush, Ledger, StateUpdate},
    pipeline::context::Context,
};

/// State updates that could not be written because the ledger's disk was full, or another process wrote
/// to it. They wait for the next write, or for [`Self::retry`]; recovery can derive each of them from its intent,
/// but not once a consumer took an output that no events file has a line of.
#[derive(Debug, Default)]
pub struct StateUpdates {
    postponed: Vec<StateUpdate>,
}

impl StateUpdates {
    /// Writes these updates and the postponed ones. A full disk and a busy ledger are no error: they
    /// postpone all of them.
    pub fn write(
        &mut self,
        ledger: &dyn Ledger,
        updates: Vec<StateUpdate>,
    ) -> Result<(), ledger::Error> {
        self.postponed.extend(updates);
        self.retry(ledger)
    }

    /// Ends the updates. Those that are postponed still are left to recovery.
    pub fn end(self, context: &Context) {
        if self.are_postponed() {
            context.set_unfinished();
        }
    }

    pub const fn are_postponed(&self) -> bool {
        !self.postponed.is_empty()
    }

    /// Writes the postponed updates, if any, as [`Self::write`] does.
    pub fn retry(&mut self, ledger: &dyn Ledger) -> Result<(), ledger::Error> {
        if self.postponed.is_empty() {
            return Ok(());
        }
        let result = failpoint::hit("commit::mark")
            .map_err(ledger::Error::injected)
            .and_then(|()| ledger.set_states(&self.postponed, Flush::Deferred));
        match result {
            Err(error) if error.kind != ErrorKind::Failed => {
                let postponed = self.postponed.len();
                tracing::warn!(event = "ledger.unavailable", postponed, error = %error.source, "cannot write to the ledger, state updates postponed");
                Ok(())
            }
            result => {
                self.postponed.clear();
                result
            }
        }
    }
}
