//! A source that is a local directory, or one that is mounted.
//!
//! Names are looked up below the directory's handle. A source is taken by a rename to a private name in
//! its own directory, made of the ledger's instance and the record's number.

mod cross_device;
pub mod delivery;
mod disposal;
mod file;
mod held;
mod leftovers;
mod listing;
mod look;
mod marker;
mod moved_files;
mod quarantine;
mod quarantined;
mod watch;

use std::{
    error::Error as StdError,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use self::{held::LocalHeld, listing::LocalListing, quarantined::LocalQuarantined};
pub use self::{
    moved_files::LocalMovedFiles,
    quarantine::reason_name,
    watch::{Watch, WatchError},
};
use super::{
    End, HeldSource, Leftover, Listing, Look, MayReplace, NamedBy, Opened, QuarantinedSource,
    Result, Source, SourceError, Subscription, TakeRequest, TakeResult, Taken, Targets,
    event_queue::EventQueue,
};
use crate::{
    config,
    fingerprint::{FileId, Fingerprint},
    fs::{self, Dir, FileMetadata, NodeId},
};

/// An open input directory.
#[derive(Debug)]
pub struct Local {
    dir: Arc<Dir>,
    /// The ledger's instance, a part of every private and temporary name.
    instance: NodeId,
    targets: Arc<Targets>,
}

impl Local {
    /// Opens the directory, through symbolic links.
    pub fn open(path: &Path, instance: &NodeId, targets: Arc<Targets>) -> Result<Self> {
        let dir = Dir::open(path).map_err(at(path))?;
        dir.query_network().map_err(at(path))?;
        Ok(Self { dir: Arc::new(dir), instance: instance.clone(), targets })
    }

    /// Adds the full path to an error.
    fn at(&self, path: &Path) -> impl FnOnce(io::Error) -> SourceError {
        let root = self.dir.path();
        move |source| SourceError { path: root.join(path), source }
    }
}

/// Adds a full path to an error.
fn at(path: &Path) -> impl FnOnce(io::Error) -> SourceError {
    move |source| SourceError { path: path.to_path_buf(), source }
}

pub(super) fn exists(path: &Path) -> Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(false)
        }
        Err(error) => Err(at(path)(error)),
    }
}

pub(super) fn read_reason(slot: &Path) -> Result<Vec<u8>> {
    quarantine::read_reason(slot).map_err(at(slot))
}

impl Source for Local {
    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn is_remote(&self) -> bool {
        self.dir.is_network()
    }

    fn may_renumber(&self) -> bool {
        self.dir.may_renumber()
    }

    fn metadata(&self) -> Result<FileMetadata> {
        fs::metadata_of(&*self.dir).map_err(at(self.dir.path()))
    }

    fn is_empty(&self) -> bool {
        fs::PatientWalk::start(&self.dir).next().is_none()
    }

    fn subscribe(
        &self,
        queue: EventQueue,
    ) -> Result<Option<Subscription>, Box<dyn StdError + Send + Sync>> {
        // No event reports the changes of other machines.
        if self.is_remote() {
            return Ok(None);
        }
        Ok(Some(Box::new(Watch::start(self.dir.path(), queue)?)))
    }

    fn list(&self, below: PathBuf, own: &Arc<[FileId]>) -> Box<dyn Listing> {
        Box::new(LocalListing::new(&self.dir, below, own))
    }

    fn look(&self, path: &Path, named_by: NamedBy, own: &[FileId]) -> Result<Look> {
        look::look(&self.dir, path, named_by, own).map_err(self.at(path))
    }

    fn stat(&self, path: &Path) -> Result<Option<FileMetadata>> {
        self.dir.stat(path).map_err(self.at(path))
    }

    fn stat_fresh(&self, path: &Path) -> Result<Option<FileMetadata>> {
        self.dir.stat_fresh(path).map_err(self.at(path))
    }

    fn stat_beneath(&self, path: &Path) -> Result<Option<FileMetadata>> {
        self.dir.stat_beneath(path).map_err(self.at(path))
    }

    fn born_ns(&self, path: &Path) -> Result<Option<i64>> {
        self.dir.born_ns(path).map_err(self.at(path))
    }

    fn keeps(&self, directory: &Path, wanted: &Fingerprint, max_names: usize) -> Result<bool> {
        let counts = |name: &OsStr| config::temporary_name(name.as_ref()).is_none();
        let dir = self.dir.open_beneath(directory);
        dir.and_then(|dir| fs::keeps_file(&dir, wanted, max_names, counts))
            .map_err(self.at(directory))
    }

    fn open(&self, path: &Path) -> Result<Opened> {
        file::open(&self.dir, path).map_err(self.at(path))
    }

    fn take(&self, wanted: &TakeRequest<'_>) -> Result<TakeResult> {
        held::take(&self.dir, wanted, (&self.instance, &self.targets)).map_err(self.at(wanted.path))
    }

    fn may_hold(&self, wanted: &TakeRequest<'_>) -> bool {
        held::may_hold(&self.dir, wanted, &self.instance)
    }

    fn probe_disposal(&self, end: End<'_>) -> Result<()> {
        disposal::probe(&self.dir, end, (&self.instance, &self.targets))
    }

    fn leftovers(&self) -> Vec<Result<Leftover>> {
        leftovers::find(&self.dir, &self.instance)
    }

    fn recover(&self, taken: &Taken, source: &Path) -> Result<Box<dyn HeldSource>> {
        let held = LocalHeld::reopen(&self.dir, taken, source, (&self.instance, &self.targets));
        Ok(Box::new(held.map_err(self.at(&taken.path))?))
    }

    fn remove_temp(&self, path: &Path) -> Result<()> {
        let (parent, name) = fs::split(path);
        let dir = self.dir.open_beneath(parent);
        dir.and_then(|dir| dir.unlink_own(name)).map_err(self.at(path))
    }

    fn quarantine_slot(
        &self,
        quarantine: &Path,
        path: &Path,
        may_replace: MayReplace<'_>,
    ) -> Result<PathBuf> {
        quarantine::find_slot((quarantine, &self.targets), path, may_replace)
            .map_err(|source| SourceError { path: quarantine.join(path), source })
    }

    fn is_in_slot(&self, path: &Path, slot: &Path) -> bool {
        quarantine::is_in_slot(&self.dir, path, slot).unwrap_or(false)
    }

    fn write_reason(&self, slot: &Path, content: &[u8], may_replace: MayReplace<'_>) -> Result<()> {
        quarantine::write_reason(slot, content, may_replace, &self.instance).map_err(at(slot))
    }

    fn quarantined(&self, slot: &Path, path: &Path) -> Result<Box<dyn QuarantinedSource>> {
        Ok(Box::new(LocalQuarantined::open(&self.dir, slot, path, &self.instance)?))
    }
}
