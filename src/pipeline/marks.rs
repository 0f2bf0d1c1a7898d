//! What became of records, told to the ledger lazily.

use crate::{
    failpoint,
    ledger::{self, ErrorKind, Id, Ledger, State, When},
};

/// A record's new state.
pub type Mark = (Id, State, Option<String>);

/// Marks that could not be written because the ledger's disk was full. They wait for the next ones:
/// a mark tells nothing that recovery could not derive from the intent.
#[derive(Debug, Default)]
pub struct Marks {
    late: Vec<Mark>,
}

impl Marks {
    /// Writes these, and those that are late. A full disk is no error: they are late then.
    pub fn write(&mut self, ledger: &dyn Ledger, marks: Vec<Mark>) -> Result<(), ledger::Error> {
        self.late.extend(marks);
        let written = failpoint::hit("commit::mark")
            .map_err(ledger::Error::injected)
            .and_then(|()| ledger.mark(&self.late, When::Later));
        match written {
            Err(error) if error.kind == ErrorKind::Full => {
                tracing::warn!(
                    late = self.late.len(),
                    "the ledger's disk is full: what is done is marked later"
                );
                Ok(())
            }
            written => {
                self.late.clear();
                written
            }
        }
    }
}
