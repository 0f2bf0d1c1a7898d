//! The end of a held source, after which it is gone from the input or has its name again.

use crate::{
    ledger::Record,
    source::{Disposal, End, HeldSource, Result, SourceError, Unfinished},
};

/// Removes or archives a held source by its record, after its marker; on an error the source gets its
/// name back.
pub fn finish_source(
    held: Box<dyn HeldSource>,
    record: &Record,
    marker: Option<&str>,
    on_progress: &dyn Fn(),
) -> Result<()> {
    held.finish(&Disposal::of(record, marker, on_progress)).map_err(put_back)
}

/// Moves a held source to its slot in quarantine, after its marker.
pub fn quarantine_source(
    held: Box<dyn HeldSource>,
    slot: &std::path::Path,
    marker: Option<&str>,
    on_progress: &dyn Fn(),
) -> Result<(), Unfinished> {
    held.finish(&Disposal { end: End::Quarantined(slot), marker, on_progress })
}

/// Restores the name of a source whose disposal failed; returns the error of that, or of the disposal.
pub fn put_back((held, error): Unfinished) -> SourceError {
    held.put_back().err().map_or(error, |(_, second)| second)
}
