//! What is noted of one file on its way.

use std::{
    hash::{BuildHasher, RandomState},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use metrics::Counter;
use tokio::sync::mpsc;

use super::{exporter::OtlpExporter, file_trace::FileTrace};
use crate::{
    limits,
    observe::{OutcomeKind, display_path, prometheus as names},
    policy::Otlp,
    stage::Stage,
};

/// Begins traces. Clones are one; those that begin none hold nothing.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<Source>>);

/// The trace of one file, or none. Clones are one trace: it is sent when the last one is dropped.
#[derive(Clone, Debug, Default)]
pub struct Trace(Option<Arc<TraceRecorder>>);

#[derive(Debug)]
struct Source {
    queue: mpsc::Sender<FileTrace>,
    dropped: Counter,
    /// Keys of this process's own: numbers hashed with them are as good as random ones.
    keys: RandomState,
    count: AtomicU64,
    /// A trace is taken where its number is not above this.
    most: u64,
    paths: bool,
}

#[derive(Debug)]
struct TraceRecorder {
    source: Arc<Source>,
    file: Mutex<FileTrace>,
}

impl Tracer {
    /// A tracer, and the task that sends what it makes.
    #[must_use]
    pub fn new(otlp: &Otlp) -> (Self, OtlpExporter) {
        let (queue, traces) = mpsc::channel(limits::OTLP_QUEUE_TRACES_MAX);
        let dropped = metrics::counter!(names::TRACES_DROPPED);
        let sender = OtlpExporter::new(otlp, traces, dropped.clone());
        let source = Source {
            queue,
            dropped,
            keys: RandomState::new(),
            count: AtomicU64::new(0),
            most: share(otlp.sampling),
            paths: otlp.paths,
        };
        (Self(Some(Arc::new(source))), sender)
    }

    /// The time, where a trace may begin.
    #[must_use]
    pub fn now(&self) -> Option<Instant> {
        self.0.as_ref().map(|_| Instant::now())
    }

    /// Begins the trace of a file that is ready at `ready`, `waited` after it was seen first; the
    /// look that found it ready began at `looked`.
    #[must_use]
    pub fn begin(
        &self,
        looked: Option<Instant>,
        (pipeline, path): (&Arc<str>, &Path),
        waited: Duration,
        ready: Instant,
    ) -> Trace {
        let (Some(source), Some(looked)) = (&self.0, looked) else { return Trace::default() };
        let number = source.count.fetch_add(1, Relaxed);
        let [high, low, first_span] = [0_u8, 1, 2].map(|of| source.keys.hash_one((number, of)));
        if low > source.most {
            return Trace::default();
        }
        let seen = ready.checked_sub(waited).unwrap_or(ready);
        // The look that found it first is over by then; how long it took is known of the last only.
        let looked = if waited.is_zero() { looked } else { seen };
        let mut file = FileTrace {
            id: u128::from(high) << 64 | u128::from(low),
            first_span,
            pipeline: Arc::clone(pipeline),
            path: source.paths.then(|| display_path(path).to_string()),
            ..FileTrace::default()
        };
        file.note(Stage::Discover, looked, seen);
        file.note(Stage::Settle, seen, ready);
        Trace(Some(Arc::new(TraceRecorder { source: Arc::clone(source), file: Mutex::new(file) })))
    }
}

impl Trace {
    /// A step begins with the file, or goes on with it.
    pub fn stage_started(&self, stage: Stage) {
        if let Some(noted) = &self.0
            && let Some(step) = noted.file().stages.get_mut(stage as usize)
        {
            let began = step.map_or_else(Instant::now, |(began, _)| began);
            *step = Some((began, None));
        }
    }

    /// A step has ended with the file.
    pub fn stage_finished(&self, stage: Stage) {
        if let Some(noted) = &self.0
            && let Some(Some((_, ended))) = noted.file().stages.get_mut(stage as usize)
        {
            *ended = Some(Instant::now());
        }
    }

    /// How it ended: on which try, and the bytes of its source and its output.
    pub fn outcome(&self, kind: OutcomeKind, attempt: u32, (source, output): (u64, u64)) {
        if let Some(noted) = &self.0 {
            let mut file = noted.file();
            file.outcome = Some(kind);
            (file.attempt, file.source_bytes, file.output_bytes) = (attempt, source, output);
        }
    }
}

impl TraceRecorder {
    fn file(&self) -> MutexGuard<'_, FileTrace> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TraceRecorder {
    fn drop(&mut self) {
        let mut file = std::mem::take(&mut *self.file());
        file.end = Some(Instant::now());
        if self.source.queue.try_send(file).is_err() {
            self.source.dropped.increment(1);
        }
    }
}

impl FileTrace {
    fn note(&mut self, stage: Stage, began: Instant, ended: Instant) {
        if let Some(step) = self.stages.get_mut(stage as usize) {
            *step = Some((began, Some(ended)));
        }
    }
}

/// The largest of the numbers that are this share of all.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share is from 0 to 1, and need not be exact"
)]
fn share(sampling: f64) -> u64 {
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
    fn a_trace_is_sent_once_when_its_last_hold_is_dropped() {
        let (tracer, mut sender) = Tracer::new(&otlp(1.0, true));
        let trace = begin(&tracer);
        let other = trace.clone();
        trace.stage_started(Stage::Claim);
        trace.stage_finished(Stage::Claim);
        trace.stage_started(Stage::Read);
        trace.outcome(OutcomeKind::Published, 1, (10, 2));
        drop(trace);
        assert!(sender.take(usize::MAX).is_empty());
        drop(other);
        let [file] = sender.take(usize::MAX).try_into().expect("one");
        assert_eq!((file.source_bytes, file.output_bytes), (10, 2));
        assert_eq!(file.path.as_deref(), Some("a"));
        let ended = |stage: Stage| file.stages[stage as usize].map(|(_, ended)| ended.is_some());
        assert_eq!(ended(Stage::Claim), Some(true));
        assert_eq!(ended(Stage::Read), Some(false));
        assert_eq!(ended(Stage::Write), None);
    }

    #[test]
    fn the_share_of_the_files_that_is_asked_for_is_traced() {
        for (sampling, least, most) in [(0.0, 0, 0), (0.25, 800, 1200), (1.0, 4000, 4000)] {
            let (tracer, mut sender) = Tracer::new(&otlp(sampling, false));
            for _ in 0..4000 {
                drop(begin(&tracer));
            }
            let count = sender.take(usize::MAX).len();
            assert!((least..=most).contains(&count), "{count} of 4000 at {sampling}");
        }
    }

    #[test]
    fn what_the_queue_has_no_room_for_is_dropped_and_nobody_waits() {
        let (tracer, mut sender) = Tracer::new(&otlp(1.0, false));
        for _ in 0..limits::OTLP_QUEUE_TRACES_MAX + 10 {
            drop(begin(&tracer));
        }
        assert_eq!(sender.take(usize::MAX).len(), limits::OTLP_QUEUE_TRACES_MAX);
        drop(sender);
        drop(begin(&tracer));
    }
}
