//! Typed handles on the metrics of a pipeline. Each keeps plain numbers too, so that the status and
//! the last report need no recorder.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use metrics::{Counter, Gauge, Histogram};

use super::{
    STAGES,
    histogram::Latency,
    in_flight::{InFlight, InFlightView, JobMeter},
    kinds::{OUTCOMES, OutcomeKind, SYNCS, SyncKind},
    liveness::{Heartbeats, Liveness},
    outcome_stream::OutcomeStream,
    prometheus as names,
    status::PipelineStatus,
};
use crate::stage::Stage;

/// What a stage did for one pipeline.
#[derive(Debug)]
pub(super) struct StageMeter {
    seconds: Histogram,
    pub(super) files: AtomicU64,
    pub(super) nanos: AtomicU64,
}

/// What an intake pauses for by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// The input is not there.
    Input,
    /// Storage on the output's side failed.
    Output,
}

/// Why an intake pauses, for each side apart: one may be well again while the other is not.
#[derive(Debug, Default)]
struct PauseReasons {
    input: Option<String>,
    output: Option<String>,
}

impl PauseReasons {
    /// All of them, as one text.
    fn text(&self) -> Option<String> {
        let all: Vec<&str> =
            [&self.input, &self.output].into_iter().flatten().map(String::as_str).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// The meter of one pipeline.
#[derive(Debug)]
pub struct PipelineMeter {
    pub(super) name: Arc<str>,
    /// Files and the bytes of their sources.
    outcomes: HashMap<OutcomeKind, [(Counter, AtomicU64); 2]>,
    pub(super) stages: HashMap<Stage, StageMeter>,
    syncs: HashMap<SyncKind, Histogram>,
    output_bytes: (Counter, AtomicU64),
    batch: Histogram,
    hints: Counter,
    overflows: (Counter, AtomicU64),
    rescan_finds: (Counter, AtomicU64),
    retries: (Counter, AtomicU64),
    pending: (Gauge, AtomicU64),
    oldest: (Gauge, Mutex<Duration>),
    in_work: (Gauge, InFlight),
    paused: (Gauge, Mutex<PauseReasons>),
    held: (Gauge, AtomicBool),
    last_published: Gauge,
    /// Looks at files that were done before, by other transforms.
    other_transforms: AtomicU64,
    life: Heartbeats,
    pub(super) latency: Latency,
    feed: OutcomeStream,
}

impl PipelineMeter {
    pub(super) fn new(name: &Arc<str>, feed: OutcomeStream) -> Self {
        let label = || metrics::SharedString::from(name.to_string());
        let counter = |metric| metrics::counter!(metric, "pipeline" => label());
        let gauge = |metric| metrics::gauge!(metric, "pipeline" => label());
        let counted = |metric| (counter(metric), AtomicU64::new(0));
        let outcome = |kind: OutcomeKind| {
            [names::FILES, names::SOURCE_BYTES].map(|metric| {
                let counter =
                    metrics::counter!(metric, "pipeline" => label(), "outcome" => kind.as_str());
                (counter, AtomicU64::new(0))
            })
        };
        let stage = |stage: Stage| StageMeter {
            seconds: metrics::histogram!(names::STAGE_SECONDS, "pipeline" => label(), "stage" => stage.as_str()),
            files: AtomicU64::new(0),
            nanos: AtomicU64::new(0),
        };
        let sync = |kind: SyncKind| metrics::histogram!(names::SYNC_SECONDS, "pipeline" => label(), "kind" => kind.as_str());
        let meter = Self {
            name: Arc::clone(name),
            outcomes: OUTCOMES.map(|kind| (kind, outcome(kind))).into(),
            stages: STAGES.map(|name| (name, stage(name))).into(),
            syncs: SYNCS.map(|kind| (kind, sync(kind))).into(),
            output_bytes: counted(names::OUTPUT_BYTES),
            batch: metrics::histogram!(names::BATCH_FILES, "pipeline" => label()),
            hints: counter(names::HINTS),
            overflows: counted(names::OVERFLOWS),
            rescan_finds: counted(names::RESCAN_FINDS),
            retries: counted(names::RETRIES),
            pending: (gauge(names::PENDING_FILES), AtomicU64::new(0)),
            oldest: (gauge(names::PENDING_SECONDS), Mutex::default()),
            in_work: (gauge(names::IN_WORK), InFlight::default()),
            paused: (gauge(names::PAUSED), Mutex::default()),
            held: (gauge(names::HELD), AtomicBool::new(false)),
            last_published: gauge(names::LAST_PUBLISHED),
            other_transforms: AtomicU64::new(0),
            life: Heartbeats::new(),
            latency: Latency::default(),
            feed,
        };
        meter.show_zeros();
        meter
    }

    /// A counter that is shown from the start can be watched for its first step.
    fn show_zeros(&self) {
        let outcomes = self.outcomes.values().flatten().map(|(counter, _)| counter);
        let others = [&self.output_bytes, &self.overflows];
        let more = [&self.rescan_finds, &self.retries];
        let others = others.into_iter().chain(more).map(|(counter, _)| counter);
        outcomes.chain(others).chain([&self.hints]).for_each(|counter| counter.increment(0));
        self.paused.0.set(0.0);
        self.held.0.set(0.0);
        self.in_work.0.set(0.0);
    }

    pub fn outcome(&self, kind: OutcomeKind, source_bytes: u64, output_bytes: u64) {
        if let Some([files, bytes]) = self.outcomes.get(&kind) {
            add(files, 1);
            add(bytes, source_bytes);
        }
        if kind == OutcomeKind::Published {
            add(&self.output_bytes, output_bytes);
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            self.last_published.set(now.unwrap_or_default().as_secs_f64());
        }
    }

    pub fn stage(&self, stage: Stage, took: Duration) {
        self.stage_busy(stage, took);
        self.stage_done(stage, 1, took);
    }

    /// A stage worked for so long on a file that it is not through with.
    pub fn stage_busy(&self, stage: Stage, took: Duration) {
        // That files are seen is no sign that they get on.
        if !matches!(stage, Stage::Discover | Stage::Settle) {
            self.progressed();
        }
        if let Some(work) = self.stages.get(&stage) {
            work.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        }
    }

    /// A stage is through with so many files, whose time was counted while it passed.
    pub fn stage_done(&self, stage: Stage, files: usize, took: Duration) {
        if let Some(work) = self.stages.get(&stage) {
            work.seconds.record(took);
            work.files.fetch_add(files as u64, Relaxed);
        }
    }

    /// An output was acknowledged so long after its source settled.
    pub fn acknowledged(&self, took: Duration) {
        self.latency.add(took);
    }

    /// Where its outcomes are told.
    pub const fn feed(&self) -> &OutcomeStream {
        &self.feed
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

    pub fn hint(&self) {
        self.hints.increment(1);
    }

    pub fn overflow(&self) {
        add(&self.overflows, 1);
    }

    pub fn rescan_found(&self, files: u64) {
        add(&self.rescan_finds, files);
    }

    /// A file was left because it is done, by transforms that the pipeline has no more.
    pub fn has_other_transforms(&self) {
        self.other_transforms.fetch_add(1, Relaxed);
    }

    /// How many looks found a file that other transforms had done.
    pub fn other_transforms(&self) -> u64 {
        self.other_transforms.load(Relaxed)
    }

    pub fn retried(&self) {
        add(&self.retries, 1);
    }

    pub fn pending(&self, files: usize, oldest: Duration) {
        self.pending.1.store(files as u64, Relaxed);
        self.pending.0.set(u32::try_from(files).unwrap_or(u32::MAX));
        self.oldest.0.set(oldest.as_secs_f64());
        *self.oldest.1.lock().unwrap_or_else(PoisonError::into_inner) = oldest;
    }

    /// A job with this number begins, on a source of so many bytes.
    pub fn job_started(&self, id: i64, path: &Path, bytes: u64) -> Arc<JobMeter> {
        let (count, job) = self.in_work.1.begin(id, path, bytes);
        self.in_work.0.set(u32::try_from(count).unwrap_or(u32::MAX));
        job
    }

    pub fn job_finished(&self, id: i64) {
        let count = self.in_work.1.end(id);
        self.in_work.0.set(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// The oldest jobs in work.
    #[must_use]
    pub fn oldest_in_work(&self, most: usize) -> Vec<InFlightView> {
        self.in_work.1.oldest(most)
    }

    /// A sign of life of the intake's thread.
    pub fn beat(&self) {
        self.life.beat();
    }

    /// Work got on, be it by one chunk of a large file.
    pub fn progressed(&self) {
        self.life.progressed();
    }

    #[must_use]
    pub fn liveness(&self) -> Liveness {
        Liveness {
            name: self.name.to_string(),
            silent: self.life.silent(),
            movement: self.life.movement(),
            in_work: self.in_work.1.sum().files,
            is_paused: self.pause_reason().is_some(),
        }
    }

    /// No intake is at work, and nothing waits.
    pub fn clear(&self) {
        self.paused(Pause::Input, None);
        self.paused(Pause::Output, None);
        self.pending(0, Duration::ZERO);
    }

    /// Pauses for a reason on this side, or has none there any more.
    pub fn paused(&self, side: Pause, reason: Option<&str>) {
        let mut reasons = self.paused.1.lock().unwrap_or_else(PoisonError::into_inner);
        let of_side = match side {
            Pause::Input => &mut reasons.input,
            Pause::Output => &mut reasons.output,
        };
        *of_side = reason.map(str::to_owned);
        self.paused.0.set(if reasons.text().is_some() { 1.0 } else { 0.0 });
    }

    fn pause_reason(&self) -> Option<String> {
        self.paused.1.lock().unwrap_or_else(PoisonError::into_inner).text()
    }

    /// An operator holds the intake, or lets it go.
    pub fn set_held(&self, held: bool) {
        self.held.0.set(if held { 1.0 } else { 0.0 });
        self.held.1.store(held, Relaxed);
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.1.load(Relaxed)
    }

    #[must_use]
    pub fn status(&self) -> PipelineStatus {
        let counts = |kind| {
            let counts = self.outcomes.get(&kind);
            counts.map_or([0, 0], |counts| counts.each_ref().map(|(_, count)| count.load(Relaxed)))
        };
        let [published, source_bytes] = counts(OutcomeKind::Published);
        let count = |kind| counts(kind)[0];
        let in_work = self.in_work.1.sum();
        PipelineStatus {
            name: self.name.to_string(),
            published,
            skipped: count(OutcomeKind::Skipped),
            quarantined: count(OutcomeKind::Quarantined),
            deferred: count(OutcomeKind::Deferred),
            retries: self.retries.1.load(Relaxed),
            source_bytes,
            output_bytes: self.output_bytes.1.load(Relaxed),
            overflows: self.overflows.1.load(Relaxed),
            rescan_finds: self.rescan_finds.1.load(Relaxed),
            pending: self.pending.1.load(Relaxed),
            oldest_pending_seconds: self
                .oldest
                .1
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .as_secs_f64(),
            in_work: in_work.files,
            in_work_bytes: in_work.bytes,
            in_work_done_bytes: in_work.done_bytes,
            oldest_in_work_seconds: in_work.oldest.as_secs_f64(),
            queued: in_work.queued,
            lanes_busy: in_work.in_lanes,
            held: self.is_held(),
            paused: self.pause_reason(),
        }
    }
}

pub(super) fn add((counter, plain): &(Counter, AtomicU64), count: u64) {
    counter.increment(count);
    plain.fetch_add(count, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_work_on_files_is_movement_and_no_look_at_their_names() {
        let meter = PipelineMeter::new(&Arc::from("main"), OutcomeStream::default());
        for stage in STAGES {
            let before = meter.liveness().movement;
            meter.stage(stage, Duration::from_millis(1));
            let is_look = matches!(stage, Stage::Discover | Stage::Settle);
            assert_eq!(meter.liveness().movement == before, is_look, "{stage}");
        }
    }
}
