//! The last hour in points: what happened in each interval. Bounded, and kept in memory only.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{
    histogram::Counts,
    status::{PipelineStatus, Status},
};
use crate::{limits, sync::Mutex};

/// One interval of the service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Point {
    /// The interval's end: RFC 3339, UTC.
    pub at: String,
    #[serde(flatten)]
    pub all: Interval,
    /// The first [`limits::SERIES_PIPELINES_MAX`] pipelines.
    pub pipelines: Vec<PipelineInterval>,
}

/// What happened in one interval, and the state at its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interval {
    pub files: u64,
    pub source_bytes: u64,
    pub output_bytes: u64,
    pub quarantined: u64,
    /// From settled to acknowledged.
    pub p50_seconds: Option<f64>,
    pub p99_seconds: Option<f64>,
    pub in_flight: u64,
    pub pending: u64,
}

/// One interval of one pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PipelineInterval {
    pub name: String,
    #[serde(flatten)]
    pub interval: Interval,
}

/// At most [`limits::SAMPLES_MAX`] points.
#[derive(Debug, Default)]
pub struct Series(Mutex<SampleRing>);

#[derive(Debug, Default)]
struct SampleRing {
    points: VecDeque<Point>,
    /// The sums at the last point: of all pipelines, and by name.
    before: Sums,
    before_by_pipeline: HashMap<String, Sums>,
}

#[derive(Clone, Debug, Default)]
struct Sums {
    files: u64,
    source_bytes: u64,
    output_bytes: u64,
    quarantined: u64,
    latency: Counts,
}

impl Sums {
    fn of(pipeline: &PipelineStatus, latency: Counts) -> Self {
        Self {
            files: pipeline.published,
            source_bytes: pipeline.source_bytes,
            output_bytes: pipeline.output_bytes,
            quarantined: pipeline.quarantined,
            latency,
        }
    }

    /// The interval from `before` to these sums.
    fn since(&self, before: &Self, in_flight: u64, pending: u64) -> Interval {
        let latency = self.latency.since(&before.latency);
        Interval {
            files: self.files.saturating_sub(before.files),
            source_bytes: self.source_bytes.saturating_sub(before.source_bytes),
            output_bytes: self.output_bytes.saturating_sub(before.output_bytes),
            quarantined: self.quarantined.saturating_sub(before.quarantined),
            p50_seconds: latency.quantile(0.5),
            p99_seconds: latency.quantile(0.99),
            in_flight,
            pending,
        }
    }
}

impl SampleRing {
    fn pipeline(&mut self, status: &PipelineStatus, latency: Counts) -> PipelineInterval {
        let now = Sums::of(status, latency);
        let before = self.before_by_pipeline.insert(status.name.clone(), now.clone());
        let interval = now.since(&before.unwrap_or_default(), status.in_flight, status.pending);
        PipelineInterval { name: status.name.clone(), interval }
    }
}

impl Series {
    /// Adds the point of the interval that ends now. `latencies` has the counts of each pipeline by
    /// its name.
    pub fn add(&self, at: String, status: &Status, latencies: &HashMap<&str, Counts>) -> Point {
        let totals = status.totals();
        let mut latency = Counts::default();
        for counts in latencies.values() {
            latency.add(counts);
        }
        let now = Sums {
            files: totals.published,
            source_bytes: totals.source_bytes,
            output_bytes: totals.output_bytes,
            quarantined: totals.quarantined,
            latency,
        };
        let pending = status.pipelines.iter().map(|pipeline| pipeline.pending).sum();
        let mut kept = self.0.lock();
        let before = std::mem::replace(&mut kept.before, now.clone());
        let shown = status.pipelines.iter().take(limits::SERIES_PIPELINES_MAX);
        let pipelines = shown.map(|pipeline| {
            let latency = latencies.get(&*pipeline.name).cloned().unwrap_or_default();
            kept.pipeline(pipeline, latency)
        });
        let pipelines = pipelines.collect();
        let point = Point { at, all: now.since(&before, totals.in_flight, pending), pipelines };
        if kept.points.len() >= limits::SAMPLES_MAX {
            kept.points.pop_front();
        }
        kept.points.push_back(point.clone());
        point
    }

    /// Oldest first.
    pub fn points(&self) -> Vec<Point> {
        self.0.lock().points.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{observe::Observer, outcome::OutcomeKind};

    #[test]
    fn a_point_is_what_happened_in_its_interval() {
        let observer = Observer::new(&["main".into()], &[("claim", 64)]);
        let meter = observer.pipeline(0).expect("a pipeline");
        meter.outcomes().published(100, 10);
        meter.acknowledged(Duration::from_millis(8));
        let first = observer.sample();
        assert_eq!((first.all.files, first.all.source_bytes, first.all.output_bytes), (1, 100, 10));
        let median = first.all.p50_seconds.expect("one file");
        assert!((0.008..0.0091).contains(&median), "{median}");
        meter.outcomes().ended(OutcomeKind::Quarantined, 1);
        meter.pending(3, 0, None);
        let second = observer.sample();
        assert_eq!((second.all.files, second.all.quarantined, second.all.pending), (0, 1, 3));
        assert_eq!((second.all.p50_seconds, second.all.p99_seconds), (None, None));
        assert_eq!(observer.points(), [first, second]);
    }

    #[test]
    fn each_pipeline_has_its_own_part_of_a_point() {
        let observer = Observer::new(&["slow".into(), "fast".into()], &[]);
        let [slow, fast] = [0, 1].map(|index| observer.pipeline(index).expect("a pipeline"));
        slow.outcomes().published(5, 1);
        slow.acknowledged(Duration::from_mins(3));
        fast.outcomes().published(7, 1);
        fast.acknowledged(Duration::from_millis(1));
        let point = observer.sample();
        let names: Vec<&str> = point.pipelines.iter().map(|part| &*part.name).collect();
        assert_eq!(names, ["slow", "fast"]);
        let bytes = |index: usize| point.pipelines[index].interval.source_bytes;
        assert_eq!((bytes(0), bytes(1), point.all.source_bytes), (5, 7, 12));
        let worst = |index: usize| point.pipelines[index].interval.p99_seconds.expect("one file");
        assert!(worst(0) >= 180.0 && worst(1) < 0.002, "{point:?}");
        let later = observer.sample();
        assert!(later.pipelines.iter().all(|part| part.interval.files == 0));
    }

    #[test]
    fn the_oldest_points_make_room() {
        let observer = Observer::new(&["main".into()], &[]);
        let meter = observer.pipeline(0).expect("a pipeline");
        observer.sample();
        for _ in 0..limits::SAMPLES_MAX {
            meter.outcomes().published(1, 1);
            observer.sample();
        }
        let points = observer.points();
        assert_eq!(points.len(), limits::SAMPLES_MAX);
        assert!(points.iter().all(|point| point.all.files == 1), "the first is gone");
    }
}
