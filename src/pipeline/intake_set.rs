//! The running pipelines, each an intake and its own stages, started and stopped one by one: a reload
//! needs no more than that, because the stages end automatically after their intake.
//!
//! I1: a stopped intake ends when every job of it has its outcome, so the next intake of the same
//! pipeline never finds a file of it in flight.
//! I2: the failed start of an intake is detected before any other intake is stopped.
//! I3: the successor of a stopped intake begins when that intake has ended, however long it takes.

mod stopped;

use std::{
    io,
    sync::{Arc, MutexGuard, Weak},
    thread::{self, JoinHandle},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::stopped::{Stopped, without_predecessors};
use super::{
    context::Context,
    heartbeat::with_heartbeat,
    intake::{self, Intake, IntakeSummary},
    operator_pause::OperatorPause,
    priority::Peers,
    wiring::{Stages, Wiring},
};
use crate::{source::event_queue::EventQueue, sync::Mutex};

/// The set of intakes. Clones share it. It keeps no intake and no channel open.
#[derive(Clone, Debug)]
pub struct Intakes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    running: Mutex<Vec<RunningIntake>>,
    stopped: Mutex<Stopped>,
    /// The pauses of the pipelines whose directories have not responded yet.
    late: Mutex<Vec<Arc<OperatorPause>>>,
    /// The pauses of all pipelines when a reload began, until its pipelines begin.
    reloading: Mutex<Vec<Arc<OperatorPause>>>,
    once: bool,
    /// Closes all intakes.
    stop: CancellationToken,
    wiring: Wiring,
    /// Dropped when the last thread of the pipelines has ended.
    alive: Weak<DropGuard>,
}

/// The state that all intakes share.
#[derive(Debug)]
pub struct SharedParts {
    pub once: bool,
    pub stop: CancellationToken,
    pub wiring: Wiring,
}

#[derive(Debug)]
struct RunningIntake {
    context: Arc<Context>,
    /// Closes this intake only.
    stop: CancellationToken,
    /// Cancelled when its input is watched, or cannot be for now.
    watching: CancellationToken,
    /// Cancelled when the intake's thread has ended.
    ended: CancellationToken,
    events: EventQueue,
    thread: JoinHandle<IntakeSummary>,
    /// The threads of its stages. They end after the intake.
    stages: Vec<JoinHandle<()>>,
}

/// Waits for the start signal and then for the predecessors; false if the signal will never come.
async fn wait_for_start(start: oneshot::Receiver<Vec<CancellationToken>>) -> bool {
    let Ok(predecessors) = start.await else { return false };
    join_all(predecessors.iter().map(CancellationToken::cancelled)).await;
    true
}

impl RunningIntake {
    fn is_stopping(&self) -> bool {
        self.stop.is_cancelled() && !self.ended.is_cancelled()
    }

    /// Returns the intake's summary and the number of panicked threads. Blocks until all have ended.
    fn join(self) -> (Option<IntakeSummary>, u64) {
        let summary = self.thread.join().ok();
        let panicked = self.stages.into_iter().filter_map(|stage| stage.join().err()).count();
        (summary, panicked as u64 + u64::from(summary.is_none()))
    }
}

/// Stops every intake if the thread that holds it panics: this ends the service, and its manager
/// restarts it.
struct StopAllOnPanic(CancellationToken);

impl Drop for StopAllOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.cancel();
        }
    }
}

/// The error of a name that no pipeline has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no pipeline `{0}`")]
pub struct NoSuchPipeline(pub String);

/// The start signal, with the `ended` tokens of the predecessors.
type StartSignal = oneshot::Sender<Vec<CancellationToken>>;

/// Threads that wait for their start signal. Dropping this ends them.
#[derive(Debug)]
#[must_use = "intakes begin by `Intakes::begin`"]
pub struct PreparedIntakes(Vec<(RunningIntake, StartSignal)>);

impl Intakes {
    pub fn new(parts: SharedParts, alive: &Arc<DropGuard>) -> Self {
        let SharedParts { once, stop, wiring } = parts;
        let (running, stopped) = (Mutex::default(), Mutex::default());
        let (late, reloading) = (Mutex::default(), Mutex::default());
        let alive = Arc::downgrade(alive);
        Self(Arc::new(Inner { running, stopped, late, reloading, once, stop, wiring, alive }))
    }

    /// Sets the pipelines that begin later, when their directories respond.
    pub fn expect(&self, pauses: Vec<OperatorPause>) {
        *self.late() = pauses.into_iter().map(Arc::new).collect();
    }

    /// Checks whether `--once` ends without a scan of one of its inputs.
    #[must_use]
    pub fn gave_up(&self) -> bool {
        self.0.once && !self.late().is_empty()
    }

    /// Checks whether the directories of a pipeline have not responded yet.
    #[must_use]
    pub fn is_late(&self, name: &str) -> bool {
        self.late().iter().any(|pause| **pause.name() == *name)
    }

    fn late(&self) -> MutexGuard<'_, Vec<Arc<OperatorPause>>> {
        self.0.late.lock()
    }

    fn reloading(&self) -> MutexGuard<'_, Vec<Arc<OperatorPause>>> {
        self.0.reloading.lock()
    }

    fn stopped(&self) -> MutexGuard<'_, Stopped> {
        self.0.stopped.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RunningIntake>> {
        self.0.running.lock()
    }

    /// Starts a waiting thread for each context. `peers` are the pipelines after the start, including those that
    /// continue: the limits are divided among them. An error ends the new
    /// threads. Fails after the end of all pipelines.
    pub fn prepare(
        &self,
        contexts: Vec<Arc<Context>>,
        peers: Peers,
    ) -> io::Result<PreparedIntakes> {
        let prepared = contexts.into_iter().map(|context| self.spawn(context, peers));
        prepared.collect::<io::Result<_>>().map(PreparedIntakes)
    }

    fn spawn(
        &self,
        context: Arc<Context>,
        peers: Peers,
    ) -> io::Result<(RunningIntake, StartSignal)> {
        let Inner { once, wiring, alive, .. } = &*self.0;
        let Some(alive) = alive.upgrade() else {
            return Err(io::Error::other("the pipelines have ended"));
        };
        let Stages { outlet, threads: stages } = wiring.start(&context, peers, &alive)?;
        let stop = self.0.stop.child_token();
        let (watching, ended) = (CancellationToken::new(), CancellationToken::new());
        let (events, wake) = EventQueue::new();
        let (start_signal, start) = oneshot::channel();
        let parts =
            intake::IntakeParts { once: *once, stop: stop.clone(), outlet, events: events.clone() };
        let (runtime, intake_context, ended_guard) =
            (wiring.runtime.clone(), Arc::clone(&context), ended.clone().drop_guard());
        let (meter, stop_all) = (Arc::clone(&context.meter), StopAllOnPanic(self.0.stop.clone()));
        let watching_guard = watching.clone().drop_guard();
        let thread = thread::Builder::new().name("intake".to_owned()).spawn(move || {
            // Dropped after everything that the intake holds, also by a panic.
            let _guards = (stop_all, alive, ended_guard);
            let _entered = runtime.enter();
            let stop = parts.stop.clone();
            let start = stop.run_until_cancelled(wait_for_start(start));
            if runtime.block_on(with_heartbeat(Arc::clone(&meter), start)) != Some(true) {
                return IntakeSummary::default();
            }
            let (intake, wakers) = Intake::new(intake_context, parts, wake);
            drop(watching_guard);
            runtime.block_on(with_heartbeat(meter, intake.run(wakers)))
        })?;
        let running = RunningIntake { context, stop, watching, ended, events, thread, stages };
        Ok((running, start_signal))
    }

    /// Starts prepared intakes, each after the end of its predecessors: the stopped intakes with which
    /// it shares files. One that the operator paused under its name begins paused; a new one does if all
    /// others are.
    pub fn begin(&self, prepared: PreparedIntakes) {
        let mut running = self.lock();
        let pauses = self.end_reload();
        for (intake, start_signal) in prepared.0 {
            let config = &intake.context.config;
            let is_predecessor = |other: &&RunningIntake| {
                other.stop.is_cancelled() && other.context.config.shares_files_with(config)
            };
            let predecessors =
                running.iter().filter(is_predecessor).map(|other| other.ended.clone());
            let name = intake.context.name();
            let found = pauses.iter().find(|pause| pause.name() == name);
            let all = || !pauses.is_empty() && pauses.iter().all(|pause| pause.is_paused());
            let is_paused = found.map_or_else(all, |pause| pause.is_paused());
            intake.context.operator_pause.set(is_paused);
            self.late().retain(|pause| pause.name() != name);
            // A receiver is gone only after a stop of all intakes.
            start_signal.send(predecessors.collect()).ok();
            running.push(intake);
        }
    }

    /// Waits until the intakes watch their inputs, at most for `limit`: one that does not respond holds up
    /// no other.
    pub async fn watching(&self, limit: Duration) {
        let watching: Vec<_> = self.lock().iter().map(|intake| intake.watching.clone()).collect();
        let all = join_all(watching.iter().map(CancellationToken::cancelled));
        drop(timeout(limit, all).await);
    }

    /// Stops the intakes of these pipelines and waits until every job of them has its outcome, at most
    /// for `limit`: an intake that is still busy then ends later, and its successor waits. If this
    /// future is dropped midway, they are stopped all the same.
    pub async fn stop(&self, names: &[Arc<str>], limit: Duration) {
        self.late().retain(|pause| !names.contains(pause.name()));
        let ended: Vec<_> = {
            let running = self.lock();
            let stopped = running.iter().filter(|intake| names.contains(intake.context.name()));
            stopped
                .map(|intake| {
                    intake.stop.cancel();
                    intake.ended.clone()
                })
                .collect()
        };
        let all = join_all(ended.iter().map(CancellationToken::cancelled));
        let is_in_time = timeout(limit, all).await.is_ok();
        if !is_in_time {
            for intake in self.lock().iter().filter(|intake| intake.is_stopping()) {
                let files = intake.context.meter.liveness().in_flight;
                tracing::warn!(event = "pipeline.busy", pipeline = %intake.context.name(), files, "stopped pipeline still busy, its successor waits");
            }
        }
        let this = self.clone();
        // Their threads may still be in a call, which must not block the runtime.
        drop(tokio::task::spawn_blocking(move || this.join_stopped()).await);
    }

    /// Joins the stopped intakes that have ended. [`Self::join`] waits for this.
    fn join_stopped(&self) {
        let mut stopped = self.stopped();
        let ended: Vec<_> =
            self.lock().extract_if(.., |intake| intake.ended.is_cancelled()).collect();
        for intake in ended {
            let context = Arc::clone(&intake.context);
            let (summary, panics) = intake.join();
            let summary = summary.unwrap_or_default();
            let files = summary.unfinished;
            if files > 0 {
                tracing::info!(event = "pipeline.files_deferred", pipeline = %context.name(), files, "unfinished files stay in the input");
            }
            stopped.panics += panics;
            stopped.with_unfinished += u64::from(context.has_unfinished());
            let input = &context.config.input;
            stopped.inputs.retain(|(earlier, _)| !summary.has_begun || earlier != input);
            stopped.inputs.push((input.clone(), summary));
        }
    }

    /// Scans one input again, or all.
    pub fn rescan(&self, pipeline: Option<&str>) -> Result<(), NoSuchPipeline> {
        self.for_each(pipeline, |intake| intake.events.scan(), |_| ())
    }

    /// Pauses or resumes the intake of one pipeline, or of all.
    pub fn set_paused(&self, pipeline: Option<&str>, paused: bool) -> Result<(), NoSuchPipeline> {
        let set = |intake: &RunningIntake| {
            intake.context.operator_pause.set(paused);
            intake.events.wake();
        };
        self.for_each(pipeline, set, |late| late.set(paused))
    }

    fn for_each(
        &self,
        pipeline: Option<&str>,
        action: impl Fn(&RunningIntake),
        late_action: impl Fn(&Arc<OperatorPause>),
    ) -> Result<(), NoSuchPipeline> {
        let is_selected = |name: &Arc<str>| pipeline.is_none_or(|selected| **name == *selected);
        let (running, late, reloading) = (self.lock(), self.late(), self.reloading());
        let running = running.iter().filter(|intake| is_selected(intake.context.name()));
        let late = late.iter().chain(&*reloading).filter(|pause| is_selected(pause.name()));
        let count = running.map(action).count() + late.map(late_action).count();
        match pipeline {
            Some(name) if count == 0 => Err(NoSuchPipeline(name.to_owned())),
            _ => Ok(()),
        }
    }

    /// Keeps the operator's pauses of all pipelines until the pipelines of a reload begin. What the operator
    /// sets until then changes these, too.
    pub fn begin_reload(&self) {
        let (running, late) = (self.lock(), self.late());
        let running = running.iter().map(|intake| Arc::clone(&intake.context.operator_pause));
        *self.reloading() = running.chain(late.iter().cloned()).collect();
    }

    /// Returns the pauses that count for pipelines that begin now.
    fn end_reload(&self) -> Vec<Arc<OperatorPause>> {
        let reloading = std::mem::take(&mut *self.reloading());
        if reloading.is_empty() { self.late().clone() } else { reloading }
    }

    /// Returns the summary of each intake, and the number of panicked threads, including those of
    /// stopped pipelines. Blocks until all have ended.
    #[must_use]
    pub fn join(&self) -> (Vec<IntakeSummary>, u64) {
        let mut stopped = self.stopped();
        let Stopped { mut panics, mut with_unfinished, mut inputs } = std::mem::take(&mut *stopped);
        let running = std::mem::take(&mut *self.lock());
        for intake in running {
            let context = Arc::clone(&intake.context);
            let (summary, panicked) = intake.join();
            inputs.push((context.config.input.clone(), summary.unwrap_or_default()));
            with_unfinished += u64::from(context.has_unfinished());
            panics += panicked;
        }
        (without_predecessors(inputs, with_unfinished), panics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_panic_of_one_intake_stops_all_and_its_end_does_not() {
        for panics in [false, true] {
            let stop = CancellationToken::new();
            let guard = StopAllOnPanic(stop.clone());
            let intake = thread::spawn(move || {
                let _guard = guard;
                assert!(!panics, "a panic on purpose");
            });
            assert_eq!(intake.join().is_err(), panics);
            assert_eq!(stop.is_cancelled(), panics);
        }
    }
}
