//! What one look at a path finds.

use std::time::Duration;

use crate::fs::FileMetadata;

/// One look at a path.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    pub seen: FileMetadata,
    /// Since its last change, by the wall clock; zero where that lies in the future.
    pub age: Duration,
    pub origin: DiscoveredBy,
    pub arrival: Arrival,
}

/// What the kernel said of a file that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Nothing that tells whether its producer is done with it.
    Unknown,
    /// A writer closed it, in its place.
    Closed,
    /// It was renamed to its name.
    Renamed,
}

/// What a file was found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscoveredBy {
    /// An event, or its own turn to be looked at again.
    Hint,
    /// The scan at the start, of a new directory, or after an overflow.
    Scan,
    /// The scan from time to time: no event told of it.
    Rescan,
}
