//! The pipelines that run, each an intake and its own stages, started and stopped one by one: a reload
//! needs no more than that, because the stages end by themselves when their intake has ended.
//!
//! I1: a stopped intake ends when every job of it has its outcome, so the next one of the same
//! pipeline never meets a file of it in work.
//! I2: an intake that cannot be started is found out before any is stopped.
//! I3: one that takes the place of a stopped one begins when that one has ended, however long it takes.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    context::Context,
    heartbeat::beating,
    intake::{self, Ended, Intake, discover::EventQueue},
    operator_pause::OperatorPause,
    wiring::{Stages, Wiring},
};

/// Clones are the same intakes. Holds none of them, nor a channel, open.
#[derive(Clone, Debug)]
pub struct Intakes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    running: Mutex<Vec<Running>>,
    /// Panics of intakes that a reload has stopped.
    panics: Mutex<u64>,
    /// Pipelines whose directories have not answered yet.
    late: Mutex<Vec<Arc<str>>>,
    once: bool,
    stop: CancellationToken,
    wiring: Wiring,
    /// Gone when the last thread of the pipelines has ended.
    alive: Weak<DropGuard>,
}

/// What all intakes have in common.
#[derive(Debug)]
pub struct SharedParts {
    pub once: bool,
    pub stop: CancellationToken,
    pub wiring: Wiring,
}

#[derive(Debug)]
struct Running {
    context: Arc<Context>,
    /// Closes this intake alone.
    stop: CancellationToken,
    ended: CancellationToken,
    hints: EventQueue,
    thread: JoinHandle<Ended>,
    /// Of its stages. They end after the intake.
    stages: Vec<JoinHandle<()>>,
}

/// Waits for the word, and for those before. Not, where there will be no word.
async fn begins(begun: oneshot::Receiver<Vec<CancellationToken>>) -> bool {
    let Ok(before) = begun.await else { return false };
    join_all(before.iter().map(CancellationToken::cancelled)).await;
    true
}

impl Running {
    fn is_stopping(&self) -> bool {
        self.stop.is_cancelled() && !self.ended.is_cancelled()
    }

    /// How the intake ended, and how many threads panicked. Blocks until all have ended.
    fn join(self) -> (Option<Ended>, u64) {
        let ended = self.thread.join().ok();
        let panicked = self.stages.into_iter().filter_map(|stage| stage.join().err()).count();
        (ended, panicked as u64 + u64::from(ended.is_none()))
    }
}

/// Stops every intake where one of them panics: the service ends with that, and its manager starts it
/// again.
struct StopsAll(CancellationToken);

impl Drop for StopsAll {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.cancel();
        }
    }
}

/// No pipeline has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no pipeline `{0}`")]
pub struct NoSuchPipeline(pub String);

/// The word to begin, with the ends of those that are waited for before.
type Begin = oneshot::Sender<Vec<CancellationToken>>;

/// Threads that wait for a word to begin. Dropping this ends them.
#[derive(Debug)]
#[must_use = "intakes begin by `Intakes::begin`"]
pub struct Prepared(Vec<(Running, Begin)>);

/// The operator's pauses of some pipelines.
#[derive(Debug)]
pub struct Pauses(Vec<(Arc<str>, Arc<OperatorPause>)>);

impl Pauses {
    /// Whether the operator pauses this pipeline; one that is not among them is paused where all of
    /// them are.
    #[must_use]
    pub fn has(&self, pipeline: &str) -> bool {
        let one = self.0.iter().find(|(name, _)| **name == *pipeline);
        let all = || !self.0.is_empty() && self.0.iter().all(|(_, hold)| hold.is_held());
        one.map_or_else(all, |(_, hold)| hold.is_held())
    }
}

impl Intakes {
    pub fn new(common: SharedParts, alive: &Arc<DropGuard>) -> Self {
        let SharedParts { once, stop, wiring } = common;
        let (running, panics, late) = (Mutex::default(), Mutex::default(), Mutex::default());
        let alive = Arc::downgrade(alive);
        Self(Arc::new(Inner { running, panics, late, once, stop, wiring, alive }))
    }

    /// These pipelines begin when their directories answer.
    pub fn expect(&self, names: Vec<Arc<str>>) {
        *self.late() = names;
    }

    /// Whether `--once` ends without having looked at one of its inputs.
    #[must_use]
    pub fn gave_up(&self) -> bool {
        self.0.once && !self.late().is_empty()
    }

    /// The pipelines whose directories have not answered yet.
    pub fn late(&self) -> MutexGuard<'_, Vec<Arc<str>>> {
        self.0.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Running>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread for each context, which waits. `pipelines` is how many there will be, those
    /// that go on included: the limits are divided among them. An error ends them, as the end of all
    /// pipelines is one.
    pub fn prepare(&self, contexts: Vec<Arc<Context>>, pipelines: usize) -> io::Result<Prepared> {
        let prepared = contexts.into_iter().map(|context| self.spawn(context, pipelines));
        prepared.collect::<io::Result<_>>().map(Prepared)
    }

    fn spawn(&self, context: Arc<Context>, pipelines: usize) -> io::Result<(Running, Begin)> {
        let Inner { once, wiring, alive, .. } = &*self.0;
        let Some(alive) = alive.upgrade() else {
            return Err(io::Error::other("the pipelines have ended"));
        };
        let Stages { outlet, threads: stages } = wiring.start(pipelines, &alive)?;
        let stop = self.0.stop.child_token();
        let ended = CancellationToken::new();
        let (hints, bell) = EventQueue::new();
        let (begin, begun) = oneshot::channel();
        let parts =
            intake::IntakeParts { once: *once, stop: stop.clone(), outlet, hints: hints.clone() };
        let (runtime, of, guard) =
            (wiring.runtime.clone(), Arc::clone(&context), ended.clone().drop_guard());
        let (meter, stop_all) = (Arc::clone(&context.meter), StopsAll(self.0.stop.clone()));
        let thread = thread::Builder::new().name("intake".to_owned()).spawn(move || {
            // Dropped after all that the intake held, a panic included.
            let _guards = (stop_all, alive, guard);
            let _entered = runtime.enter();
            let stop = parts.stop.clone();
            let begins = stop.run_until_cancelled(begins(begun));
            if runtime.block_on(beating(Arc::clone(&meter), begins)) != Some(true) {
                return Ended::default();
            }
            let (intake, wakers) = Intake::new(of, parts, bell);
            runtime.block_on(beating(meter, intake.run(wakers)))
        })?;
        Ok((Running { context, stop, ended, hints, thread, stages }, begin))
    }

    /// Lets prepared intakes begin, each when those whose files it may meet have ended.
    pub fn begin(&self, prepared: Prepared) {
        let mut running = self.lock();
        for (one, begin) in prepared.0 {
            let config = &one.context.config;
            let is_before = |other: &&Running| {
                other.stop.is_cancelled() && other.context.config.shares_files_with(config)
            };
            let before = running.iter().filter(is_before).map(|other| other.ended.clone());
            self.late().retain(|name| name != one.context.name());
            // One that has ended already was stopped with all others.
            begin.send(before.collect()).ok();
            running.push(one);
        }
    }

    /// Stops the intakes of these pipelines and waits until every job of them has its outcome, at most
    /// for this long: those that still work then end by themselves, and what takes their place waits.
    /// Dropped midway, they are stopped all the same.
    pub async fn stop(&self, names: &[Arc<str>], within: Duration) {
        self.late().retain(|name| !names.contains(name));
        let ended: Vec<_> = {
            let running = self.lock();
            let of = running.iter().filter(|one| names.contains(one.context.name()));
            of.map(|one| {
                one.stop.cancel();
                one.ended.clone()
            })
            .collect()
        };
        let all = join_all(ended.iter().map(CancellationToken::cancelled));
        let in_time = timeout(within, all).await.is_ok();
        if !in_time {
            for one in self.lock().iter().filter(|one| one.is_stopping()) {
                let files = one.context.meter.liveness().in_flight;
                tracing::warn!(event = "pipeline.busy", pipeline = %one.context.name(), files, "stopped pipeline still busy, its successor waits");
            }
        }
        let ended: Vec<_> = self.lock().extract_if(.., |one| one.ended.is_cancelled()).collect();
        for one in ended {
            let name = Arc::clone(one.context.name());
            // Its threads may still be in a call: not on a thread of the runtime.
            let joined = tokio::task::spawn_blocking(move || one.join()).await;
            let (ended, panics) = joined.unwrap_or((None, 1));
            let left = ended.map_or(0, |ended| ended.left);
            if left > 0 {
                tracing::info!(event = "pipeline.files_left", pipeline = %name, files = left, "unfinished files left in the input");
            }
            *self.0.panics.lock().unwrap_or_else(PoisonError::into_inner) += panics;
        }
    }

    /// Scans every input again, or one.
    pub fn rescan(&self, pipeline: Option<&str>) -> Result<(), NoSuchPipeline> {
        self.each(pipeline, |one| one.hints.scan())
    }

    /// Holds or lets go the intake of one pipeline, or of all.
    pub fn set_paused(&self, pipeline: Option<&str>, held: bool) -> Result<(), NoSuchPipeline> {
        self.each(pipeline, |one| {
            one.context.hold.set(held);
            one.hints.wake();
        })
    }

    fn each(&self, pipeline: Option<&str>, act: impl Fn(&Running)) -> Result<(), NoSuchPipeline> {
        let running = self.lock();
        let is_meant = |one: &&Running| pipeline.is_none_or(|name| **one.context.name() == *name);
        let mut chosen = running.iter().filter(is_meant).peekable();
        if let (Some(name), None) = (pipeline, chosen.peek()) {
            return Err(NoSuchPipeline(name.to_owned()));
        }
        chosen.for_each(act);
        Ok(())
    }

    /// The operator's pauses of those that run now, to be asked when some of them run no more.
    #[must_use]
    pub fn pauses(&self) -> Pauses {
        let pause = |one: &Running| (Arc::clone(one.context.name()), Arc::clone(&one.context.hold));
        Pauses(self.lock().iter().map(pause).collect())
    }

    /// How each of them ended, and how many of their threads panicked, those of stopped ones
    /// included. Blocks until they have.
    #[must_use]
    pub fn join(&self) -> (Vec<Ended>, u64) {
        let running = std::mem::take(&mut *self.lock());
        let mut panics = *self.0.panics.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::with_capacity(running.len());
        for (ended, panicked) in running.into_iter().map(Running::join) {
            all.extend(ended);
            panics += panicked;
        }
        (all, panics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_panic_of_one_intake_stops_all_and_its_end_does_not() {
        for panics in [false, true] {
            let stop = CancellationToken::new();
            let guard = StopsAll(stop.clone());
            let intake = thread::spawn(move || {
                let _guard = guard;
                assert!(!panics, "a panic on purpose");
            });
            assert_eq!(intake.join().is_err(), panics);
            assert_eq!(stop.is_cancelled(), panics);
        }
    }
}
