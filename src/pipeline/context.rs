//! The state that all jobs of one configured pipeline share.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{
    config,
    fs::NodeId,
    ledger::{self, Ledger, PipelineEnd, PipelineId, Record, RecordId},
    observe::{PipelineMeter, Tracer, display_path},
    pipeline::{
        circuit_breaker::CircuitBreaker, in_commit::InCommit, operator_pause::OperatorPause,
        own_paths::OwnPaths,
    },
    policy::OnSuccess,
    protocol::{self, SharedOutcomeLog},
    sink::Sink,
    source::{Source, Targets, successions::Successions},
    sync::Mutex,
};

/// The most by which a file system's clock may be behind this machine's.
const CLOCK_DIFFERENCE_NS: i64 = 60 * 1_000_000_000;

/// One running pipeline. Every job of it holds a reference; dropping the last one closes the sink.
#[derive(Debug)]
pub struct Context {
    /// A number that is unique within the process: a reload assigns a new one.
    pub index: usize,
    pub config: config::Pipeline,
    /// The pipeline's ID in the ledger.
    pub id: PipelineId,
    pub ledger: Arc<dyn Ledger>,
    /// The ledger's instance, a part of every temporary name.
    pub instance: NodeId,
    pub meter: Arc<PipelineMeter>,
    pub tracer: Tracer,
    /// The state of the output's storage; the stages write it, the intake reads it.
    pub breaker: CircuitBreaker,
    pub operator_pause: Arc<OperatorPause>,
    pub in_commit: InCommit,
    pub events: SharedOutcomeLog,
    /// The place of the outputs.
    pub sink: Arc<dyn Sink>,
    pub own_paths: Arc<OwnPaths>,
    /// The file systems of the archive and the quarantine.
    pub targets: Arc<Targets>,
    /// Whether there is a record that only recovery can finish.
    has_unfinished: AtomicBool,
    /// Unfinished records that were logged.
    deferred: Mutex<HashSet<RecordId>>,
    /// The input whose identity was recorded last, see [`Self::note_input`].
    noted_input: Mutex<Option<Weak<dyn Source>>>,
    /// Whether the kernel denied a look for a file's writers.
    writers_denied: AtomicBool,
    lost_names: AtomicU64,
    /// Files that were claimed for the first time.
    arrivals: AtomicU64,
    /// The successions of the input's names, if sources are kept.
    pub successions: Option<Arc<Successions>>,
    first_output_ns: OnceLock<i64>,
}

/// The parts of a context in addition to its configuration.
#[derive(Debug)]
pub struct ContextParts {
    pub id: PipelineId,
    pub ledger: Arc<dyn Ledger>,
    pub sink: Arc<dyn Sink>,
    pub meter: Arc<PipelineMeter>,
    pub tracer: Tracer,
    pub events: SharedOutcomeLog,
    pub own_paths: Arc<OwnPaths>,
    /// The pipeline's sources in commit, also those of its jobs before a reload.
    pub in_commit: InCommit,
    /// The successions of the input's names, if sources are kept.
    pub successions: Option<Arc<Successions>>,
}

impl Context {
    pub fn new(index: usize, config: config::Pipeline, parts: ContextParts) -> Self {
        let instance = NodeId::new(parts.ledger.instance());
        let ContextParts { id, ledger, sink, meter, tracer, events, own_paths, .. } = parts;
        let (in_commit, successions) = (parts.in_commit, parts.successions);
        own_paths.refresh(&config);
        let breaker = CircuitBreaker::new(&config.name, Arc::clone(&meter));
        let archive = match &config.on_success {
            OnSuccess::Archive(archive) => Some(&**archive),
            OnSuccess::Keep | OnSuccess::Delete => None,
        };
        let targets = Targets::of(archive.into_iter().chain([&*config.quarantine]));
        let operator_pause = Arc::new(OperatorPause::new(&config.name, Arc::clone(&meter)));
        Self {
            index,
            config,
            id,
            ledger,
            instance,
            meter,
            tracer,
            breaker,
            operator_pause,
            in_commit,
            events,
            sink,
            own_paths,
            targets: Arc::new(targets),
            has_unfinished: AtomicBool::new(false),
            deferred: Mutex::default(),
            noted_input: Mutex::default(),
            writers_denied: AtomicBool::new(false),
            lost_names: AtomicU64::new(0),
            arrivals: AtomicU64::new(0),
            successions,
            first_output_ns: OnceLock::new(),
        }
    }

    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.config.name
    }

    /// Remembers an unfinished record, which only recovery can finish, and logs it once: files under its name
    /// wait for that.
    pub fn note_deferred(&self, record: &Record) {
        self.set_unfinished();
        if self.deferred.lock().insert(record.id) {
            tracing::warn!(event = "file.deferred", pipeline = %self.config.name, source = %display_path(&record.source), record = record.id, "output not acknowledged, deferred to the next start");
        }
    }

    /// Records another directory as an end of the pipeline: recovery would take it for one that is not mounted.
    /// Where that fails, the next start does it.
    pub fn note_root(&self, end: PipelineEnd, inode: u64) {
        drop(self.ledger.set_root_inode(self.id, end, inode));
    }

    /// Records the identity of an input that a published source is from, see [`Self::note_root`]. An input
    /// without a published source may be an empty directory instead of a mount.
    pub fn note_input(&self, input: &Arc<dyn Source>) {
        let weak = Arc::downgrade(input);
        let mut noted = self.noted_input.lock();
        if noted.as_ref().is_some_and(|noted| noted.ptr_eq(&weak)) {
            return;
        }
        if let Ok(root) = input.metadata() {
            self.note_root(PipelineEnd::Input, root.identity.inode);
            *noted = Some(weak);
        }
    }

    /// Logs the first file whose writers the kernel does not report to this process.
    pub fn note_denied_writers(&self, source: &Path) {
        if !self.writers_denied.swap(true, Ordering::Relaxed) {
            tracing::warn!(event = "intake.writers_unknown", pipeline = %self.config.name, source = %display_path(source), hint = "run as the owner of the files or with CAP_LEASE (deploy/systemd/other-users.conf)", "cannot see writers of another user's file");
        }
    }

    /// Returns the succession of a name, if the ledger does not have it yet.
    #[must_use]
    pub fn succession(&self, path: &Path) -> Option<RecordId> {
        self.successions.as_ref()?.of(path)
    }

    /// Returns a time before which no file of the output is of a record, in nanoseconds since the epoch.
    pub fn first_output_ns(&self) -> ledger::Result<i64> {
        if let Some(first) = self.first_output_ns.get() {
            return Ok(*first);
        }
        let mut first = protocol::outcome::now_ns();
        for roots in self.ledger.pipelines()? {
            if roots.output == self.config.output
                && let Some(at_ns) = self.ledger.first_record_ns(roots.id)?
            {
                first = first.min(at_ns);
            }
        }
        Ok(*self.first_output_ns.get_or_init(|| first - CLOCK_DIFFERENCE_NS))
    }

    #[must_use]
    pub fn are_writers_denied(&self) -> bool {
        self.writers_denied.load(Ordering::Relaxed)
    }

    /// Remembers that the next start has a record to finish; returns whether that was known before.
    pub fn set_unfinished(&self) -> bool {
        self.has_unfinished.swap(true, Ordering::Relaxed)
    }

    #[must_use]
    pub fn has_unfinished(&self) -> bool {
        self.has_unfinished.load(Ordering::Relaxed)
    }

    /// Counts a source whose name is gone, or belongs to another file: it may have another one, which the scan
    /// of `--once` had passed.
    pub fn note_lost_name(&self) {
        self.lost_names.fetch_add(1, Ordering::Relaxed);
    }

    #[must_use]
    pub fn lost_names(&self) -> u64 {
        self.lost_names.load(Ordering::Relaxed)
    }

    /// Counts a file that came: it is finished by its producer, and no record says that it was processed.
    pub fn note_arrival(&self) {
        self.arrivals.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of files that came since this pipeline began.
    #[must_use]
    pub fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::Relaxed)
    }

    /// Returns the full path of a source, for messages.
    #[must_use]
    pub fn source_path(&self, relative: &Path) -> PathBuf {
        self.config.input.join(relative)
    }
}
