//! Signs of life: who is to be told that the service is well asks here whether it is.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// What one pipeline showed last.
#[derive(Debug)]
pub(super) struct Heartbeats {
    turned: Mutex<Instant>,
    moved: AtomicU64,
}

impl Heartbeats {
    pub fn new() -> Self {
        Self { turned: Mutex::new(Instant::now()), moved: AtomicU64::new(0) }
    }

    pub fn beat(&self) {
        *self.turned.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub fn progressed(&self) {
        self.moved.fetch_add(1, Relaxed);
    }

    pub fn movement(&self) -> u64 {
        self.moved.load(Relaxed)
    }

    pub fn silent(&self) -> Duration {
        self.turned.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// One pipeline at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Liveness {
    pub name: String,
    /// Since its intake's thread was last seen to turn.
    pub silent: Duration,
    /// Grows with every piece of work.
    pub movement: u64,
    pub in_work: u64,
    /// Its place is known to be sick.
    pub is_paused: bool,
}
