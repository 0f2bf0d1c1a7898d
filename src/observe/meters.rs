//! Typed handles on the metrics. Each keeps plain numbers too, so that the status and the last
//! report need no recorder.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use metrics::{Counter, Gauge, Histogram};

use super::{
    channel::ChannelMeter,
    life::{Life, Signs},
    metrics as names,
    status::{PipelineStatus, Status},
    work::InWork,
};
use crate::stages::Stage;

crate::policy::words! {
    /// How a file ended.
    OutcomeKind {
        Published = "published",
        Skipped = "skipped",
        Quarantined = "quarantined",
        /// Handed back: it goes through the intake again, now or at the next start.
        Deferred = "deferred",
    }
}

crate::policy::words! {
    /// What was made durable.
    SyncKind {
        File = "file",
        Directory = "directory",
        FileSystem = "file_system",
        Ledger = "ledger",
    }
}

const OUTCOMES: [OutcomeKind; 4] =
    [OutcomeKind::Published, OutcomeKind::Skipped, OutcomeKind::Quarantined, OutcomeKind::Deferred];
const STAGES: [Stage; 8] = [
    Stage::Discover,
    Stage::Settle,
    Stage::Claim,
    Stage::Read,
    Stage::Transform,
    Stage::Write,
    Stage::Commit,
    Stage::Dispose,
];
const SYNCS: [SyncKind; 4] =
    [SyncKind::File, SyncKind::Directory, SyncKind::FileSystem, SyncKind::Ledger];

/// Everything that is measured of one service.
#[derive(Debug)]
pub struct Observer {
    started: Instant,
    pipelines: RwLock<Meters>,
    channels: Vec<(&'static str, Arc<ChannelMeter>)>,
    phase: Mutex<&'static str>,
}

/// A reload changes them.
#[derive(Debug)]
struct Meters {
    /// In the order of the configuration.
    now: Vec<Arc<PipelineMeter>>,
    /// Of pipelines that were removed: what they counted is a part of the whole, and goes on if
    /// they are added again.
    removed: Vec<Arc<PipelineMeter>>,
}

impl Observer {
    /// Meters of these pipelines and channels (with their capacities). The recorder must be
    /// installed before, or nothing but the plain numbers is kept.
    pub fn new(pipelines: &[Arc<str>], channels: &[(&'static str, usize)]) -> Self {
        let channel = |(name, capacity): &(&'static str, usize)| {
            (*name, Arc::new(ChannelMeter::new(name, *capacity)))
        };
        let phase = "STARTING";
        metrics::gauge!(names::PHASE, "phase" => phase).set(1.0);
        Self {
            started: Instant::now(),
            pipelines: RwLock::new(Meters {
                now: pipelines.iter().map(|name| Arc::new(PipelineMeter::new(name))).collect(),
                removed: Vec::new(),
            }),
            channels: channels.iter().map(channel).collect(),
            phase: Mutex::new(phase),
        }
    }

    /// The meter of a pipeline, by its place in the configuration that is in force.
    #[must_use]
    pub fn pipeline(&self, index: usize) -> Option<Arc<PipelineMeter>> {
        self.pipelines.read().unwrap_or_else(PoisonError::into_inner).now.get(index).map(Arc::clone)
    }

    /// The meter of this name: the one there is or was, or a new one, which is shown once it is
    /// one of [`Self::set_pipelines`].
    #[must_use]
    pub fn meter_of(&self, name: &Arc<str>) -> Arc<PipelineMeter> {
        let meters = self.pipelines.read().unwrap_or_else(PoisonError::into_inner);
        let known = meters.now.iter().chain(&meters.removed).find(|meter| meter.name == *name);
        known.map_or_else(|| Arc::new(PipelineMeter::new(name)), Arc::clone)
    }

    /// From now on these are the pipelines. Those that were and are not any more rest.
    pub fn set_pipelines(&self, now: Vec<Arc<PipelineMeter>>) {
        let mut meters = self.pipelines.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut meters.now, now);
        let Meters { now, removed } = &mut *meters;
        let is_now = |meter: &Arc<PipelineMeter>| now.iter().any(|one| one.name == meter.name);
        for meter in &*now {
            meter.turned();
        }
        removed.extend(before);
        removed.retain(|meter| !is_now(meter));
        for meter in removed {
            meter.rest();
        }
    }

    /// The meter of a channel; one that nobody reads where the name is not known.
    #[must_use]
    pub fn channel(&self, name: &'static str) -> Arc<ChannelMeter> {
        let known = self.channels.iter().find(|(known, _)| *known == name);
        known.map_or_else(|| Arc::new(ChannelMeter::new(name, 0)), |(_, meter)| Arc::clone(meter))
    }

    /// The signs of life of each pipeline.
    #[must_use]
    pub fn signs(&self) -> Vec<Signs> {
        let meters = self.pipelines.read().unwrap_or_else(PoisonError::into_inner);
        meters.now.iter().map(|meter| meter.signs()).collect()
    }

    pub fn set_phase(&self, phase: &'static str) {
        let mut now = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        metrics::gauge!(names::PHASE, "phase" => *now).set(0.0);
        metrics::gauge!(names::PHASE, "phase" => phase).set(1.0);
        *now = phase;
    }

    /// Everything at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        let meters = self.pipelines.read().unwrap_or_else(PoisonError::into_inner);
        let status =
            |meters: &[Arc<PipelineMeter>]| meters.iter().map(|meter| meter.status()).collect();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            phase: *self.phase.lock().unwrap_or_else(PoisonError::into_inner),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            pipelines: status(&meters.now),
            removed: status(&meters.removed),
            channels: self.channels.iter().map(|(_, meter)| meter.status()).collect(),
        }
    }
}

/// The meter of one pipeline.
#[derive(Debug)]
pub struct PipelineMeter {
    name: Arc<str>,
    /// Files and the bytes of their sources.
    outcomes: HashMap<OutcomeKind, [(Counter, AtomicU64); 2]>,
    stages: HashMap<Stage, Histogram>,
    syncs: HashMap<SyncKind, Histogram>,
    output_bytes: (Counter, AtomicU64),
    batch: Histogram,
    hints: Counter,
    overflows: (Counter, AtomicU64),
    rescan_finds: (Counter, AtomicU64),
    retries: (Counter, AtomicU64),
    pending: (Gauge, AtomicU64),
    oldest: (Gauge, Mutex<Duration>),
    in_work: (Gauge, InWork),
    paused: (Gauge, Mutex<Option<String>>),
    last_published: Gauge,
    life: Life,
}

impl PipelineMeter {
    fn new(name: &Arc<str>) -> Self {
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
        let stage = |stage: Stage| metrics::histogram!(names::STAGE_SECONDS, "pipeline" => label(), "stage" => stage.as_str());
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
            in_work: (gauge(names::IN_WORK), InWork::default()),
            paused: (gauge(names::PAUSED), Mutex::default()),
            last_published: gauge(names::LAST_PUBLISHED),
            life: Life::new(),
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
        self.moved();
        if let Some(histogram) = self.stages.get(&stage) {
            histogram.record(took);
        }
    }

    pub fn sync(&self, kind: SyncKind, took: Duration) {
        self.moved();
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
    pub fn begins(&self, id: i64, path: &Path, bytes: u64) {
        let count = self.in_work.1.begin(id, path, bytes);
        self.in_work.0.set(u32::try_from(count).unwrap_or(u32::MAX));
    }

    pub fn ends(&self, id: i64) {
        let count = self.in_work.1.end(id);
        self.in_work.0.set(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// The oldest jobs in work, by the path of their source below the input.
    #[must_use]
    pub fn oldest_in_work(&self, most: usize) -> Vec<PathBuf> {
        self.in_work.1.oldest(most)
    }

    /// A sign of life of the intake's thread.
    pub fn turned(&self) {
        self.life.turned();
    }

    /// Work got on, be it by one chunk of a large file.
    pub fn moved(&self) {
        self.life.moved();
    }

    fn signs(&self) -> Signs {
        Signs {
            name: self.name.to_string(),
            silent: self.life.silent(),
            movement: self.life.movement(),
            in_work: self.in_work.1.sum().files,
            is_paused: self.paused.1.lock().unwrap_or_else(PoisonError::into_inner).is_some(),
        }
    }

    /// No intake is at work, and nothing waits.
    pub fn rest(&self) {
        self.paused(None);
        self.pending(0, Duration::ZERO);
    }

    /// Pauses for a reason, or goes on.
    pub fn paused(&self, reason: Option<&str>) {
        self.paused.0.set(if reason.is_some() { 1.0 } else { 0.0 });
        *self.paused.1.lock().unwrap_or_else(PoisonError::into_inner) = reason.map(str::to_owned);
    }

    fn status(&self) -> PipelineStatus {
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
            oldest_in_work_seconds: in_work.oldest.as_secs_f64(),
            paused: self.paused.1.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

pub(super) fn add((counter, plain): &(Counter, AtomicU64), count: u64) {
    counter.increment(count);
    plain.fetch_add(count, Relaxed);
}
