//! The meter of a pipeline. It keeps plain numbers next to the metrics, so that the status and the exit
//! report need no recorder.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge, Histogram};

use super::{
    STAGES, display_path,
    histogram::Latency,
    in_flight::{InFlight, InFlightView, JobMeter},
    liveness::{Heartbeats, Liveness},
    outcome_stream::OutcomeStream,
    outcomes::{OutcomeMeter, add},
    pauses::{Pause, PauseMeter},
    pending::{OldestPending, PendingMeter},
    prometheus as names,
    stage_meter::StageMeter,
    status::{PauseReason, PipelineStatus},
    sync_kind::{SYNCS, SyncKind},
};
use crate::{outcome::OutcomeKind, reason::ReasonCode, stage::Stage};

/// The meter of one pipeline.
#[derive(Debug)]
pub struct PipelineMeter {
    pub(super) name: Arc<str>,
    outcomes: OutcomeMeter,
    pub(super) stages: HashMap<Stage, StageMeter>,
    syncs: HashMap<SyncKind, Histogram>,
    batch: Histogram,
    events: Counter,
    overflows: (Counter, AtomicU64),
    rescan_finds: (Counter, AtomicU64),
    retries: (Counter, AtomicU64),
    quarantined: HashMap<ReasonCode, Counter>,
    pending: PendingMeter,
    in_flight: (Gauge, InFlight),
    pauses: PauseMeter,
    overdue: Gauge,
    /// Number of looks that skipped a file because other transforms have processed it.
    other_transforms: AtomicU64,
    /// Compressed sources that were compressed again.
    recompressed: AtomicU64,
    heartbeats: Heartbeats,
    pub(super) latency: Latency,
    outcome_stream: OutcomeStream,
}

impl PipelineMeter {
    pub(super) fn new(name: &Arc<str>, outcome_stream: OutcomeStream) -> Self {
        let label = || metrics::SharedString::from(name.to_string());
        let counter = |metric| metrics::counter!(metric, "pipeline" => label());
        let gauge = |metric| metrics::gauge!(metric, "pipeline" => label());
        let pause = |reason: PauseReason| metrics::gauge!(names::PAUSED, "pipeline" => label(), "reason" => reason.as_str());
        let quarantined = |code: ReasonCode| metrics::counter!(names::QUARANTINED, "pipeline" => label(), "reason" => code.as_str());
        let counted = |metric| (counter(metric), AtomicU64::new(0));
        let stage = |stage: Stage| {
            StageMeter::new(
                metrics::histogram!(names::STAGE_SECONDS, "pipeline" => label(), "stage" => stage.as_str()),
            )
        };
        let sync = |kind: SyncKind| metrics::histogram!(names::SYNC_SECONDS, "pipeline" => label(), "kind" => kind.as_str());
        let meter = Self {
            name: Arc::clone(name),
            outcomes: OutcomeMeter::new(name),
            stages: STAGES.map(|name| (name, stage(name))).into(),
            syncs: SYNCS.map(|kind| (kind, sync(kind))).into(),
            batch: metrics::histogram!(names::BATCH_FILES, "pipeline" => label()),
            events: counter(names::EVENTS),
            overflows: counted(names::OVERFLOWS),
            rescan_finds: counted(names::RESCAN_FINDS),
            retries: counted(names::RETRIES),
            quarantined: ReasonCode::ALL.iter().map(|code| (*code, quarantined(*code))).collect(),
            pending: PendingMeter::new(gauge(names::PENDING_FILES), gauge(names::PENDING_SECONDS)),
            in_flight: (gauge(names::IN_FLIGHT), InFlight::default()),
            pauses: PauseMeter::new(pause),
            overdue: gauge(names::OVERDUE),
            other_transforms: AtomicU64::new(0),
            recompressed: AtomicU64::new(0),
            heartbeats: Heartbeats::new(),
            latency: Latency::default(),
            outcome_stream,
        };
        meter.show_zeros();
        meter
    }

    /// Exports every series as 0, so that a rate includes its first increment.
    fn show_zeros(&self) {
        let others = [&self.overflows, &self.rescan_finds, &self.retries];
        self.outcomes
            .counters()
            .chain(others.map(|(counter, _)| counter))
            .chain(self.quarantined.values())
            .chain([&self.events])
            .for_each(|counter| counter.increment(0));
        self.in_flight.0.set(0.0);
        self.overdue.set(0.0);
    }

    /// Returns the counts of its files by outcome.
    pub const fn outcomes(&self) -> &OutcomeMeter {
        &self.outcomes
    }

    /// Counts one file of a stage that has no clock.
    pub fn stage(&self, stage: Stage, took: Duration) {
        self.stage_progressed(stage);
        if let Some(work) = self.stages.get(&stage) {
            work.add(took);
            work.done(1, took);
        }
    }

    /// Starts a clock of a stage: its time counts from now on, and is shown while it runs.
    pub fn clock_started(&self, stage: Stage) -> Instant {
        let now = Instant::now();
        if let Some(work) = self.stages.get(&stage) {
            work.clock_started(now);
        }
        now
    }

    /// Stops the clock of a stage that was started at `since`, and returns its time.
    pub fn clock_stopped(&self, stage: Stage, since: Instant) -> Duration {
        self.stage_progressed(stage);
        self.stages.get(&stage).map_or(Duration::ZERO, |work| work.clock_stopped(since))
    }

    /// Counts finished files of a stage, or with 0 a part of their work. Its clock has counted their time.
    pub fn stage_done(&self, stage: Stage, files: usize, took: Duration) {
        if let Some(work) = self.stages.get(&stage) {
            work.done(files, took);
        }
    }

    fn stage_progressed(&self, stage: Stage) {
        // Discovering files is no progress on them.
        if !matches!(stage, Stage::Discover | Stage::Settle) {
            self.progressed();
        }
    }

    /// Records the time from settle to acknowledgement of an output.
    pub fn acknowledged(&self, took: Duration) {
        self.latency.add(took);
    }

    /// Returns the stream that publishes its outcomes.
    pub const fn outcome_stream(&self) -> &OutcomeStream {
        &self.outcome_stream
    }

    pub fn sync(&self, kind: SyncKind, took: Duration) {
        self.progressed();
        if let Some(histogram) = self.syncs.get(&kind) {
            histogram.record(took);
        }
    }

    pub fn batch(&self, files: usize) {
        self.batch.record(u32::try_from(files).unwrap_or(u32::MAX));
    }

    pub fn event(&self) {
        self.events.increment(1);
    }

    pub fn overflow(&self) {
        add(&self.overflows, 1);
    }

    pub fn rescan_found(&self, files: u64) {
        add(&self.rescan_finds, files);
    }

    /// Counts a look that skipped a file because transforms that are no longer configured processed it.
    pub fn skipped_for_other_transforms(&self) {
        self.other_transforms.fetch_add(1, Relaxed);
    }

    /// Returns the number of looks that skipped a file because other transforms have processed it.
    pub fn other_transforms(&self) -> u64 {
        self.other_transforms.load(Relaxed)
    }

    /// Counts a compressed source that was compressed again, and returns whether it is the first.
    pub fn count_recompressed(&self) -> bool {
        self.recompressed.fetch_add(1, Relaxed) == 0
    }

    pub fn recompressed(&self) -> u64 {
        self.recompressed.load(Relaxed)
    }

    /// Counts a file that went to quarantine.
    pub fn quarantined(&self, code: ReasonCode) {
        if let Some(counter) = self.quarantined.get(&code) {
            counter.increment(1);
        }
    }

    pub fn retried(&self) {
        add(&self.retries, 1);
    }

    /// Records the pending files, the bytes of those that were looked at, and the oldest.
    pub fn pending(&self, files: usize, bytes: u64, oldest: Option<OldestPending>) {
        self.pending.set(files, bytes, oldest);
    }

    /// Records the start of a job on a source of `bytes` bytes.
    pub fn job_started(&self, id: i64, path: &Path, bytes: u64) -> Arc<JobMeter> {
        self.pending.sent(bytes);
        let (count, job) = self.in_flight.1.begin(id, path, bytes);
        self.in_flight.0.set(u32::try_from(count).unwrap_or(u32::MAX));
        job
    }

    pub fn job_finished(&self, id: i64) {
        let count = self.in_flight.1.end(id);
        self.in_flight.0.set(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Returns the oldest files in flight, at most `max`.
    #[must_use]
    pub fn oldest_in_flight(&self, max: usize) -> Vec<InFlightView> {
        self.in_flight.1.oldest(max)
    }

    /// Records a heartbeat of the intake's thread.
    pub fn beat(&self) {
        self.heartbeats.beat();
    }

    /// Records progress, which may be one chunk of a large file.
    pub fn progressed(&self) {
        self.heartbeats.progressed();
    }

    #[must_use]
    pub fn liveness(&self) -> Liveness {
        Liveness {
            name: self.name.to_string(),
            silent: self.heartbeats.silent(),
            progress: self.heartbeats.progress(),
            in_flight: self.in_flight.1.totals().files,
            is_paused: self.pauses.storage().is_some(),
        }
    }

    /// Clears pauses and pending files, when no intake runs.
    pub fn clear(&self) {
        self.paused(Pause::Input, None);
        self.paused(Pause::Output, None);
        self.paused_by_window(None);
        self.set_overdue(false);
        self.pending(0, 0, None);
    }

    /// Sets the reason of a pause on this side, or clears it.
    pub fn paused(&self, side: Pause, reason: Option<&str>) {
        self.pauses.set_storage(side, reason);
    }

    /// Records the operator's pause, or its end.
    pub fn set_paused_by_operator(&self, is_paused: bool) {
        self.pauses.set_operator(is_paused);
    }

    /// Records whether no file came in the expected time.
    pub fn set_overdue(&self, is_overdue: bool) {
        self.overdue.set(if is_overdue { 1.0 } else { 0.0 });
    }

    /// Records that all windows are closed, with the time at which the next one opens, or the end of that.
    pub fn paused_by_window(&self, opens: Option<&str>) {
        self.pauses.set_window(opens);
    }

    pub(super) fn is_paused_by_operator(&self) -> bool {
        self.pauses.operator().is_some()
    }

    #[must_use]
    pub fn status(&self) -> PipelineStatus {
        let [published, source_bytes] = self.outcomes.of(OutcomeKind::Published);
        let count = |kind| self.outcomes.of(kind)[0];
        let [ended, ended_bytes] = self.outcomes.ended_jobs();
        let in_flight = self.in_flight.1.totals();
        let oldest = self.pending.oldest();
        PipelineStatus {
            name: self.name.to_string(),
            published,
            skipped: count(OutcomeKind::Skipped),
            quarantined: count(OutcomeKind::Quarantined),
            deferred: count(OutcomeKind::Deferred),
            retries: self.retries.1.load(Relaxed),
            source_bytes,
            output_bytes: self.outcomes.output_bytes(),
            overflows: self.overflows.1.load(Relaxed),
            rescan_finds: self.rescan_finds.1.load(Relaxed),
            ended,
            ended_bytes,
            pending: self.pending.files(),
            pending_bytes: self.pending.bytes(),
            oldest_pending_seconds: oldest.as_ref().map_or(0.0, |it| it.age.as_secs_f64()),
            oldest_pending: oldest.map(|it| display_path(&it.source).to_string()),
            in_flight: in_flight.files,
            in_flight_bytes: in_flight.bytes,
            in_flight_done_bytes: in_flight.done_bytes,
            oldest_in_flight_seconds: in_flight.oldest.as_secs_f64(),
            queued: in_flight.queued,
            lanes_busy: in_flight.in_lanes,
            paused: self.pauses.all(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_on_files_is_progress_and_discovery_is_not() {
        let meter = PipelineMeter::new(&Arc::from("main"), OutcomeStream::default());
        for stage in STAGES {
            let before = meter.liveness().progress;
            meter.stage(stage, Duration::from_millis(1));
            let is_discovery = matches!(stage, Stage::Discover | Stage::Settle);
            assert_eq!(meter.liveness().progress == before, is_discovery, "{stage}");
        }
    }

    #[test]
    fn a_file_is_pending_or_in_flight_and_never_both() {
        let meter = PipelineMeter::new(&Arc::from("main"), OutcomeStream::default());
        meter.pending(2, 30, None);
        meter.job_started(1, Path::new("a"), 10);
        let status = meter.status();
        assert_eq!((status.pending, status.pending_bytes, status.in_flight), (1, 20, 1));
    }
}
