//! The observation of a path by the intake.

use std::time::Duration;

use crate::fs::FileMetadata;

/// The state of a file at one look.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    pub metadata: FileMetadata,
    /// The time since its last change, by the wall clock; zero if the change lies in the future.
    pub age: Duration,
    pub origin: DiscoveredBy,
    pub arrival: Arrival,
}

/// The kernel's latest event of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// No event that shows whether its producer has finished it.
    Unknown,
    /// A writer closed it under its final name.
    Closed,
    /// It was renamed to its name.
    Renamed,
}

/// The source of an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscoveredBy {
    /// An event, or a scheduled recheck.
    Event,
    /// The scan at the start, of a new directory, or after an overflow.
    Scan,
    /// A periodic scan: no event named the file.
    Rescan,
    /// A scan for the files that an earlier one had no room for, because of the `order`.
    Rest,
    /// Another scan of `--once`, which finds the files of the first one, too.
    Again,
}
