//! The exit report and the exit code.

use std::time::{Duration, Instant};

use tidemill_lifecycle::{CloseOutcome, ClosedResource, Report};

use super::{error::ServiceError, exit_record::ExitRecord};
use crate::{
    config::Config,
    error::Exit,
    fs, limits,
    observe::{self, Observer, OnceOutcome, Totals, log_seconds, units::size},
    pipeline::DrainSummary,
};

/// State of the log of a drain.
#[derive(Debug)]
pub struct DrainLog {
    pub is_cut: bool,
    started_at: Instant,
    /// What was done at the last log line, see [`done`].
    done: (u64, u64),
}

impl DrainLog {
    pub fn new(observer: &Observer) -> Self {
        let done = done(&observer.status().totals());
        Self { is_cut: false, started_at: Instant::now(), done }
    }
}

/// Returns the finished files, and the bytes of published sources and those read of the sources in
/// flight.
const fn done(totals: &Totals) -> (u64, u64) {
    (totals.ended, totals.source_bytes + totals.in_flight_done_bytes)
}

/// Logs the files in flight. Returns whether anything progressed since the last line.
pub fn log_progress(log: &mut DrainLog, observer: &Observer) -> bool {
    let status = observer.status();
    let totals = status.totals();
    let done = done(&totals);
    let moved = done != log.done;
    log.done = done;
    let waiting: Vec<String> = status
        .channels
        .iter()
        .filter(|channel| channel.queued > 0)
        .map(|channel| format!("{} before {}", channel.queued, channel.name))
        .collect();
    let oldest = status.pipelines.iter().map(|pipeline| pipeline.oldest_in_flight_seconds);
    let oldest = oldest.fold(0.0, f64::max);
    tracing::info!(
        event = "service.draining",
        files = totals.in_flight,
        in_flight_size = size(totals.in_flight_bytes),
        read_size = size(totals.in_flight_done_bytes),
        oldest_seconds = log_seconds(Duration::try_from_secs_f64(oldest).unwrap_or_default()),
        waiting = waiting.join(", "),
        moved,
        seconds = log_seconds(log.started_at.elapsed()),
        "draining"
    );
    moved
}

/// Logs the oldest files that a cut drain defers to the next start, and the number of the others.
pub fn log_unfinished(config: &Config, observer: &Observer) {
    for (index, pipeline) in config.pipelines.iter().enumerate() {
        let Some(meter) = observer.pipeline(index) else { continue };
        let oldest = meter.oldest_in_flight(limits::UNFINISHED_LOGGED_MAX);
        let more = meter.liveness().in_flight.saturating_sub(oldest.len() as u64);
        for job in oldest {
            let source = pipeline.input.join(job.path);
            tracing::warn!(event = "file.deferred", pipeline = %pipeline.name, source = %observe::display_path(&source), "unfinished at shutdown, deferred to the next start");
        }
        if more > 0 {
            tracing::warn!(event = "pipeline.files_deferred", pipeline = %pipeline.name, files = more, "more unfinished files deferred");
        }
    }
}

/// Logs the error of a failed start as the last line, and returns the exit code.
pub fn report_failed_start(error: &ServiceError) -> Exit {
    tracing::error!(event = "service.failed", %error, "start failed");
    error.exit()
}

/// Outcome of the service from the first resource opened to the last one closed.
#[derive(Debug)]
pub struct RunOutcome {
    pub report: Report,
    /// `None` if no pipeline was started, or the drain did not finish.
    pub drained: Option<DrainSummary>,
    /// Number of files in quarantine, with `--once`.
    pub in_quarantine: u64,
    pub error: Option<ServiceError>,
}

/// Facts for the exit report.
#[derive(Debug)]
pub struct ExitReport<'a> {
    pub config: &'a Config,
    pub observer: &'a Observer,
    /// `None` if the stop was forced while a resource hung.
    pub outcome: Option<RunOutcome>,
    /// Whether a failure kept data from becoming durable.
    pub storage_failed: bool,
    /// Whether this process holds the lock: only then it writes to the state directory.
    pub has_lock: bool,
    /// Whether the pipelines were started.
    pub has_started: bool,
    /// Number of open descriptors at the start.
    pub descriptors: usize,
    pub started_at: Instant,
}

impl ExitReport<'_> {
    /// Logs, saves and prints the exit, and returns the exit code. The reason is the last line.
    pub fn report(self) -> Exit {
        let Self { config, observer, outcome, storage_failed, has_lock, has_started, .. } = self;
        let status = observer.status();
        let totals = status.totals();
        let drained = outcome.as_ref().and_then(|outcome| outcome.drained);
        let unfinished =
            drained.map_or_else(|| observer.unfinished(), |drained| drained.unfinished);
        let report = outcome.as_ref().map(|outcome| &outcome.report);
        for line in report.map(ToString::to_string).unwrap_or_default().lines() {
            tracing::debug!(event = "service.report", "{line}");
        }
        tracing::debug!(
            event = "service.resources",
            tasks_alive = report.map_or(0, |report| report.tasks.alive.len()),
            temporary_files = fs::live_temps(),
            descriptors_at_start = self.descriptors,
            // Without the lock, which is held until the process exits.
            descriptors_now = observe::open_descriptors().saturating_sub(usize::from(has_lock)),
            "resources in use at the end"
        );
        let exit = exit_code(outcome.as_ref(), storage_failed, unfinished);
        let error = outcome.as_ref().and_then(|outcome| outcome.error.as_ref());
        // A failed start has nothing to summarize: its error is the last line, and alone.
        let was_stopped =
            matches!(error, None | Some(ServiceError::Stopping | ServiceError::StartCut));
        if has_started || was_stopped {
            tracing::info!(
                event = "service.stopped",
                exit_code = exit.code(),
                published = totals.published,
                quarantined = totals.quarantined,
                unfinished,
                panics = drained.map_or(0, |drained| drained.panics),
                "stopped"
            );
        }
        if has_lock
            && let Err(error) = ExitRecord::now(exit, unfinished).write(config.state_dir.clone())
        {
            tracing::warn!(event = "service.exit_not_saved", %error, "cannot save the exit code for `tidemill drain --wait`");
        }
        if config.once && (error.is_none() || drained.is_some()) {
            let in_quarantine = outcome.as_ref().map_or(0, |outcome| outcome.in_quarantine);
            let outcome = once_outcome(config, observer, (in_quarantine, unfinished));
            let (format, took) = (config.keys.log_format, self.started_at.elapsed());
            observe::print_summary(format, &status, took, &outcome);
        }
        let is_abandoned = |closed: &ClosedResource| closed.outcome == CloseOutcome::Abandoned;
        let was_forced = report.is_none_or(|report| report.resources.iter().any(is_abandoned));
        let gave_up = drained.is_some_and(|drained| drained.gave_up);
        log_reason(exit, error, (unfinished, gave_up), was_forced);
        exit
    }
}

fn once_outcome(
    config: &Config,
    observer: &Observer,
    (in_quarantine, deferred): (u64, u64),
) -> OnceOutcome {
    let meters = || (0..config.pipelines.len()).filter_map(|index| observer.pipeline(index));
    OnceOutcome {
        in_quarantine,
        deferred,
        other_transforms: meters().map(|meter| meter.other_transforms()).sum(),
        recompressed: meters().map(|meter| meter.recompressed()).sum(),
        outputs: config.pipelines.iter().map(|pipeline| pipeline.output.clone()).collect(),
    }
}

/// Logs the reason of an exit code other than success.
fn log_reason(
    exit: Exit,
    error: Option<&ServiceError>,
    (unfinished, gave_up): (u64, bool),
    was_forced: bool,
) {
    match error {
        Some(error @ ServiceError::Stopping) => {
            tracing::info!(event = "service.ended", reason = %error, "ended before it was ready");
        }
        Some(error @ ServiceError::StartCut) => {
            tracing::warn!(event = "service.ended", reason = %error, "ended before it was ready");
        }
        Some(error) => tracing::error!(event = "service.failed", %error, "service failed"),
        None if was_forced => {
            tracing::error!(
                event = "service.ended",
                files = unfinished,
                "stopped at once, files deferred to the next start"
            );
        }
        None if exit == Exit::WorkLeft && unfinished > 0 => {
            tracing::warn!(
                event = "service.ended",
                files = unfinished,
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

/// Returns the exit code. The worst condition wins.
fn exit_code(outcome: Option<&RunOutcome>, storage_failed: bool, unfinished: u64) -> Exit {
    if let Some(RunOutcome { error: Some(error), .. }) = outcome {
        return error.exit();
    }
    if storage_failed {
        return Exit::Storage;
    }
    let Some(RunOutcome { report, drained, in_quarantine, .. }) = outcome else {
        return Exit::WorkLeft;
    };
    let drained = drained.unwrap_or_default();
    if drained.storage_failed {
        return Exit::Storage;
    }
    if drained.panics > 0 || report.tasks.failed > 0 {
        return Exit::Internal;
    }
    if unfinished > 0 || drained.gave_up || !report.is_clean() {
        return Exit::WorkLeft;
    }
    if *in_quarantine > 0 { Exit::Quarantined } else { Exit::Success }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_without_a_report_is_failed_storage_or_unfinished_work() {
        assert_eq!(exit_code(None, true, 0), Exit::Storage);
        assert_eq!(exit_code(None, false, 0), Exit::WorkLeft);
        assert_eq!(exit_code(None, false, 3), Exit::WorkLeft);
    }
}
