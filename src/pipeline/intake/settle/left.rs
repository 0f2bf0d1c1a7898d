//! Why a file was not taken: for `--once`, which names the files that it leaves.

use std::{fmt, path::Path, time::Duration};

use super::{Pending, SettleTable, Waiting};
use crate::{fingerprint::Fingerprint, pipeline::job::DeferReason, policy::Settle};

/// Why a file is still waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Open,
    Changed,
    Replaced,
    Unsure,
    Failed,
    Place,
    Unseen,
    Young(Duration),
    Quiet(Duration),
    Network,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("a program has it open for writing"),
            Self::Changed => f.write_str("it changed while it was read"),
            Self::Replaced => f.write_str("another file took its name while it was read"),
            Self::Unsure => {
                f.write_str("it changed just now, and the kernel cannot report writers")
            }
            Self::Failed => f.write_str("it failed, and is to be tried again"),
            Self::Place => f.write_str("its output, or its input, is unavailable"),
            Self::Unseen => f.write_str("it could not be looked at"),
            Self::Young(age) => write!(f, "it is younger than `min_age` ({age:?})"),
            Self::Quiet(quiet) => write!(f, "it changed within the last {quiet:?} (`settle`)"),
            Self::Network => f.write_str("it changed just now, and is on a network file system"),
        }
    }
}

impl SettleTable {
    /// The paths that wait, each with the reason; `now_ns` is the wall clock.
    pub fn left(&self, now_ns: i64) -> impl Iterator<Item = (&Path, Why)> {
        self.entries.iter().filter_map(move |(path, entry)| match entry {
            Pending::Waiting(waiting) => Some((path.as_path(), self.why(waiting, now_ns))),
            Pending::InWork { .. } => None,
        })
    }

    fn why(&self, waiting: &Waiting, now_ns: i64) -> Why {
        match waiting.cause {
            Some(DeferReason::Busy) => return Why::Open,
            Some(DeferReason::Changed) => return Why::Changed,
            Some(DeferReason::Replaced) => return Why::Replaced,
            Some(DeferReason::Unsure) => return Why::Unsure,
            Some(DeferReason::Failed) => return Why::Failed,
            Some(DeferReason::Place) => return Why::Place,
            None if waiting.last == Fingerprint::NONE => return Why::Unseen,
            None => {}
        }
        let Fingerprint { modified_ns, changed_ns, .. } = waiting.last;
        let age_ns = now_ns.saturating_sub(modified_ns.max(changed_ns));
        let min_age = self.rules.min_age;
        // One whose time lies in the future is as old as the time since it was seen first.
        if u64::try_from(age_ns).map_or(Duration::ZERO, Duration::from_nanos) < min_age {
            return Why::Young(min_age);
        }
        match self.rules.settle {
            Settle::Quiet(quiet) => Why::Quiet(quiet),
            Settle::Auto => Why::Network,
        }
    }
}
