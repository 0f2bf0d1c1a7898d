//! The ledger's records for those who look and mend: the command line and the HTTP API.

pub mod explain;
mod left_alone;
pub mod outcomes;
pub mod quarantined;
pub mod reprocess;

use jiff::Timestamp;

use crate::ledger::Record;

/// When it was made: RFC 3339, UTC.
#[must_use]
pub fn time(record: &Record) -> String {
    let time = Timestamp::from_nanosecond(record.at_ns.into());
    time.map_or_else(|_| record.at_ns.to_string(), |time| format!("{time:.3}"))
}
