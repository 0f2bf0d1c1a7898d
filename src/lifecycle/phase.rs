//! Where a service is between its first and its last instant.

use std::fmt;

/// The phases, in their order; a service may skip some and never goes back (L5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The start-up hooks run; no work is taken.
    Starting,
    /// Work is taken.
    Ready,
    /// A stop was requested: no new work is taken.
    Closing,
    /// What was taken is being finished.
    Draining,
    /// Nothing more is begun; what is finished is made durable.
    Committing,
    /// Every clean-up was run or left.
    Stopped,
}

impl Phase {
    /// The phase as one word in capitals, for people and machines.
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
