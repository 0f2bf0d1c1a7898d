//! `--once`: when the intake has nothing more to do.

use std::time::Instant;

use super::{Intake, ready::Ready, settle::SettleTable};
use crate::{
    limits,
    observe::display_path,
    pipeline::{context::Context, outcome::now_ns},
};

/// Names the files that are left, each with the reason: what waits in the table, and what only its
/// place, or the operator, kept from being taken.
pub(super) fn name_left(context: &Context, table: &SettleTable, ready: &Ready) {
    let place = context.meter.status().paused;
    let place = place.unwrap_or_else(|| "paused by the operator".to_owned());
    let waiting = table.left(now_ns()).map(|(path, why)| (path, why.to_string()));
    let ready = ready.paths().map(|path| (path, place.clone()));
    let mut left: Vec<_> = waiting.chain(ready).collect();
    left.sort_unstable();
    let name = context.name();
    for (path, reason) in left.iter().take(limits::UNFINISHED_LOGGED_MAX) {
        let source = context.config.input.join(path);
        tracing::warn!(event = "file.left", pipeline = %name, source = %display_path(&source), reason, "not processed, left for the next run");
    }
    let more = left.len().saturating_sub(limits::UNFINISHED_LOGGED_MAX);
    if more > 0 {
        tracing::warn!(event = "file.left_more", pipeline = %name, files = more, "more files left");
    }
}

impl Intake {
    /// In `--once`: whether everything that was there is finished, or nothing more will be.
    pub(super) fn is_finished(&mut self) -> bool {
        if !self.once {
            return false;
        }
        let now = Instant::now();
        let sick = self
            .context
            .place
            .open_for(now)
            .is_some_and(|sick| sick > limits::ONCE_STORAGE_PATIENCE);
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
            && now.saturating_duration_since(self.started) >= limits::ONCE_BUSY_PATIENCE;
        let away = self.root.away_for(now) > limits::ONCE_STORAGE_PATIENCE;
        self.ended.gave_up = sick || away || unfinished;
        self.ended.gave_up
    }
}
