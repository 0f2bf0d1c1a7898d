//! What recovery quarantines is reported as every quarantine is.

use std::io;

use crate::{
    ledger::Record,
    pipeline::{context::SharedEvents, outcome},
};

/// Where it is reported to.
#[expect(missing_debug_implementations, reason = "it holds a closure")]
pub struct Quarantines<'a> {
    pub events: &'a SharedEvents,
    /// The instance of the ledger that has the records.
    pub ledger: &'a str,
    /// Counts one, for the pipeline of this name.
    pub count: &'a (dyn Fn(&str, &Record) + 'a),
}

impl Quarantines<'_> {
    /// To the events file, to who listens, and to the metrics.
    pub fn report(&self, pipeline: &str, record: &Record) -> io::Result<()> {
        (self.count)(pipeline, record);
        outcome::report_recovered(self.events, (self.ledger, pipeline), record)
    }
}
