//! All measurements of one service.

use std::{
    sync::{
        Arc,
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
use crate::{phase::ProcessPhase, stage::Stage, sync::Mutex};

/// All measurements of one service.
#[derive(Debug)]
pub struct Observer {
    started: Instant,
    pipelines: Pipelines,
    channels: Vec<(&'static str, Arc<ChannelMeter>)>,
    phase: Mutex<ProcessPhase>,
    /// Start of the drain, its deadline, and the totals at its start.
    drain: Mutex<Option<(Instant, Duration, Totals)>>,
    /// Number of files that the drain deferred, once it is over.
    deferred_by_drain: AtomicU64,
    is_drained: AtomicBool,
    /// Reasons of a stall of the service, and of one pipeline. The watchdog writes them.
    stall: Mutex<(Option<String>, Option<String>)>,
    outcome_stream: OutcomeStream,
    series: Series,
}

impl Observer {
    /// Makes meters of these pipelines and channels (with their capacities). The recorder must be
    /// installed before, or only the plain numbers are kept.
    pub fn new(pipelines: &[Arc<str>], channels: &[(&'static str, usize)]) -> Self {
        let channel = |(name, capacity): &(&'static str, usize)| {
            (*name, Arc::new(ChannelMeter::new(name, *capacity)))
        };
        let phase = ProcessPhase::Starting;
        metrics::gauge!(names::PHASE, "phase" => phase.as_str()).set(1.0);
        let outcome_stream = OutcomeStream::default();
        let pipeline = |name: &Arc<str>| Arc::new(PipelineMeter::new(name, outcome_stream.clone()));
        metrics::counter!(names::TRACES_DROPPED).increment(0);
        metrics::counter!(names::LOG_DROPPED).increment(0);
        Self {
            started: Instant::now(),
            pipelines: Pipelines::new(pipelines.iter().map(pipeline).collect()),
            channels: channels.iter().map(channel).collect(),
            phase: Mutex::new(phase),
            drain: Mutex::new(None),
            deferred_by_drain: AtomicU64::new(0),
            is_drained: AtomicBool::new(false),
            stall: Mutex::default(),
            outcome_stream,
            series: Series::default(),
        }
    }

    /// Returns the meter of a pipeline, by its index in the configuration in force.
    #[must_use]
    pub fn pipeline(&self, index: usize) -> Option<Arc<PipelineMeter>> {
        self.pipelines.now().get(index).map(Arc::clone)
    }

    /// Returns the current or removed meter of this name, or a new one, which counts once it is passed
    /// to [`Self::set_pipelines`].
    #[must_use]
    pub fn meter_of(&self, name: &Arc<str>) -> Arc<PipelineMeter> {
        let existing = self.pipelines.named(name);
        existing.unwrap_or_else(|| Arc::new(PipelineMeter::new(name, self.outcome_stream.clone())))
    }

    /// Replaces the pipelines. Meters of removed pipelines are kept and cleared.
    pub fn set_pipelines(&self, now: Vec<Arc<PipelineMeter>>) {
        self.pipelines.set(now);
    }

    /// Returns the meter of a channel, or a detached one for an unknown name.
    #[must_use]
    pub fn channel(&self, name: &'static str) -> Arc<ChannelMeter> {
        let channel = self.channels.iter().find(|(channel, _)| *channel == name);
        channel.map_or_else(|| Arc::new(ChannelMeter::new(name, 0)), |(_, meter)| Arc::clone(meter))
    }

    /// Returns the liveness of each pipeline.
    #[must_use]
    pub fn liveness(&self) -> Vec<Liveness> {
        self.pipelines.now().iter().map(|meter| meter.liveness()).collect()
    }

    /// Sets the phase of the process.
    pub fn set_phase(&self, phase: ProcessPhase) {
        let mut current = self.phase.lock();
        metrics::gauge!(names::PHASE, "phase" => current.as_str()).set(0.0);
        metrics::gauge!(names::PHASE, "phase" => phase.as_str()).set(1.0);
        *current = phase;
    }

    /// Records the start of the drain and its deadline.
    pub fn drain_started(&self, deadline: Duration) {
        let started = (Instant::now(), deadline, self.status().totals());
        *self.drain.lock() = Some(started);
    }

    /// Sets the reason of a stall of the service, and the stalled pipelines.
    pub fn set_stall(&self, service: Option<String>, pipelines: Option<String>) {
        *self.stall.lock() = (service, pipelines);
    }

    /// Returns the reason if only a restart helps.
    #[must_use]
    pub fn not_alive(&self) -> Option<String> {
        self.stall.lock().0.clone()
    }

    /// Returns the reason if a pipeline accepts no files.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        self.status().not_ready().or_else(|| {
            let (service, pipelines) = &*self.stall.lock();
            service.clone().or_else(|| pipelines.clone())
        })
    }

    /// Records the end of the drain and the number of deferred files.
    pub fn drain_finished(&self, deferred: u64) {
        self.deferred_by_drain.store(deferred, Relaxed);
        self.is_drained.store(true, Relaxed);
    }

    /// Returns the number of files in flight, or deferred by the drain.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        let in_flight: u64 = self.liveness().iter().map(|pipeline| pipeline.in_flight).sum();
        in_flight.max(self.deferred_by_drain.load(Relaxed))
    }

    /// Returns the stream of outcomes.
    #[must_use]
    pub const fn outcome_stream(&self) -> &OutcomeStream {
        &self.outcome_stream
    }

    /// Ends an interval of the time series and returns its point.
    pub fn sample(&self) -> Point {
        let meters = self.pipelines.now();
        let latencies = meters.iter().map(|meter| (&*meter.name, meter.latency.counts())).collect();
        self.series.add(jiff::Timestamp::now().to_string(), &self.status(), &latencies)
    }

    /// Returns the points of the last hour, oldest first.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        self.series.points()
    }

    /// Returns the oldest files in flight of all pipelines, at most `max`, with the pipeline's name.
    #[must_use]
    pub fn in_flight(&self, max: usize) -> Vec<(Arc<str>, InFlightView)> {
        let mut all: Vec<_> = self
            .pipelines
            .now()
            .iter()
            .flat_map(|meter| {
                meter.oldest_in_flight(max).into_iter().map(|job| (Arc::clone(&meter.name), job))
            })
            .collect();
        all.sort_by_key(|(_, job)| (job.stage == Stage::Settle, job.since, job.id));
        all.truncate(max);
        all
    }

    /// Returns a snapshot.
    #[must_use]
    pub fn status(&self) -> Status {
        let (current, removed) = (self.pipelines.now(), self.pipelines.removed());
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION"),
            phase: *self.phase.lock(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            paused_by_operator: current.iter().all(|meter| meter.is_paused_by_operator()),
            drain: None,
            pipelines: current.iter().map(|meter| meter.status()).collect(),
            removed: removed.iter().map(|meter| meter.status()).collect(),
            channels: self.channels.iter().map(|(_, meter)| meter.status()).collect(),
            stages: STAGES.map(|stage| self.stage(stage)).into(),
        };
        let drain = *self.drain.lock();
        status.drain = drain.map(|(since, deadline, before)| {
            let drain = DrainStatus::of(since.elapsed(), deadline, &before, &status.totals());
            let unfinished_files = drain.unfinished_files.max(self.deferred_by_drain.load(Relaxed));
            DrainStatus { unfinished_files, ended: self.is_drained.load(Relaxed), ..drain }
        });
        status
    }

    fn stage(&self, stage: Stage) -> StageStatus {
        let meters = self.pipelines.now();
        let work = meters.iter().filter_map(|meter| meter.stages.get(&stage));
        let (files, busy) = work.fold((0, Duration::ZERO), |(files, busy), work| {
            (files + work.files(), busy + work.busy())
        });
        StageStatus { stage, files, busy_seconds: busy.as_secs_f64() }
    }
}
