//! Liveness of the pipelines, for the watchdog and the probes.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::sync::Mutex;

/// Last heartbeat and progress of one pipeline.
#[derive(Debug)]
pub(super) struct Heartbeats {
    beat_at: Mutex<Instant>,
    progress: AtomicU64,
}

impl Heartbeats {
    pub fn new() -> Self {
        Self { beat_at: Mutex::new(Instant::now()), progress: AtomicU64::new(0) }
    }

    pub fn beat(&self) {
        *self.beat_at.lock() = Instant::now();
    }

    pub fn progressed(&self) {
        self.progress.fetch_add(1, Relaxed);
    }

    pub fn progress(&self) -> u64 {
        self.progress.load(Relaxed)
    }

    pub fn silent(&self) -> Duration {
        self.beat_at.lock().elapsed()
    }
}

/// Snapshot of one pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Liveness {
    pub name: String,
    /// Time since the last heartbeat of its intake.
    pub silent: Duration,
    /// Grows with every piece of work done.
    pub progress: u64,
    /// Number of files in flight.
    pub in_flight: u64,
    /// Whether it is paused because storage is unavailable.
    pub is_paused: bool,
}
