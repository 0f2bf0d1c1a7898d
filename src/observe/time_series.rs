//! The time series of the last hour, one point per interval. Bounded, and in memory only.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use serde::Serialize;

use super::{histogram::Counts, status::Status};
use crate::limits;

/// Counts of one interval, and gauges at its end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// End of the interval: RFC 3339, UTC.
    pub at: String,
    pub files: u64,
    pub source_bytes: u64,
    pub output_bytes: u64,
    pub quarantined: u64,
    /// Latency from settle to acknowledgement.
    pub p50_seconds: Option<f64>,
    pub p99_seconds: Option<f64>,
    pub in_work: u64,
    pub pending: u64,
}

/// At most [`limits::SAMPLES_MAX`] points.
#[derive(Debug, Default)]
pub struct Series(Mutex<SampleRing>);

#[derive(Debug, Default)]
struct SampleRing {
    points: VecDeque<Point>,
    /// Totals at the last point.
    before: Sums,
}

#[derive(Clone, Debug, Default)]
struct Sums {
    files: u64,
    source_bytes: u64,
    output_bytes: u64,
    quarantined: u64,
    latency: Counts,
}

impl Series {
    /// Adds the point of the interval that ends now.
    pub fn add(&self, at: String, status: &Status, latency: Counts) -> Point {
        let totals = status.totals();
        let now = Sums {
            files: totals.published,
            source_bytes: totals.source_bytes,
            output_bytes: totals.output_bytes,
            quarantined: totals.quarantined,
            latency,
        };
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Sums { files, source_bytes, output_bytes, quarantined, latency } =
            std::mem::replace(&mut ring.before, now.clone());
        let latency = now.latency.since(&latency);
        let point = Point {
            at,
            files: now.files.saturating_sub(files),
            source_bytes: now.source_bytes.saturating_sub(source_bytes),
            output_bytes: now.output_bytes.saturating_sub(output_bytes),
            quarantined: now.quarantined.saturating_sub(quarantined),
            p50_seconds: latency.quantile(0.5),
            p99_seconds: latency.quantile(0.99),
            in_work: totals.in_work,
            pending: status.pipelines.iter().map(|pipeline| pipeline.pending).sum(),
        };
        if ring.points.len() >= limits::SAMPLES_MAX {
            ring.points.pop_front();
        }
        ring.points.push_back(point.clone());
        point
    }

    /// Returns the points, oldest first.
    pub fn points(&self) -> Vec<Point> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).points.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::observe::{Observer, OutcomeKind};

    #[test]
    fn a_point_counts_its_interval() {
        let observer = Observer::new(&["main".into()], &[("claim", 64)]);
        let meter = observer.pipeline(0).expect("a pipeline");
        meter.outcome(OutcomeKind::Published, 100, 10);
        meter.acknowledged(Duration::from_millis(8));
        let first = observer.sample();
        assert_eq!((first.files, first.source_bytes, first.output_bytes), (1, 100, 10));
        let median = first.p50_seconds.expect("one file");
        assert!((0.008..0.0091).contains(&median), "{median}");
        meter.outcome(OutcomeKind::Quarantined, 1, 0);
        meter.pending(3, Duration::ZERO);
        let second = observer.sample();
        assert_eq!((second.files, second.quarantined, second.pending), (0, 1, 3));
        assert_eq!((second.p50_seconds, second.p99_seconds), (None, None));
        assert_eq!(observer.points(), [first, second]);
    }

    #[test]
    fn the_oldest_points_are_dropped() {
        let observer = Observer::new(&["main".into()], &[]);
        let meter = observer.pipeline(0).expect("a pipeline");
        observer.sample();
        for _ in 0..limits::SAMPLES_MAX {
            meter.outcome(OutcomeKind::Published, 1, 1);
            observer.sample();
        }
        let points = observer.points();
        assert_eq!(points.len(), limits::SAMPLES_MAX);
        assert!(points.iter().all(|point| point.files == 1), "the first was dropped");
    }
}
