//! The state that all jobs of one configured pipeline share.

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
    observe::{PipelineMeter, Tracer, display_path},
    pipeline::{
        circuit_breaker::CircuitBreaker, in_commit::InCommit, operator_pause::OperatorPause,
        own_paths::OwnPaths,
    },
    policy::Durability,
    protocol::SharedEvents,
};

/// One running pipeline. Every job of it holds a reference; dropping the last one closes the
/// directories.
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
    pub events: SharedEvents,
    /// The output's root; [`Self::reopen_output`] opens it again when it was replaced.
    output: Mutex<Arc<Dir>>,
    pub own_paths: Arc<OwnPaths>,
    /// Whether claim found a source whose record only recovery can finish.
    has_unfinished: AtomicBool,
}

/// The parts of a context in addition to its configuration.
#[derive(Debug)]
pub struct ContextParts {
    pub id: PipelineId,
    pub ledger: Arc<dyn Ledger>,
    pub meter: Arc<PipelineMeter>,
    pub tracer: Tracer,
    pub events: SharedEvents,
    pub own_paths: Arc<OwnPaths>,
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
        let ContextParts { id, ledger, meter, tracer, events, own_paths } = parts;
        own_paths.refresh(&config);
        let breaker = CircuitBreaker::new(&config.name, Arc::clone(&meter));
        let operator_pause = Arc::new(OperatorPause::new(&config.name, Arc::clone(&meter)));
        Ok(Self {
            index,
            config,
            id,
            ledger,
            instance,
            meter,
            tracer,
            breaker,
            operator_pause,
            in_commit: InCommit::default(),
            events,
            output,
            own_paths,
            has_unfinished: AtomicBool::new(false),
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

    /// Opens the output's root again, by its path: it may have been removed and created again. This
    /// never creates it, because a missing root may be a missing mount.
    pub fn reopen_output(&self) -> std::io::Result<Arc<Dir>> {
        let dir = Arc::new(Dir::open_fresh(&self.config.output)?);
        *self.output.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&dir);
        Ok(dir)
    }

    /// Remembers that a source has an unfinished record, and logs the first one: its output waited for
    /// its acknowledgement when a reload stopped its pipeline.
    pub fn defer_unfinished(&self, source: &Path) {
        if !self.has_unfinished.swap(true, Ordering::Relaxed) {
            tracing::warn!(event = "file.deferred", pipeline = %self.config.name, source = %display_path(source), "earlier output not acknowledged, deferred to the next start");
        }
    }

    #[must_use]
    pub fn has_unfinished(&self) -> bool {
        self.has_unfinished.load(Ordering::Relaxed)
    }

    /// Returns the output's root that is now at its path: a consumer may take the entire directory and
    /// create another one.
    pub fn current_output(&self) -> std::io::Result<Arc<Dir>> {
        let opened = self.output();
        let path = &self.config.output;
        // On a network file system only an `open` bypasses the attribute cache of this machine.
        let found = if opened.is_network() {
            Dir::open_fresh(path)?.id()?
        } else {
            fs::directory_at(path)?.identity.file_id()
        };
        if is_same(&opened, found)? {
            return Ok(opened);
        }
        let opened_id = opened.id()?;
        // An unmount uncovers a directory of another file system; a mount is a legal replacement.
        if found.device != opened_id.device && !fs::is_mount(path)? {
            return Err(rustix::io::Errno::NODEV.into());
        }
        tracing::info!(event = "output.replaced", pipeline = %self.config.name, output = %display_path(&self.config.output), "output directory was replaced");
        self.reopen_output()
    }

    /// Checks whether a directory below the output's root is still at its path.
    pub fn is_current(&self, dir: &Dir, relative: &Path) -> std::io::Result<bool> {
        let root = self.current_output()?;
        if relative.as_os_str().is_empty() {
            return is_same(dir, root.id()?);
        }
        let found = root.stat_fresh(relative)?;
        found.map_or(Ok(false), |found| is_same(dir, found.identity.file_id()))
    }

    /// Returns the full path of a source, for messages.
    #[must_use]
    pub fn source_path(&self, relative: &Path) -> PathBuf {
        self.config.input.join(relative)
    }
}

/// Compares a directory with a file ID, and stats it again if they differ: some file systems do not
/// keep their inode numbers.
fn is_same(dir: &Dir, found: FileId) -> std::io::Result<bool> {
    if dir.id()? == found {
        return Ok(true);
    }
    match fs::identity_of(dir) {
        // The directory was removed on the server.
        Err(error) if error.kind() == std::io::ErrorKind::StaleNetworkFileHandle => Ok(false),
        identity => Ok(identity?.file_id() == found),
    }
}
