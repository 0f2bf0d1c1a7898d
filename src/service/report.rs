//! What the end of the service tells, and the exit code it comes to.

use std::time::Instant;

use super::hooks::Fault;
use crate::{
    config::Config,
    error::Exit,
    fs,
    lifecycle::Report,
    limits,
    observe::{self, Observer},
    pipeline::Drained,
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
pub fn tell_progress(progress: &mut Progress, observer: &Observer) -> bool {
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

/// The drain is cut short: names the oldest of those that are left for the next start.
pub fn tell_stragglers(config: &Config, observer: &Observer) {
    for (index, pipeline) in config.pipelines.iter().enumerate() {
        let Some(meter) = observer.pipeline(index) else { continue };
        for job in meter.oldest_in_work(limits::STRAGGLERS) {
            let source = pipeline.input.join(job.path);
            tracing::warn!(pipeline = %pipeline.name, source = %observe::shown(&source), "left for the next start, unless its commit still ends");
        }
    }
}

/// Everything the last words are made from.
#[derive(Debug)]
pub struct Last<'a> {
    pub config: &'a Config,
    pub observer: &'a Observer,
    pub report: &'a Report,
    pub drained: Drained,
    pub fault: Option<Fault>,
    pub descriptors: usize,
    pub began: Instant,
}

impl Last<'_> {
    /// Tells the report, and gives the exit code.
    pub fn tell(self) -> Exit {
        let Self { config, observer, report, drained, fault, descriptors, began } = self;
        let status = observer.status();
        let totals = status.totals();
        if let Some(fault) = &fault {
            tracing::error!("{fault}");
        }
        for line in report.to_string().lines() {
            tracing::debug!("{line}");
        }
        let exit = exit(&drained, fault.as_ref(), report, config.once && totals.quarantined > 0);
        tracing::info!(
            published = totals.published,
            quarantined = totals.quarantined,
            left_for_the_next_start = drained.left,
            panics = drained.panics,
            tasks_alive = report.tasks.alive.len(),
            temporary_files = fs::live_temps(),
            descriptors_at_start = descriptors,
            descriptors_now = observe::open_descriptors(),
            exit_code = exit.code(),
            "stopped"
        );
        if config.once {
            let meters = (0..config.pipelines.len()).filter_map(|index| observer.pipeline(index));
            let other_steps = meters.map(|meter| meter.other_steps()).sum();
            observe::print_summary(&status, began.elapsed(), other_steps);
        }
        exit
    }
}

/// The truth about the end, the worst first.
fn exit(drained: &Drained, fault: Option<&Fault>, report: &Report, quarantined: bool) -> Exit {
    if let Some(fault) = fault {
        return fault.exit();
    }
    if drained.storage_failed || report.clean_ups.iter().any(is_ledger_failure) {
        return Exit::Storage;
    }
    if drained.panics > 0 || report.tasks.failed > 0 {
        return Exit::Internal;
    }
    if drained.left > 0 || drained.gave_up || !report.is_clean() {
        return Exit::WorkLeft;
    }
    if quarantined { Exit::Quarantined } else { Exit::Drained }
}

fn is_ledger_failure(clean_up: &crate::lifecycle::CleanUp) -> bool {
    clean_up.name == "ledger" && matches!(clean_up.end, crate::lifecycle::End::Failed(_))
}
