//! The work of one stage for one pipeline.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use metrics::Histogram;

use crate::sync::Mutex;

/// Work of one stage for one pipeline.
#[derive(Debug)]
pub(super) struct StageMeter {
    seconds: Histogram,
    files: AtomicU64,
    busy: Mutex<BusyTime>,
}

/// The time of all clocks of a stage.
#[derive(Debug, Default)]
struct BusyTime {
    /// The time of the clocks that have stopped.
    stopped: Duration,
    /// The starts of the clocks that run: at most one for each thread of the stage.
    running: Vec<Instant>,
}

impl StageMeter {
    pub(super) fn new(seconds: Histogram) -> Self {
        Self { seconds, files: AtomicU64::new(0), busy: Mutex::default() }
    }

    /// Adds the time of work that had no clock.
    pub(super) fn add(&self, took: Duration) {
        self.busy.lock().stopped += took;
    }

    pub(super) fn clock_started(&self, at: Instant) {
        self.busy.lock().running.push(at);
    }

    /// Stops the clock that was started at `since`, and returns its time.
    pub(super) fn clock_stopped(&self, since: Instant) -> Duration {
        let mut busy = self.busy.lock();
        let took = since.elapsed();
        if let Some(position) = busy.running.iter().position(|started| *started == since) {
            busy.running.swap_remove(position);
        }
        busy.stopped += took;
        took
    }

    /// Counts finished files, or a part of their work (no files). Their time was added before.
    pub(super) fn done(&self, files: usize, took: Duration) {
        self.seconds.record(took);
        self.files.fetch_add(files as u64, Relaxed);
    }

    pub(super) fn files(&self) -> u64 {
        self.files.load(Relaxed)
    }

    /// Returns the time until now, also of the clocks that run.
    pub(super) fn busy(&self) -> Duration {
        let busy = self.busy.lock();
        let now = Instant::now();
        let running = busy.running.iter().map(|since| now.saturating_duration_since(*since));
        busy.stopped + running.sum::<Duration>()
    }
}
