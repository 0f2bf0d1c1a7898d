//! The reason why a file still waits: for `--once`, which logs its unfinished files.

use std::{fmt, path::Path, time::Duration};

use super::{Pending, SettleTable, Waiting};
use crate::{fingerprint::Fingerprint, pipeline::job::DeferReason, policy::Settle};

/// The reason why a file still waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    Open,
    Changed,
    Replaced,
    Unsure,
    Unseen,
    Failed,
    Storage,
    Unacknowledged,
    StatFailed,
    /// Younger than this `min_age`.
    Young(Duration),
    /// Changed within this `settle` time.
    Quiet(Duration),
    Network,
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("another program has it open for writing"),
            Self::Changed => f.write_str("it changed while it was read"),
            Self::Replaced => f.write_str("another file took its name while it was read"),
            Self::Unsure => f.write_str("it changed just now and the kernel cannot report writers"),
            Self::Unseen => f.write_str("it changed lately, its close was not seen, and only CAP_LEASE permits a look for writers of other users' files"),
            Self::Failed => f.write_str("it failed and waits for a retry"),
            Self::Storage => f.write_str("its output or its input is unavailable"),
            Self::Unacknowledged => {
                f.write_str("the output of the file before it is not acknowledged")
            }
            Self::StatFailed => f.write_str("cannot stat it"),
            Self::Young(age) => write!(f, "it is younger than `min_age` ({age:?})"),
            Self::Quiet(quiet) => write!(f, "it changed within the last {quiet:?} (`settle`)"),
            Self::Network => f.write_str("it changed just now and is on a network file system"),
        }
    }
}

impl From<DeferReason> for WaitReason {
    fn from(cause: DeferReason) -> Self {
        match cause {
            DeferReason::Busy => Self::Open,
            DeferReason::Changed => Self::Changed,
            DeferReason::Replaced => Self::Replaced,
            DeferReason::Unsure => Self::Unsure,
            DeferReason::Unseen => Self::Unseen,
            DeferReason::Failed => Self::Failed,
            DeferReason::Storage => Self::Storage,
            DeferReason::Unacknowledged => Self::Unacknowledged,
        }
    }
}

impl SettleTable {
    /// Returns the waiting paths, each with the reason; `now_ns` is the wall clock.
    pub fn unfinished(&self, now_ns: i64) -> impl Iterator<Item = (&Path, WaitReason)> {
        self.entries.iter().filter_map(move |(path, entry)| match entry {
            Pending::Waiting(waiting) => Some((path.as_path(), self.wait_reason(waiting, now_ns))),
            Pending::InFlight { .. } => None,
        })
    }

    fn wait_reason(&self, waiting: &Waiting, now_ns: i64) -> WaitReason {
        match waiting.cause {
            Some(cause) => return cause.into(),
            None if waiting.identity == Fingerprint::NONE => return WaitReason::StatFailed,
            None => {}
        }
        let Fingerprint { mtime_ns, ctime_ns, .. } = waiting.identity;
        let age = u64::try_from(now_ns.saturating_sub(mtime_ns.max(ctime_ns)));
        let min_age = self.rules.min_age;
        // The age of a file with a time in the future is the time since its first observation.
        if age.map_or(Duration::ZERO, Duration::from_nanos) < min_age {
            return WaitReason::Young(min_age);
        }
        match self.rules.settle {
            Settle::Quiet(quiet) => WaitReason::Quiet(quiet),
            Settle::Auto => WaitReason::Network,
        }
    }
}
