//! `--once`: the end of the intake.

use std::time::Instant;

use super::{Intake, ready::ReadyFiles, settle::SettleTable};
use crate::{limits, observe::display_path, pipeline::context::Context, protocol::outcome::now_ns};

/// Logs the unfinished files, each with the reason: those that wait in the table, and the ready ones
/// that unavailable storage or the operator's pause kept from being sent.
pub(super) fn log_unfinished(context: &Context, table: &SettleTable, ready: &ReadyFiles) {
    let pause = context.meter.status().paused;
    let pause = pause.unwrap_or_else(|| "paused by the operator".to_owned());
    let waiting = table.unfinished(now_ns()).map(|(path, reason)| (path, reason.to_string()));
    let ready = ready.paths().map(|path| (path, pause.clone()));
    let mut unfinished: Vec<_> = waiting.chain(ready).collect();
    unfinished.sort_unstable();
    let name = context.name();
    for (path, reason) in unfinished.iter().take(limits::UNFINISHED_LOGGED_MAX) {
        let source = context.config.input.join(path);
        tracing::warn!(event = "file.left", pipeline = %name, source = %display_path(&source), reason, "not processed, deferred to the next run");
    }
    let more = unfinished.len().saturating_sub(limits::UNFINISHED_LOGGED_MAX);
    if more > 0 {
        tracing::warn!(event = "file.left_more", pipeline = %name, files = more, "more unfinished files");
    }
}

impl Intake {
    /// Checks in `--once` whether all files of the input are finished, or the intake gives up on the
    /// remaining ones.
    pub(super) fn is_finished(&mut self) -> bool {
        if !self.once {
            return false;
        }
        let now = Instant::now();
        let unavailable_for = self.context.breaker.open_for(now);
        let storage_timed_out =
            unavailable_for.is_some_and(|duration| duration > limits::ONCE_STORAGE_TIMEOUT);
        // Ready files count as in flight, and wait here while storage is unavailable. A published file
        // that waits for space in the events file is in flight, too.
        if self.table.in_flight() > self.ready.len() && !storage_timed_out {
            return false;
        }
        let has_root = self.root.dir().is_some();
        let is_scanned = self.scans.is_complete() && self.ready.is_empty();
        let none_waits = self.table.waiting() == 0 && self.table.look_again_at().is_none();
        if has_root && is_scanned && none_waits {
            return true;
        }
        let still_busy = is_scanned
            && self.table.attempted() == 0
            && now.saturating_duration_since(self.started) >= limits::ONCE_BUSY_TIMEOUT;
        let input_timed_out = self.root.unavailable_for(now) > limits::ONCE_STORAGE_TIMEOUT;
        self.summary.gave_up = storage_timed_out || input_timed_out || still_busy;
        self.summary.gave_up
    }
}
