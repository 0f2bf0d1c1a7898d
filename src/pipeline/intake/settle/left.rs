//! Why a file was not taken: for `--once`, which names the files that it leaves.

use std::{fmt, path::Path, time::Duration};

use super::{Entry, Table, Waiting};
use crate::{identity::Identity, pipeline::job::Cause, policy::Settle};

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
                f.write_str("it changed just now, and the kernel cannot say who writes")
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

impl Table {
    /// The paths that wait, each with the reason; `now_ns` is the wall clock.
    pub fn left(&self, now_ns: i64) -> impl Iterator<Item = (&Path, Why)> {
        self.entries.iter().filter_map(move |(path, entry)| match entry {
            Entry::Waiting(waiting) => Some((path.as_path(), self.why(waiting, now_ns))),
            Entry::InWork { .. } => None,
        })
    }

    fn why(&self, waiting: &Waiting, now_ns: i64) -> Why {
        match waiting.cause {
            Some(Cause::Busy) => return Why::Open,
            Some(Cause::Changed) => return Why::Changed,
            Some(Cause::Replaced) => return Why::Replaced,
            Some(Cause::Unsure) => return Why::Unsure,
            Some(Cause::Failed) => return Why::Failed,
            Some(Cause::Place) => return Why::Place,
            None if waiting.last == Identity::NONE => return Why::Unseen,
            None => {}
        }
        let Identity { modified_ns, changed_ns, .. } = waiting.last;
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
