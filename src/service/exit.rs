//! What the end of the service tells, and the exit code it comes to.

use std::time::Instant;

use super::{
    ended::Ended,
    error::{LEDGER, ServiceError},
};
use crate::{
    config::Config,
    error::Exit,
    fs,
    lifecycle::{self, CleanUp, Report},
    limits,
    observe::{self, Observer, OnceOutcome},
    pipeline::DrainSummary,
};

/// The drain, as told every few seconds.
#[derive(Debug)]
pub struct Progress {
    pub is_cut: bool,
    began: Instant,
    /// Files and bytes finished when it was told last.
    finished: (u64, u64),
}

impl Progress {
    pub fn new(observer: &Observer) -> Self {
        let totals = observer.status().totals();
        Self { is_cut: false, began: Instant::now(), finished: (totals.ended, totals.source_bytes) }
    }
}

/// Says who is left. Whether anything moved since it was said last.
pub fn log_progress(progress: &mut Progress, observer: &Observer) -> bool {
    let status = observer.status();
    let totals = status.totals();
    let finished = (totals.ended, totals.source_bytes);
    let moved = finished != progress.finished;
    progress.finished = finished;
    let waiting: Vec<String> = status
        .channels
        .iter()
        .filter(|channel| channel.queued > 0)
        .map(|channel| format!("{} before {}", channel.queued, channel.name))
        .collect();
    let oldest = status.pipelines.iter().map(|pipeline| pipeline.oldest_in_work_seconds);
    let oldest = oldest.fold(0.0, f64::max);
    tracing::info!(
        event = "service.draining",
        files = totals.in_work,
        bytes = totals.in_work_bytes,
        oldest_seconds = oldest,
        waiting = waiting.join(", "),
        moved,
        seconds = progress.began.elapsed().as_secs(),
        "draining"
    );
    moved
}

/// The drain is cut short: names the oldest of those that are left for the next start, and counts
/// the rest.
pub fn log_unfinished(config: &Config, observer: &Observer) {
    for (index, pipeline) in config.pipelines.iter().enumerate() {
        let Some(meter) = observer.pipeline(index) else { continue };
        let oldest = meter.oldest_in_work(limits::UNFINISHED_LOGGED_MAX);
        let more = meter.liveness().in_work.saturating_sub(oldest.len() as u64);
        for job in oldest {
            let source = pipeline.input.join(job.path);
            tracing::warn!(event = "file.deferred", pipeline = %pipeline.name, source = %observe::display_path(&source), "unfinished at shutdown, deferred to the next start");
        }
        if more > 0 {
            tracing::warn!(event = "file.left_more", pipeline = %pipeline.name, files = more, "more files left");
        }
    }
}

/// A start that failed: the error stands last, and alone.
pub fn report_failed_start(fault: &ServiceError) -> Exit {
    tracing::error!(event = "service.failed", "{fault}");
    fault.exit()
}

/// What the hooks came to.
#[derive(Debug)]
pub struct RunOutcome {
    pub report: Report,
    /// `None` where no pipeline was started, or the drain did not end.
    pub drained: Option<DrainSummary>,
    /// Files in quarantine, with `--once`.
    pub in_quarantine: u64,
    pub fault: Option<ServiceError>,
}

/// Everything the last words are made from.
#[derive(Debug)]
pub struct ExitReport<'a> {
    pub config: &'a Config,
    pub observer: &'a Observer,
    /// `None` where the process left at once, with hooks that hang.
    pub end: Option<RunOutcome>,
    /// Nothing more could be made durable.
    pub storage_failed: bool,
    /// Only who has the state directory writes there.
    pub has_lock: bool,
    pub descriptors: usize,
    pub began: Instant,
}

impl ExitReport<'_> {
    /// Reports the end everywhere, each time the same, and gives the exit code. The worst stands last.
    pub fn report(self) -> Exit {
        let Self { config, observer, end, storage_failed, has_lock, descriptors, began } = self;
        let status = observer.status();
        let totals = status.totals();
        let drained = end.as_ref().and_then(|end| end.drained);
        let left = drained.map_or_else(|| observer.unfinished(), |drained| drained.unfinished);
        let report = end.as_ref().map(|end| &end.report);
        for line in report.map(ToString::to_string).unwrap_or_default().lines() {
            tracing::debug!(event = "service.report", "{line}");
        }
        let exit = exit(end.as_ref(), storage_failed, left);
        tracing::info!(
            event = "service.stopped",
            exit_code = exit.code(),
            published = totals.published,
            quarantined = totals.quarantined,
            left_for_the_next_start = left,
            panics = drained.map_or(0, |drained| drained.panics),
            tasks_alive = report.map_or(0, |report| report.tasks.alive.len()),
            temporary_files = fs::live_temps(),
            descriptors_at_start = descriptors,
            // Without the lock, which is held to the very end.
            descriptors_now = observe::open_descriptors().saturating_sub(usize::from(has_lock)),
            "stopped"
        );
        if has_lock && let Err(error) = Ended::now(exit, left).write(config.state_dir.clone()) {
            tracing::warn!(event = "service.exit_not_saved", %error, "cannot save the exit code for `tidemill drain --wait`");
        }
        let fault = end.as_ref().and_then(|end| end.fault.as_ref());
        // A start that failed did nothing that could be summed up.
        if config.once && (fault.is_none() || drained.is_some()) {
            let in_quarantine = end.as_ref().map_or(0, |end| end.in_quarantine);
            let meters = (0..config.pipelines.len()).filter_map(|index| observer.pipeline(index));
            let other_transforms = meters.map(|meter| meter.other_transforms()).sum();
            let outputs = config.pipelines.iter().map(|pipeline| pipeline.output.clone()).collect();
            let outcome = OnceOutcome { in_quarantine, deferred: left, other_transforms, outputs };
            observe::print_summary(&status, began.elapsed(), &outcome);
        }
        let was_left = |clean_up: &CleanUp| clean_up.end == lifecycle::End::Left;
        let left_at_once = report.is_none_or(|report| report.clean_ups.iter().any(was_left));
        let gave_up = drained.is_some_and(|drained| drained.gave_up);
        log_reason(exit, fault, (left, gave_up), left_at_once);
        exit
    }
}

/// The reason of the exit code, where it is no good end.
fn log_reason(
    exit: Exit,
    fault: Option<&ServiceError>,
    (left, gave_up): (u64, bool),
    left_at_once: bool,
) {
    match fault {
        Some(fault @ ServiceError::Stopping) => tracing::info!(event = "service.ended", "{fault}"),
        Some(fault @ ServiceError::StartCut) => tracing::warn!(event = "service.ended", "{fault}"),
        Some(fault) => tracing::error!(event = "service.failed", "{fault}"),
        None if left_at_once => {
            tracing::error!(
                event = "service.ended",
                files = left,
                "stopped at once, files in flight deferred to the next start"
            );
        }
        None if exit == Exit::WorkLeft && left > 0 => {
            tracing::warn!(
                event = "service.ended",
                files = left,
                "unfinished files deferred to the next start"
            );
        }
        None if exit == Exit::WorkLeft && gave_up => {
            tracing::warn!(
                event = "service.ended",
                "some files or directories were skipped, run it again"
            );
        }
        None if exit == Exit::WorkLeft => {
            tracing::warn!(event = "service.ended", "stop was forced, next start cleans up");
        }
        None if exit == Exit::Internal => {
            tracing::error!(event = "service.ended", "internal error, see above");
        }
        None => {}
    }
}

/// The truth about the end, the worst first.
fn exit(end: Option<&RunOutcome>, storage_failed: bool, left: u64) -> Exit {
    if let Some(RunOutcome { fault: Some(fault), .. }) = end {
        return fault.exit();
    }
    if storage_failed {
        return Exit::Storage;
    }
    let Some(RunOutcome { report, drained, in_quarantine, .. }) = end else {
        return Exit::WorkLeft;
    };
    let drained = drained.unwrap_or_default();
    if drained.storage_failed || report.clean_ups.iter().any(is_ledger_failure) {
        return Exit::Storage;
    }
    if drained.panics > 0 || report.tasks.failed > 0 {
        return Exit::Internal;
    }
    if left > 0 || drained.gave_up || !report.is_clean() {
        return Exit::WorkLeft;
    }
    if *in_quarantine > 0 { Exit::Quarantined } else { Exit::Drained }
}

fn is_ledger_failure(clean_up: &CleanUp) -> bool {
    clean_up.name == LEDGER && matches!(clean_up.end, lifecycle::End::Failed(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_without_a_report_is_failed_storage_or_work_that_is_left() {
        assert_eq!(exit(None, true, 0), Exit::Storage);
        assert_eq!(exit(None, false, 0), Exit::WorkLeft);
        assert_eq!(exit(None, false, 3), Exit::WorkLeft);
    }
}
