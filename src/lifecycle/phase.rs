//! The phases of a service from start to stop.

use std::fmt;

/// Phase of a service. They are in their order; a service may skip some and never goes back (L5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Resources are being opened; no work is accepted.
    Starting,
    /// Work is accepted.
    Ready,
    /// A stop was requested: no new work is accepted.
    Closing,
    /// Accepted work is being finished.
    Draining,
    /// The second signal came, or the deadline less the reserve: unfinished work is dropped, finished
    /// work is made durable.
    Committing,
    /// Every resource was closed or abandoned.
    Stopped,
}

impl Phase {
    /// Returns the phase as one word in capitals, for people and programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "STARTING",
            Self::Ready => "READY",
            Self::Closing => "CLOSING",
            Self::Draining => "DRAINING",
            Self::Committing => "COMMITTING",
            Self::Stopped => "STOPPED",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
