//! The evidence of a file: its close or rename, and whether its inode number lasts.

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

/// The identities of a file that is deferred again and again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identities {
    /// The identity at the latest job.
    pub latest: Fingerprint,
    /// The number of jobs in a row before which the inode alone had changed.
    pub renumbered: u32,
}

impl Identities {
    pub const NONE: Self = Self { latest: Fingerprint::NONE, renumbered: 0 };

    /// Adds the identity at the next job.
    pub fn after(self, found: Fingerprint) -> Self {
        let is_renumbered = found.is_copy_of(&self.latest) && found.inode != self.latest.inode;
        let renumbered = if is_renumbered { self.renumbered + 1 } else { 0 };
        Self { latest: found, renumbered }
    }
}
