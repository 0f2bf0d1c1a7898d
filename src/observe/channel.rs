//! The meter of all channels with one name: each pipeline has one such channel.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram};

use super::{outcomes::add, prometheus as names, status::ChannelStatus};

/// The meter of all channels with one name. Their depth is the entered items less the received ones.
#[derive(Debug)]
pub struct ChannelMeter {
    name: &'static str,
    /// Capacity of one channel, in items.
    capacity: usize,
    open: (Gauge, AtomicUsize),
    entered: (Counter, AtomicU64),
    left: (Counter, AtomicU64),
    waited: (Histogram, AtomicU64),
}

impl ChannelMeter {
    pub(super) fn new(name: &'static str, capacity: usize) -> Self {
        let counted = |metric| (metrics::counter!(metric, "channel" => name), AtomicU64::new(0));
        let meter = Self {
            name,
            capacity,
            open: (metrics::gauge!(names::CAPACITY, "channel" => name), AtomicUsize::new(0)),
            entered: counted(names::ENTERED),
            left: counted(names::LEFT),
            waited: (
                metrics::histogram!(names::BACKPRESSURE_SECONDS, "channel" => name),
                AtomicU64::new(0),
            ),
        };
        for (counter, _) in [&meter.entered, &meter.left] {
            counter.increment(0);
        }
        meter.show_capacity();
        meter
    }

    /// Records the opening of a channel.
    pub fn opened(&self) {
        self.open.1.fetch_add(1, Relaxed);
        self.show_capacity();
    }

    /// Records the closing of a channel.
    pub fn closed(&self) {
        self.open.1.fetch_sub(1, Relaxed);
        self.show_capacity();
    }

    fn show_capacity(&self) {
        self.open.0.set(u32::try_from(self.capacity()).unwrap_or(u32::MAX));
    }

    /// Returns the capacity of all open channels, or of one if none is open.
    fn capacity(&self) -> usize {
        self.capacity * self.open.1.load(Relaxed).max(1)
    }

    pub fn entered(&self) {
        add(&self.entered, 1);
    }

    pub fn left(&self, items: u64) {
        add(&self.left, items);
    }

    pub fn waited(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.waited.1.fetch_add(nanos, Relaxed);
        self.waited.0.record(time);
    }

    pub(super) fn status(&self) -> ChannelStatus {
        let left = self.left.1.load(Relaxed);
        let entered = self.entered.1.load(Relaxed);
        ChannelStatus {
            name: self.name.into(),
            capacity: self.capacity(),
            queued: entered.saturating_sub(left),
            entered,
            waited_seconds: Duration::from_nanos(self.waited.1.load(Relaxed)).as_secs_f64(),
        }
    }
}
