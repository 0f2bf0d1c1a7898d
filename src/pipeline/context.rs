//! What the jobs of one configured pipeline share.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    config,
    fingerprint::FileId,
    fs::{self, Dir, NodeId},
    ledger::{Ledger, PipelineId},
    observe::{Events, PipelineMeter, Tracer, display_path},
    pipeline::{
        circuit_breaker::CircuitBreaker, in_commit::InCommit, operator_pause::OperatorPause,
        own_paths::OwnPlaces,
    },
    policy::Durability,
};

/// One pipeline at work. Held by every job of it; dropping the last one closes the directories.
#[derive(Debug)]
pub struct Context {
    /// No other context of this process has it: a reload makes a new one.
    pub index: usize,
    pub config: config::Pipeline,
    /// Its number in the ledger.
    pub id: PipelineId,
    pub ledger: Arc<dyn Ledger>,
    pub instance: NodeId,
    pub meter: Arc<PipelineMeter>,
    pub tracer: Tracer,
    pub place: CircuitBreaker,
    pub hold: Arc<OperatorPause>,
    pub in_commit: InCommit,
    pub events: SharedEvents,
    /// The output's root; opened again by [`Self::reopen_output`] when it was replaced.
    output: Mutex<Arc<Dir>>,
    pub own: Arc<OwnPlaces>,
    /// A source was met whose record only recovery can finish.
    unfinished: AtomicBool,
}

/// The events file, if there is one, shared by all pipelines.
pub type SharedEvents = Arc<Mutex<Option<Events>>>;

/// What a context is made of, beside its configuration.
#[derive(Debug)]
pub struct ContextParts {
    pub id: PipelineId,
    pub ledger: Arc<dyn Ledger>,
    pub meter: Arc<PipelineMeter>,
    pub tracer: Tracer,
    pub events: SharedEvents,
    pub own: Arc<OwnPlaces>,
}

impl Context {
    /// Opens the output directory.
    pub fn open(
        index: usize,
        config: config::Pipeline,
        parts: ContextParts,
    ) -> std::io::Result<Self> {
        let output = Dir::open(&config.output)?;
        if config.durability == Durability::Syncfs && !fs::prefers_syncfs(&output)? {
            tracing::warn!(event = "storage.fallback", pipeline = %config.name, "file system does not report errors to syncfs, using fsync");
        }
        let output = Mutex::new(Arc::new(output));
        let instance = NodeId::new(parts.ledger.instance());
        let ContextParts { id, ledger, meter, tracer, events, own } = parts;
        own.look(&config);
        let place = CircuitBreaker::new(&config.name, Arc::clone(&meter));
        let hold = Arc::new(OperatorPause::new(&config.name, Arc::clone(&meter)));
        Ok(Self {
            index,
            config,
            id,
            ledger,
            instance,
            meter,
            tracer,
            place,
            hold,
            in_commit: InCommit::default(),
            events,
            output,
            own,
            unfinished: AtomicBool::new(false),
        })
    }

    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.config.name
    }

    #[must_use]
    pub fn output(&self) -> Arc<Dir> {
        Arc::clone(&self.output.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens the output's root again, by its path: it may have been removed and made anew. It is
    /// never made here, because what is missing may be a mount.
    pub fn reopen_output(&self) -> std::io::Result<Arc<Dir>> {
        let dir = Arc::new(Dir::open_fresh(&self.config.output)?);
        *self.output.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&dir);
        Ok(dir)
    }

    /// Notes that a source has an unfinished record, and logs the first one: its output waited for
    /// its acknowledgement when its pipeline was stopped by a reload.
    pub fn met_unfinished(&self, source: &Path) {
        if !self.unfinished.swap(true, Ordering::Relaxed) {
            tracing::warn!(event = "file.deferred", pipeline = %self.config.name, source = %display_path(source), "earlier output not acknowledged, deferred to the next start");
        }
    }

    #[must_use]
    pub fn has_unfinished(&self) -> bool {
        self.unfinished.load(Ordering::Relaxed)
    }

    /// The output's root as it is under its path now: a consumer may take the whole of it and make
    /// another.
    pub fn current_output(&self) -> std::io::Result<Arc<Dir>> {
        let known = self.output();
        let path = &self.config.output;
        // On a network file system only an opening is no memory of this machine's.
        let found = if known.is_network() {
            Dir::open_fresh(path)?.id()?
        } else {
            fs::directory_at(path)?.identity.file_id()
        };
        if is_same(&known, found)? {
            return Ok(known);
        }
        let was = known.id()?;
        // One of another file system is what an unmount uncovers, unless it is a mount itself.
        if found.device != was.device && !fs::is_mount(path)? {
            return Err(rustix::io::Errno::NODEV.into());
        }
        tracing::info!(event = "output.replaced", pipeline = %self.config.name, output = %display_path(&self.config.output), "output directory was replaced");
        self.reopen_output()
    }

    /// Whether a directory below the output's root is still under its path.
    pub fn has(&self, dir: &Dir, relative: &Path) -> std::io::Result<bool> {
        let root = self.current_output()?;
        if relative.as_os_str().is_empty() {
            return is_same(dir, root.id()?);
        }
        let found = root.stat_fresh(relative)?;
        found.map_or(Ok(false), |found| is_same(dir, found.identity.file_id()))
    }

    /// The whole path of a source, for messages.
    #[must_use]
    pub fn source_path(&self, relative: &Path) -> PathBuf {
        self.config.input.join(relative)
    }
}

/// Asks once more where it differs: there are file systems whose inode numbers do not last.
fn is_same(dir: &Dir, found: FileId) -> std::io::Result<bool> {
    if dir.id()? == found {
        return Ok(true);
    }
    match fs::identity_of(dir) {
        // It was removed on the server.
        Err(error) if error.kind() == std::io::ErrorKind::StaleNetworkFileHandle => Ok(false),
        now => Ok(now?.file_id() == found),
    }
}
