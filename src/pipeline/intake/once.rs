//! `--once`: the end of the intake.

use std::{
    borrow::Cow,
    collections::HashSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    Intake,
    ready::ReadyFiles,
    settle::{SettleTable, WaitReason},
};
use crate::{
    limits,
    observe::{self, PauseReason, display_path},
    pipeline::{
        context::Context,
        job::{Feedback, JobEnd},
    },
    protocol::outcome::now_ns,
    source::SourceError,
};

/// The reason of a file that was ready, or sent, when a signal came.
const STOPPED: &str = "the service stopped before it was begun";

/// Logs the files that were not sent, each with the reason: those that wait in the table, and the ready
/// ones that unavailable storage, the operator's pause or the stop kept from being sent.
pub(super) fn log_unsent(context: &Context, table: &SettleTable, ready: &ReadyFiles) {
    let status = context.meter.status();
    let storage = status.pause(PauseReason::Storage).and_then(|pause| pause.detail.clone());
    let kept_back = match &storage {
        Some(detail) => detail,
        None if context.operator_pause.is_paused() => "paused by the operator",
        None => STOPPED,
    };
    let waiting = table.unfinished(now_ns());
    let waiting = waiting.map(|(path, reason)| (path, Cow::from(reason.to_string())));
    let ready = ready.paths().map(|path| (path, Cow::from(kept_back)));
    let mut deferred: Vec<_> = waiting.chain(ready).collect();
    deferred.sort_unstable();
    log_deferred(context, deferred.iter().map(|(path, reason)| (*path, &**reason)));
}

/// Logs the files that were sent and not finished.
pub(super) fn log_unfinished(context: &Context, feedback: &[Feedback]) {
    let reason = |outcome: &JobEnd| match outcome {
        JobEnd::Deferred { cause, .. } => WaitReason::from(*cause).to_string(),
        JobEnd::Returned => STOPPED.to_owned(),
        _ => "the service stopped while it was processed".to_owned(),
    };
    let deferred: Vec<(&PathBuf, String)> =
        feedback.iter().map(|file| (&file.path, reason(&file.outcome))).collect();
    log_deferred(context, deferred.iter().map(|(path, reason)| (path.as_path(), reason.as_str())));
}

/// Logs each of these files. It waits for a slow reader of the log, so that no line is dropped; a
/// stalled reader does not delay it for longer than [`limits::LOG_ROOM_TIMEOUT`].
fn log_deferred<'a>(context: &Context, files: impl Iterator<Item = (&'a Path, &'a str)>) {
    let mut is_stalled = false;
    for (number, (path, reason)) in files.enumerate() {
        if number % limits::DEFERRED_LOGGED_AT_ONCE == 0 && !is_stalled {
            is_stalled = !observe::wait_for_logs(limits::LOG_ROOM_TIMEOUT);
        }
        let source = context.config.input.join(path);
        tracing::warn!(event = "file.deferred", pipeline = %context.name(), source = %display_path(&source), reason, "not processed, deferred to the next run");
    }
}

/// Checks whether nothing is left to do for a file.
pub(super) const fn is_final(outcome: &JobEnd) -> bool {
    matches!(outcome, JobEnd::Published | JobEnd::Skipped | JobEnd::Gone | JobEnd::Quarantined)
}

/// Logs that there may be more files than those that were logged.
pub(super) fn log_not_scanned(context: &Context) {
    tracing::warn!(event = "pipeline.not_scanned", pipeline = %context.name(), "input not scanned to its end, files may be deferred");
}

/// What leads `--once` to another scan: files that lost their name may have another one, which the scan had
/// passed.
#[derive(Debug, Default)]
pub(super) struct LostNames {
    /// Names that were listed and never found: each counts once, because a listing may be old.
    never_found: HashSet<PathBuf>,
    is_noted: bool,
    /// Directories that could not be listed, each counted once.
    unlisted: HashSet<PathBuf>,
    /// The number of lost names when the last scan was requested.
    seen: u64,
    scans: u32,
}

impl LostNames {
    fn note_never_found(&mut self, path: &Path) {
        if !self.never_found.contains(path) {
            self.is_noted = true;
            if self.never_found.len() < limits::GONE_NAMES_MAX {
                self.never_found.insert(path.to_path_buf());
            }
        }
    }

    /// Checks whether a name was lost since the last scan was requested.
    pub(super) fn has_some(&self, context: &Context, table: &SettleTable) -> bool {
        self.is_noted || self.seen != context.lost_names() + table.lost()
    }
}

impl Intake {
    /// Notes a listed name that is gone, if a file of it could belong to the pipeline. The table counts one
    /// that was found before.
    pub(super) fn note_gone(&mut self, path: &Path) {
        if self.once && self.discovery.allows(path) {
            self.lost_names.note_never_found(path);
        }
    }

    /// Counts what could not be listed: a watching service scans again, `--once` must report it.
    pub(super) fn note_unlisted(&mut self, failed: Vec<SourceError>) {
        for SourceError { path, .. } in failed.into_iter().filter(|_| self.once) {
            let unlisted = &mut self.lost_names.unlisted;
            if unlisted.len() < limits::GONE_NAMES_MAX && unlisted.insert(path) {
                self.summary.unfinished += 1;
            }
        }
    }

    /// Notes directories that were listed and gone when they were to be entered.
    pub(super) fn note_gone_directories(&mut self, directories: &[PathBuf]) {
        for path in directories.iter().filter(|path| self.once && self.discovery.enters(path)) {
            self.lost_names.note_never_found(path);
        }
    }

    /// Checks that no name was lost since the scan began, and requests another scan if one was. It gives up
    /// on an input whose names keep changing.
    fn has_lost_no_name(&mut self, now: Instant) -> bool {
        if !self.lost_names.has_some(&self.context, &self.table) {
            return true;
        }
        if self.lost_names.scans == limits::ONCE_RESCANS_MAX {
            self.summary.gave_up = true;
            return true;
        }
        self.lost_names.scans += 1;
        self.lost_names.is_noted = false;
        self.lost_names.seen = self.context.lost_names() + self.table.lost();
        self.scans.request_again(now);
        // A file that was renamed must be quiet again.
        self.started = now;
        false
    }

    /// Returns the time for which `--once` waits for files that may have writers.
    pub(super) fn once_timeout(&self) -> Duration {
        let unseen = self.context.are_writers_denied().then_some(limits::UNSEEN_QUIET_TIME);
        limits::ONCE_BUSY_TIMEOUT + unseen.unwrap_or_default()
    }

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
        let has_root = self.root.input().is_some();
        let is_scanned =
            self.scans.is_complete() && self.ready.is_empty() && !self.ready.has_rest();
        let none_waits = self.table.waiting() == 0 && self.table.look_again_at().is_none();
        if has_root && is_scanned && none_waits {
            return self.has_lost_no_name(now);
        }
        let still_busy = is_scanned
            && self.table.attempted() == 0
            && now.saturating_duration_since(self.started) >= self.once_timeout();
        let input_timed_out = self.root.unavailable_for(now) > limits::ONCE_STORAGE_TIMEOUT;
        self.summary.gave_up = storage_timed_out || input_timed_out || still_busy;
        self.summary.gave_up
    }
}
