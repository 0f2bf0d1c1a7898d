//! Reports files that recovery quarantines like any other quarantined file.

use std::io;

use crate::{
    ledger::Record,
    protocol::{SharedOutcomeLog, outcome},
};

/// The receivers of the reports.
#[expect(missing_debug_implementations, reason = "it holds a closure")]
pub struct Quarantines<'a> {
    pub events: &'a SharedOutcomeLog,
    /// The instance of the ledger that holds the records.
    pub ledger: &'a str,
    /// Counts one quarantined file for the pipeline of this name.
    pub count: &'a (dyn Fn(&str, &Record) + 'a),
}

impl Quarantines<'_> {
    /// Reports to the events file, its listeners and the metrics.
    pub fn report(&self, pipeline: &str, record: &Record) -> io::Result<()> {
        (self.count)(pipeline, record);
        outcome::report_recovered(self.events, (self.ledger, pipeline), record)
    }
}
