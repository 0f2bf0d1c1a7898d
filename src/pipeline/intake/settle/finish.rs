//! The evidence that a file is finished: its close or rename.

use std::time::Instant;

use crate::{fingerprint::Fingerprint, pipeline::job::Arrival};

/// The evidence that a producer has finished a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    Unknown,
    /// A writer closed it at this time.
    Closed(Instant),
    /// It was renamed to its name.
    Renamed,
}

impl Finish {
    pub fn after(self, arrival: Arrival, now: Instant) -> Self {
        match arrival {
            Arrival::Unknown => self,
            Arrival::Closed => Self::Closed(now),
            Arrival::Renamed => Self::Renamed,
        }
    }

    /// Returns the evidence that is left where the file was `known` before: none after a rename if its
    /// content may have changed, and none after a close if it grew. (A producer may set the times later.)
    pub fn unless_changed(self, known: &Fingerprint, found: &Fingerprint) -> Self {
        match self {
            _ if *known == Fingerprint::NONE => self,
            Self::Renamed if !found.is_copy_of(known) => Self::Unknown,
            Self::Closed(_) if found.size != known.size => Self::Unknown,
            finish => finish,
        }
    }

    pub const fn arrival(self) -> Arrival {
        match self {
            Self::Unknown => Arrival::Unknown,
            Self::Closed(_) => Arrival::Closed,
            Self::Renamed => Arrival::Renamed,
        }
    }

    pub const fn closed(self) -> Option<Instant> {
        match self {
            Self::Closed(at) => Some(at),
            Self::Unknown | Self::Renamed => None,
        }
    }
}

/// Combines two events in a row: the later one counts, unless it is unknown.
pub(super) fn latest(earlier: Option<Arrival>, arrival: Arrival) -> Arrival {
    match (earlier, arrival) {
        (Some(earlier), Arrival::Unknown) => earlier,
        _ => arrival,
    }
}
