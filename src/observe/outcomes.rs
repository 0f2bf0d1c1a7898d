//! Counts of a pipeline's files by outcome. An output counts as published when it is acknowledged; its
//! job ends later, and may end otherwise: the disposal of its source can be postponed or fail.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::SystemTime,
};

use metrics::{Counter, Gauge, SharedString};

use super::prometheus as names;
use crate::outcome::OutcomeKind;

/// The counters of one pipeline, each with a plain number that needs no recorder.
#[derive(Debug)]
pub struct OutcomeMeter {
    /// Number of files, and bytes of their sources.
    counts: HashMap<OutcomeKind, [(Counter, AtomicU64); 2]>,
    output_bytes: (Counter, AtomicU64),
    last_published: Gauge,
    /// Number of ended jobs, and bytes of the sources of those that were not skipped.
    ended: [AtomicU64; 2],
}

impl OutcomeMeter {
    pub fn new(pipeline: &str) -> Self {
        let label = || SharedString::from(pipeline.to_owned());
        let counters = |kind: OutcomeKind| {
            [names::FILES, names::SOURCE_BYTES].map(|metric| {
                let counter =
                    metrics::counter!(metric, "pipeline" => label(), "outcome" => kind.as_str());
                (counter, AtomicU64::new(0))
            })
        };
        let output_bytes = metrics::counter!(names::OUTPUT_BYTES, "pipeline" => label());
        Self {
            counts: OutcomeKind::ALL.iter().map(|kind| (*kind, counters(*kind))).collect(),
            output_bytes: (output_bytes, AtomicU64::new(0)),
            last_published: metrics::gauge!(names::LAST_PUBLISHED, "pipeline" => label()),
            ended: <[AtomicU64; 2]>::default(),
        }
    }

    pub fn counters(&self) -> impl Iterator<Item = &Counter> {
        self.counts.values().flatten().chain([&self.output_bytes]).map(|(counter, _)| counter)
    }

    /// Counts an acknowledged output.
    pub fn published(&self, source_bytes: u64, output_bytes: u64) {
        self.count(OutcomeKind::Published, source_bytes);
        add(&self.output_bytes, output_bytes);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.last_published.set(now.unwrap_or_default().as_secs_f64());
    }

    /// Counts an ended job. Its output, if it has one, has been counted.
    pub fn ended(&self, kind: OutcomeKind, source_bytes: u64) {
        if kind != OutcomeKind::Published {
            self.count(kind, source_bytes);
        }
        let bytes = if kind == OutcomeKind::Skipped { 0 } else { source_bytes };
        for (sum, count) in self.ended.iter().zip([1, bytes]) {
            sum.fetch_add(count, Relaxed);
        }
    }

    fn count(&self, kind: OutcomeKind, source_bytes: u64) {
        if let Some([files, bytes]) = self.counts.get(&kind) {
            add(files, 1);
            add(bytes, source_bytes);
        }
    }

    /// Returns the number of files, and the bytes of their sources.
    pub fn of(&self, kind: OutcomeKind) -> [u64; 2] {
        let counts = self.counts.get(&kind);
        counts.map_or([0, 0], |counts| counts.each_ref().map(|(_, count)| count.load(Relaxed)))
    }

    pub fn output_bytes(&self) -> u64 {
        self.output_bytes.1.load(Relaxed)
    }

    /// Returns the number of ended jobs, and the bytes of the sources of those that were not skipped.
    pub fn ended_jobs(&self) -> [u64; 2] {
        self.ended.each_ref().map(|sum| sum.load(Relaxed))
    }
}

/// Adds to a counter and to its plain number.
pub(super) fn add((counter, plain): &(Counter, AtomicU64), count: u64) {
    counter.increment(count);
    plain.fetch_add(count, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_counts_once_however_its_jobs_end() {
        let ends = [
            vec![OutcomeKind::Published],
            vec![OutcomeKind::Deferred, OutcomeKind::Skipped],
            vec![OutcomeKind::Deferred, OutcomeKind::Quarantined],
        ];
        for kinds in ends {
            let meter = OutcomeMeter::new("main");
            meter.published(10, 3);
            for kind in &kinds {
                meter.ended(*kind, 10);
            }
            assert_eq!((meter.of(OutcomeKind::Published), meter.output_bytes()), ([1, 10], 3));
            assert_eq!(meter.ended_jobs()[0], kinds.len() as u64);
            for kind in kinds {
                assert_eq!(meter.of(kind), [1, 10], "{kind}");
            }
        }
    }
}
