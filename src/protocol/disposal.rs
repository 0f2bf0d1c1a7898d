//! The end of a held source, after which it is gone from the input or has its name again.

use crate::{
    ledger::Record,
    source::{Disposal, End, HeldSource, SourceError, Unfinished},
};

/// A disposal that failed.
#[derive(Debug)]
pub struct Undisposed {
    /// The cause, by which the failure is judged.
    pub error: SourceError,
    /// The reason why the source has its private name still; `None` if it has its own again.
    pub stranded: Option<SourceError>,
}

/// Removes or archives a held source by its record, after its marker; on an error the source gets its
/// name back.
pub fn finish_source(
    held: Box<dyn HeldSource>,
    record: &Record,
    marker: Option<&str>,
    on_progress: &dyn Fn(),
) -> Result<(), Undisposed> {
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

/// Restores the name of a source whose disposal failed.
pub fn put_back((held, error): Unfinished) -> Undisposed {
    let stranded = held.put_back().err().map(|(_, error)| error);
    Undisposed { error, stranded }
}
