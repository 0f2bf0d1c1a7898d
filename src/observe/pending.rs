//! The pending files of one pipeline, as the intake counts them about once a second.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::sync::Mutex;

use metrics::Gauge;

/// The file that waits for the longest time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldestPending {
    /// Path below the input.
    pub source: PathBuf,
    pub age: Duration,
}

/// The latest count, less the files that were sent since.
#[derive(Debug)]
pub struct PendingMeter {
    gauge: Gauge,
    files: AtomicU64,
    /// Of the files that were looked at.
    bytes: AtomicU64,
    oldest_gauge: Gauge,
    oldest: Mutex<Option<OldestPending>>,
}

impl PendingMeter {
    pub fn new(gauge: Gauge, oldest_gauge: Gauge) -> Self {
        let (files, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { gauge, files, bytes, oldest_gauge, oldest: Mutex::default() }
    }

    /// Records a count.
    pub fn set(&self, files: usize, bytes: u64, oldest: Option<OldestPending>) {
        self.files.store(files as u64, Relaxed);
        self.bytes.store(bytes, Relaxed);
        self.gauge.set(u32::try_from(files).unwrap_or(u32::MAX));
        let age = oldest.as_ref().map_or(Duration::ZERO, |oldest| oldest.age);
        self.oldest_gauge.set(age.as_secs_f64());
        *self.oldest.lock() = oldest;
    }

    /// Records that a file is in flight now, so that it does not count twice until the next count.
    pub fn sent(&self, bytes: u64) {
        for (count, sent) in [(&self.files, 1), (&self.bytes, bytes)] {
            count.fetch_update(Relaxed, Relaxed, |count| Some(count.saturating_sub(sent))).ok();
        }
    }

    pub fn files(&self) -> u64 {
        self.files.load(Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub fn oldest(&self) -> Option<OldestPending> {
        self.oldest.lock().clone()
    }
}
