//! `--once`: when the intake has nothing more to do.

use std::time::Instant;

use super::Intake;
use crate::limits;

impl Intake {
    /// In `--once`: whether everything that was there is finished, or nothing more will be.
    pub(super) fn is_finished(&mut self) -> bool {
        if !self.once {
            return false;
        }
        let now = Instant::now();
        let sick = self.context.place.sick_for(now).is_some_and(|sick| sick > limits::ONCE_SICK);
        // What is ready counts as in work, and waits here while the place is sick. So does what has its
        // name and waits for space in the events file.
        if self.table.in_work() > self.ready.len() && !sick {
            return false;
        }
        let is_there = self.root.dir().is_some();
        let looked = self.scans.is_through() && self.ready.is_empty();
        let none_waits = self.table.waiting() == 0 && self.table.look_again_at().is_none();
        if is_there && looked && none_waits {
            return true;
        }
        let unfinished = looked
            && self.table.owed() == 0
            && now.saturating_duration_since(self.started) >= limits::ONCE_BUSY;
        self.ended.gave_up = sick || unfinished;
        self.ended.gave_up
    }
}
