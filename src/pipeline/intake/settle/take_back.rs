//! A ready file for which the order has no room.

use std::time::Instant;

use super::{Pending, SettleTable, Waiting, pending::InFlight};
use crate::{limits, pipeline::job::SettledFile};

impl SettleTable {
    /// Takes back a ready file that was not sent. A later scan finds it again; one with an earlier job, whose
    /// attempts must not be forgotten, waits here for another look.
    pub fn take_back(&mut self, settled: SettledFile, now: Instant) {
        let SettledFile { path, attempt, was_attempted, was_replaced, .. } = settled;
        let Some(&Pending::InFlight(file)) = self.entries.get(&path) else { return };
        let InFlight { waits, finish, finished, identity, unchanged_since, .. } = file;
        self.entries.remove(&path);
        self.in_flight = self.in_flight.saturating_sub(1);
        if attempt == 1 && !was_attempted && !was_replaced && waits == 0 {
            return;
        }
        let waiting = Waiting {
            unchanged_since,
            until: now + limits::LARGE_FILES_WAIT,
            attempt,
            was_replaced,
            finish,
            finished,
            waits,
            was_attempted,
            ..Waiting::new(identity, now)
        };
        self.wait(path, waiting);
    }
}
