//! The quiet time after a close. It grows with the delay of this producer's renames, also of those that
//! come when the file was already published.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::limits;

#[derive(Debug)]
pub(super) struct ClosedQuiet {
    time: Duration,
    /// The closes of paths that left the table, newer and older ones. When the newer ones have reached
    /// [`limits::RECENT_CLOSES_MAX`] they take the place of the older ones.
    closes: [HashMap<PathBuf, Instant>; 2],
}

impl ClosedQuiet {
    pub fn new() -> Self {
        Self { time: limits::CLOSED_QUIET_TIME, closes: [HashMap::new(), HashMap::new()] }
    }

    pub const fn time(&self) -> Duration {
        self.time
    }

    /// Keeps the time at which a path that leaves the table was closed.
    pub fn remember(&mut self, path: PathBuf, closed: Instant) {
        let [newer, older] = &mut self.closes;
        if newer.len() >= limits::RECENT_CLOSES_MAX {
            *older = std::mem::take(newer);
        }
        newer.insert(path, closed);
    }

    /// Returns the time at which a path that left the table was closed, if a longer quiet time would have
    /// helped: a later rename is not the end of its writing.
    pub fn recall(&mut self, path: &Path, now: Instant) -> Option<Instant> {
        let closed = self.closes.iter_mut().find_map(|closes| closes.remove(path))?;
        let is_recent = now.saturating_duration_since(closed) <= limits::CLOSED_QUIET_TIME_MAX;
        is_recent.then_some(closed)
    }

    /// Adapts the quiet time to a rename that came this long after the close.
    pub fn adapt(&mut self, delay: Duration) {
        self.time = self.time.max(2 * delay).min(limits::CLOSED_QUIET_TIME_MAX);
    }
}
