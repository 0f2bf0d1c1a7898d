//! What every part of a local sink uses.

use std::{
    fs::File,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{content_check, free_space::FreeSpace};
use crate::{
    failpoint,
    fs::Dir,
    ledger::Hash,
    observe::{PipelineMeter, SyncKind},
    policy::Durability,
    sink::{Error, ErrorKind},
};

#[derive(Debug)]
pub struct Shared {
    /// The pipeline's name, for the log.
    pub pipeline: Arc<str>,
    pub durability: Durability,
    /// Whether each output is read back before it is published.
    pub verify: bool,
    pub free_space: FreeSpace,
    /// Counts the syncs; `None` in recovery.
    pub meter: Option<Arc<PipelineMeter>>,
    /// Whether the loss of an extended attribute was logged.
    has_lost_attributes: AtomicBool,
}

impl Shared {
    pub fn new(
        pipeline: Arc<str>,
        durability: Durability,
        verify: bool,
        free_space: FreeSpace,
        meter: Option<Arc<PipelineMeter>>,
    ) -> Self {
        let has_lost_attributes = AtomicBool::new(false);
        Self { pipeline, durability, verify, free_space, meter, has_lost_attributes }
    }

    pub fn count_sync(&self, kind: SyncKind, took: Duration) {
        if let Some(meter) = &self.meter {
            meter.sync(kind, took);
        }
    }

    /// Logs the first extended attribute of a source that its output cannot have.
    pub fn warn_of_lost_attributes(&self, error: &io::Error) {
        if !self.has_lost_attributes.swap(true, Ordering::Relaxed) {
            tracing::warn!(event = "storage.limited", pipeline = %self.pipeline, %error, "outputs cannot have all extended attributes of their sources");
        }
    }

    /// Checks whether a synced file of this size has the content with this hash.
    pub fn check_content(&self, of: (&File, u64), hash: &Hash) -> io::Result<()> {
        let progressed = || self.meter.iter().for_each(|meter| meter.progressed());
        content_check::check(of, hash, self.verify, &progressed)
    }

    /// Makes the names of a directory durable.
    pub fn sync_directory(&self, dir: &Dir) -> Result<(), Error> {
        let sync = || {
            failpoint::hit("commit::directory")?;
            let start = Instant::now();
            let result = dir.sync();
            self.count_sync(SyncKind::Directory, start.elapsed());
            result
        };
        sync().map_err(ErrorKind::SyncNames.at(dir.path()))
    }
}
