//! The recorder of a file's trace.

use std::{
    hash::{BuildHasher, RandomState},
    path::Path,
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use metrics::Counter;
use tokio::sync::mpsc;

use super::{exporter::OtlpExporter, file_trace::FileTrace};
use crate::{
    limits,
    observe::{display_path, prometheus as names},
    outcome::OutcomeKind,
    policy::Otlp,
    stage::Stage,
    sync::Mutex,
};

/// Starts traces. Clones share one state; a disabled tracer is empty.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<TracerState>>);

/// The trace of one file, or none. Clones are one trace; dropping the last one sends it.
#[derive(Clone, Debug, Default)]
pub struct Trace(Option<Arc<TraceRecorder>>);

#[derive(Debug)]
struct TracerState {
    queue: mpsc::Sender<FileTrace>,
    dropped: Counter,
    /// Random keys of this process, which hash consecutive numbers to random ones.
    keys: RandomState,
    count: AtomicU64,
    /// Largest trace number that is sampled.
    sampled_max: u64,
    /// Whether traces include paths.
    paths: bool,
}

#[derive(Debug)]
struct TraceRecorder {
    tracer: Arc<TracerState>,
    file: Mutex<FileTrace>,
}

impl Tracer {
    /// Makes a tracer and its exporter.
    #[must_use]
    pub fn new(otlp: &Otlp) -> (Self, OtlpExporter) {
        let (queue, traces) = mpsc::channel(limits::OTLP_QUEUE_TRACES_MAX);
        let dropped = metrics::counter!(names::TRACES_DROPPED);
        let exporter = OtlpExporter::new(otlp, traces, dropped.clone());
        let state = TracerState {
            queue,
            dropped,
            keys: RandomState::new(),
            count: AtomicU64::new(0),
            sampled_max: sampled_max(otlp.sampling),
            paths: otlp.paths,
        };
        (Self(Some(Arc::new(state))), exporter)
    }

    /// Returns the time if tracing is enabled.
    #[must_use]
    pub fn now(&self) -> Option<Instant> {
        self.0.as_ref().map(|_| Instant::now())
    }

    /// Starts the trace of a file that settled at `ready_at`, `settle_time` after its discovery; the look
    /// that found it settled began at `look_started`.
    #[must_use]
    pub fn begin(
        &self,
        look_started: Option<Instant>,
        (pipeline, path): (&Arc<str>, &Path),
        settle_time: Duration,
        ready_at: Instant,
    ) -> Trace {
        let (Some(state), Some(look_started)) = (&self.0, look_started) else {
            return Trace::default();
        };
        let number = state.count.fetch_add(1, Relaxed);
        let [high, low, first_span] = [0_u8, 1, 2].map(|part| state.keys.hash_one((number, part)));
        if low > state.sampled_max {
            return Trace::default();
        }
        let discovered_at = ready_at.checked_sub(settle_time).unwrap_or(ready_at);
        // Only the last look has a recorded start; the first one ended before it.
        let look_started = if settle_time.is_zero() { look_started } else { discovered_at };
        let mut file = FileTrace {
            id: u128::from(high) << 64 | u128::from(low),
            first_span,
            pipeline: Arc::clone(pipeline),
            path: state.paths.then(|| display_path(path).to_string()),
            ..FileTrace::default()
        };
        file.record(Stage::Discover, look_started, discovered_at);
        file.record(Stage::Settle, discovered_at, ready_at);
        Trace(Some(Arc::new(TraceRecorder { tracer: Arc::clone(state), file: Mutex::new(file) })))
    }
}

impl Trace {
    /// Records that a stage starts or continues the file.
    pub fn stage_started(&self, stage: Stage) {
        if let Some(recorder) = &self.0
            && let Some(times) = recorder.file().stages.get_mut(stage as usize)
        {
            let started = times.map_or_else(Instant::now, |(started, _)| started);
            *times = Some((started, None));
        }
    }

    /// Records that a stage has finished the file.
    pub fn stage_finished(&self, stage: Stage) {
        if let Some(recorder) = &self.0
            && let Some(Some((_, finished))) = recorder.file().stages.get_mut(stage as usize)
        {
            *finished = Some(Instant::now());
        }
    }

    /// Records the outcome, the attempt, and the bytes of source and output.
    pub fn outcome(&self, kind: OutcomeKind, attempt: u32, (source, output): (u64, u64)) {
        if let Some(recorder) = &self.0 {
            let mut file = recorder.file();
            file.outcome = Some(kind);
            (file.attempt, file.source_bytes, file.output_bytes) = (attempt, source, output);
        }
    }
}

impl TraceRecorder {
    fn file(&self) -> MutexGuard<'_, FileTrace> {
        self.file.lock()
    }
}

impl Drop for TraceRecorder {
    fn drop(&mut self) {
        let mut file = std::mem::take(&mut *self.file());
        file.end = Some(Instant::now());
        if self.tracer.queue.try_send(file).is_err() {
            self.tracer.dropped.increment(1);
        }
    }
}

impl FileTrace {
    fn record(&mut self, stage: Stage, started: Instant, finished: Instant) {
        if let Some(times) = self.stages.get_mut(stage as usize) {
            *times = Some((started, Some(finished)));
        }
    }
}

/// Returns the largest number of the lowest share of all numbers.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share is from 0 to 1, and need not be exact"
)]
fn sampled_max(sampling: f64) -> u64 {
    (sampling * u64::MAX as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn otlp(sampling: f64, paths: bool) -> Otlp {
        let address = ([127, 0, 0, 1], 1).into();
        Otlp { address, base: String::new(), sampling, paths }
    }

    fn begin(tracer: &Tracer) -> Trace {
        let now = tracer.now();
        tracer.begin(now, (&"main".into(), Path::new("a")), Duration::ZERO, Instant::now())
    }

    #[test]
    fn a_trace_is_sent_once_when_its_last_clone_is_dropped() {
        let (tracer, mut exporter) = Tracer::new(&otlp(1.0, true));
        let trace = begin(&tracer);
        let other = trace.clone();
        trace.stage_started(Stage::Claim);
        trace.stage_finished(Stage::Claim);
        trace.stage_started(Stage::Read);
        trace.outcome(OutcomeKind::Published, 1, (10, 2));
        drop(trace);
        assert!(exporter.take(usize::MAX).is_empty());
        drop(other);
        let [file] = exporter.take(usize::MAX).try_into().expect("one");
        assert_eq!((file.source_bytes, file.output_bytes), (10, 2));
        assert_eq!(file.path.as_deref(), Some("a"));
        let is_finished = |stage: Stage| file.stages[stage as usize].map(|(_, end)| end.is_some());
        assert_eq!(is_finished(Stage::Claim), Some(true));
        assert_eq!(is_finished(Stage::Read), Some(false));
        assert_eq!(is_finished(Stage::Write), None);
    }

    #[test]
    fn the_configured_share_of_the_files_is_traced() {
        for (sampling, min, max) in [(0.0, 0, 0), (0.25, 800, 1200), (1.0, 4000, 4000)] {
            let (tracer, mut exporter) = Tracer::new(&otlp(sampling, false));
            for _ in 0..4000 {
                drop(begin(&tracer));
            }
            let count = exporter.take(usize::MAX).len();
            assert!((min..=max).contains(&count), "{count} of 4000 at {sampling}");
        }
    }

    #[test]
    fn a_full_queue_drops_traces_and_nothing_waits() {
        let (tracer, mut exporter) = Tracer::new(&otlp(1.0, false));
        for _ in 0..limits::OTLP_QUEUE_TRACES_MAX + 10 {
            drop(begin(&tracer));
        }
        assert_eq!(exporter.take(usize::MAX).len(), limits::OTLP_QUEUE_TRACES_MAX);
        drop(exporter);
        drop(begin(&tracer));
    }
}
