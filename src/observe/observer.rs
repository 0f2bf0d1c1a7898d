//! Everything that is measured of one service, in one place.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{
    STAGES,
    channel::ChannelMeter,
    in_flight::InFlightView,
    liveness::Liveness,
    meters::PipelineMeter,
    outcome_stream::OutcomeStream,
    pipelines::Pipelines,
    prometheus as names,
    status::{DrainStatus, StageStatus, Status, Totals},
    time_series::{Point, Series},
};
use crate::stage::Stage;

/// Everything that is measured of one service.
#[derive(Debug)]
pub struct Observer {
    started: Instant,
    pipelines: Pipelines,
    channels: Vec<(&'static str, Arc<ChannelMeter>)>,
    phase: Mutex<&'static str>,
    is_ready: AtomicBool,
    /// Since when it drains, how long it may, and what was finished by then.
    drain: Mutex<Option<(Instant, Duration, Totals)>>,
    /// Files that the drain left, once it is over.
    left: AtomicU64,
    is_drained: AtomicBool,
    /// Why all of it, or a part, stands still.
    stands_still: Mutex<(Option<String>, Option<String>)>,
    feed: OutcomeStream,
    series: Series,
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
        let feed = OutcomeStream::default();
        let pipeline = |name: &Arc<str>| Arc::new(PipelineMeter::new(name, feed.clone()));
        metrics::counter!(names::TRACES_DROPPED).increment(0);
        metrics::counter!(names::LOG_DROPPED).increment(0);
        Self {
            started: Instant::now(),
            pipelines: Pipelines::new(pipelines.iter().map(pipeline).collect()),
            channels: channels.iter().map(channel).collect(),
            phase: Mutex::new(phase),
            is_ready: AtomicBool::new(false),
            drain: Mutex::new(None),
            left: AtomicU64::new(0),
            is_drained: AtomicBool::new(false),
            stands_still: Mutex::default(),
            feed,
            series: Series::default(),
        }
    }

    /// The meter of a pipeline, by its place in the configuration that is in force.
    #[must_use]
    pub fn pipeline(&self, index: usize) -> Option<Arc<PipelineMeter>> {
        self.pipelines.now().get(index).map(Arc::clone)
    }

    /// The meter of this name: the one there is or was, or a new one, which is shown once it is
    /// one of [`Self::set_pipelines`].
    #[must_use]
    pub fn meter_of(&self, name: &Arc<str>) -> Arc<PipelineMeter> {
        let known = self.pipelines.named(name);
        known.unwrap_or_else(|| Arc::new(PipelineMeter::new(name, self.feed.clone())))
    }

    /// From now on these are the pipelines. Those that were and are not any more rest.
    pub fn set_pipelines(&self, now: Vec<Arc<PipelineMeter>>) {
        self.pipelines.set(now);
    }

    /// The meter of a channel; one that nobody reads where the name is not known.
    #[must_use]
    pub fn channel(&self, name: &'static str) -> Arc<ChannelMeter> {
        let known = self.channels.iter().find(|(known, _)| *known == name);
        known.map_or_else(|| Arc::new(ChannelMeter::new(name, 0)), |(_, meter)| Arc::clone(meter))
    }

    /// The signs of life of each pipeline.
    #[must_use]
    pub fn signs(&self) -> Vec<Liveness> {
        self.pipelines.now().iter().map(|meter| meter.liveness()).collect()
    }

    /// Enters a phase of the service; files are taken in the one that is ready.
    pub fn set_phase(&self, phase: &'static str, is_ready: bool) {
        self.is_ready.store(is_ready, Relaxed);
        let mut now = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        metrics::gauge!(names::PHASE, "phase" => *now).set(0.0);
        metrics::gauge!(names::PHASE, "phase" => phase).set(1.0);
        *now = phase;
    }

    /// The drain begins, and may take so long.
    pub fn drains(&self, deadline: Duration) {
        let began = (Instant::now(), deadline, self.status().totals());
        *self.drain.lock().unwrap_or_else(PoisonError::into_inner) = Some(began);
    }

    /// Whether the service, or one pipeline of it, stands still with work to do, and why.
    pub fn stands_still(&self, all: Option<String>, part: Option<String>) {
        *self.stands_still.lock().unwrap_or_else(PoisonError::into_inner) = (all, part);
    }

    /// Why a new start is the only help, if so.
    #[must_use]
    pub fn not_alive(&self) -> Option<String> {
        self.stands_still.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Why files are not taken in, or not all, if so.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        self.status().not_ready().or_else(|| {
            let (all, part) = &*self.stands_still.lock().unwrap_or_else(PoisonError::into_inner);
            all.clone().or_else(|| part.clone())
        })
    }

    /// The drain is over, and left so many files.
    pub fn drained(&self, left: u64) {
        self.left.store(left, Relaxed);
        self.is_drained.store(true, Relaxed);
    }

    /// Files that are in work, or that the drain left.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        let in_work: u64 = self.signs().iter().map(|signs| signs.in_work).sum();
        in_work.max(self.left.load(Relaxed))
    }

    /// Outcomes as they happen.
    #[must_use]
    pub const fn feed(&self) -> &OutcomeStream {
        &self.feed
    }

    /// Ends an interval of the series, and gives its point.
    pub fn sample(&self) -> Point {
        let meters = self.pipelines.now();
        let latencies = meters.iter().map(|meter| (&*meter.name, meter.latency.counts())).collect();
        self.series.add(jiff::Timestamp::now().to_string(), &self.status(), &latencies)
    }

    /// The last hour, oldest first.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        self.series.points()
    }

    /// The oldest jobs in work, with their pipeline's name.
    #[must_use]
    pub fn working(&self, most: usize) -> Vec<(Arc<str>, InFlightView)> {
        let mut all: Vec<_> = self
            .pipelines
            .now()
            .iter()
            .flat_map(|meter| {
                meter.oldest_in_work(most).into_iter().map(|job| (Arc::clone(&meter.name), job))
            })
            .collect();
        all.sort_by_key(|(_, job)| (job.stage == Stage::Settle, job.since, job.id));
        all.truncate(most);
        all
    }

    /// Everything at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        let (now, removed) = (self.pipelines.now(), self.pipelines.removed());
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION"),
            phase: *self.phase.lock().unwrap_or_else(PoisonError::into_inner),
            is_ready: self.is_ready.load(Relaxed),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            held: now.iter().all(|meter| meter.is_held()),
            drain: None,
            pipelines: now.iter().map(|meter| meter.status()).collect(),
            removed: removed.iter().map(|meter| meter.status()).collect(),
            channels: self.channels.iter().map(|(_, meter)| meter.status()).collect(),
            stages: STAGES.map(|stage| self.stage(stage)).into(),
        };
        let began = *self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        status.drain = began.map(|(since, deadline, before)| {
            let drain = DrainStatus::of(since.elapsed(), deadline, &before, &status.totals());
            let left_files = drain.left_files.max(self.left.load(Relaxed));
            DrainStatus { left_files, ended: self.is_drained.load(Relaxed), ..drain }
        });
        status
    }

    fn stage(&self, stage: Stage) -> StageStatus {
        let meters = self.pipelines.now();
        let work = meters.iter().filter_map(|meter| meter.stages.get(&stage));
        let (files, nanos) = work.fold((0, 0), |(files, nanos), work| {
            (files + work.files.load(Relaxed), nanos + work.nanos.load(Relaxed))
        });
        let busy_seconds = Duration::from_nanos(nanos).as_secs_f64();
        StageStatus { stage, files, busy_seconds }
    }
}
