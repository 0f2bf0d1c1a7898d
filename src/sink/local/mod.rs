//! A directory as a sink. Its optimizations stay in here: one `syncfs` for a batch, links where a file
//! system cannot rename without overwriting, copies in the kernel.

mod attributes;
mod content_check;
mod file;
mod free_space;
mod group_sync;
mod moved;
mod remains;
mod root;
mod seal;
mod shared;
mod side_file;
mod sync_pool;

use std::{
    ffi::OsStr,
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use self::{
    file::LocalFile,
    free_space::FreeSpace,
    group_sync::GroupSync,
    root::{Root, is_gone},
    shared::Shared,
    sync_pool::SyncPool,
};
use super::{
    Attributes, Error, ErrorKind, Found, Helpers, Precondition, Remains, SealResult, Sink,
    SinkOptions, Staged, Swept, Writer,
};
use crate::{
    failpoint,
    fingerprint::Fingerprint,
    fs::{self, Dir, FileMetadata, NodeId, Temp},
    ledger::Output,
    limits,
    policy::Durability,
};

/// The output directory of a pipeline.
#[derive(Debug)]
pub struct Local {
    shared: Arc<Shared>,
    /// The ledger's instance, a part of every temporary name.
    instance: NodeId,
    root: Root,
    pool: SyncPool,
    group_sync: GroupSync,
}

impl Local {
    /// Opens the directory.
    pub fn open(options: SinkOptions) -> io::Result<Self> {
        let SinkOptions { pipeline, path, instance, durability, verify, min_free, meter } = options;
        let root = Root::open(&path, Arc::clone(&pipeline))?;
        if durability == Durability::Syncfs && !fs::prefers_syncfs(&*root.dir())? {
            tracing::warn!(event = "storage.limited", %pipeline, "file system does not report errors to syncfs, using fsync");
        }
        let free_space = FreeSpace::new(min_free);
        let shared = Arc::new(Shared::new(pipeline, durability, verify, free_space, meter));
        let (pool, group_sync) =
            (SyncPool::new(Arc::clone(&shared)), GroupSync::new(Arc::clone(&shared)));
        Ok(Self { shared, instance, root, pool, group_sync })
    }

    fn sync_directories(&self, published: &[&mut dyn Staged]) -> Result<(), Error> {
        if self.shared.durability == Durability::None {
            return Ok(());
        }
        let dirs = published.iter().filter_map(|staged| LocalFile::of(&**staged));
        self.pool.directories(dirs.map(|file| Arc::clone(file.dir())))
    }

    /// Classifies an error of an output's directory: below an existing root, a name that is not a
    /// directory blames the output and not the storage.
    fn directory_error(&self, target: &Path, source: io::Error) -> Error {
        let is_taken = source.kind() == io::ErrorKind::NotADirectory;
        let is_taken = is_taken && Dir::open(self.root.path()).is_ok();
        let kind = if is_taken { ErrorKind::DirectoryTaken } else { ErrorKind::Directory };
        kind.at(self.root.path().join(target))(source)
    }
}

impl Sink for Local {
    fn helpers(&self) -> Helpers {
        self.pool.helpers()
    }

    fn create(
        &self,
        target: &Path,
        model: &dyn Fn(&Path) -> Option<FileMetadata>,
    ) -> Result<Box<dyn Writer>, Error> {
        let at = || self.root.path().join(target);
        self.shared
            .free_space
            .check(&self.root.dir())
            .map_err(|error| ErrorKind::Write.at(at())(error))?;
        let (parent, _) = fs::split(target);
        let create =
            || self.root.open_below(parent, model).map(|dir| Temp::create(&dir, &self.instance));
        // The directory may have been removed since it was opened.
        let temp = create().and_then(|result| {
            let Err(error) = result else { return result };
            self.root.forget(parent);
            if is_gone(&error) { create()? } else { Err(error) }
        });
        let temp = temp.map_err(|error| self.directory_error(target, error))?;
        Ok(Box::new(LocalFile::new(Arc::clone(&self.shared), temp)))
    }

    fn seal(&self, batch: &mut [&mut dyn Staged]) -> SealResult {
        seal::seal(self, batch)
    }

    /// A temporary name that a power loss brought back after the acknowledgement would be taken for an
    /// output that was never published, so its removal is durable too.
    fn sync_names(&self, published: &mut [&mut dyn Staged]) -> Result<(), Error> {
        failpoint::barrier("barrier::final_directory", || self.sync_directories(published))?;
        let mut had_second_name = false;
        for staged in &mut *published {
            let Some(file) = LocalFile::of_mut(*staged) else { continue };
            had_second_name |= file
                .remove_second_name()
                .map_err(|error| ErrorKind::Remove.at(file.dir().path())(error))?;
        }
        if !had_second_name {
            return Ok(());
        }
        failpoint::barrier("barrier::second_directory", || self.sync_directories(published))
    }

    fn are_displaced(&self, outputs: &[(&dyn Staged, &Path)]) -> Vec<bool> {
        moved::are_displaced(&self.root, outputs)
    }

    fn update_attributes(
        &self,
        output: &Output,
        attributes: Attributes<'_>,
    ) -> Result<Option<Fingerprint>, Error> {
        attributes::update(&self.shared, &self.root.dir(), output, attributes)
            .map_err(ErrorKind::Attributes.at(self.root.path().join(&output.path)))
    }

    fn probe(&self) -> Result<(), Error> {
        let write = || {
            let dir = self.root.reopen()?;
            failpoint::hit("write")?;
            self.shared.free_space.check_now(&dir)?;
            let temp = Temp::create(&dir, &self.instance)?;
            temp.file().write_all(&vec![0; limits::PROBE_BYTES])?;
            temp.file().sync_data()
        };
        write().map_err(ErrorKind::Write.at(self.root.path()))
    }

    fn has(&self, target: &Path) -> Result<bool, Error> {
        let found = self.root.dir().stat_beneath(target);
        let found = found.map_err(ErrorKind::Look.at(self.root.path().join(target)))?;
        Ok(found.is_some())
    }

    fn inspect(&self, output: &Output) -> Result<Remains, Error> {
        remains::inspect(&self.root.dir(), output)
    }

    fn were_displaced(&self, outputs: &[&Output]) -> Vec<Result<bool, Error>> {
        moved::were_displaced(&self.root.dir(), &self.instance, outputs)
    }

    fn resume(&self, output: &Output, precondition: Precondition) -> Result<(), Error> {
        remains::publish(&self.root.dir(), output, precondition)
    }

    fn remove_staged_name(&self, output: &Output) -> Result<(), Error> {
        remains::remove_staged_name(&self.root.dir(), output)
    }

    fn sync_name(&self, target: &Path) -> Result<(), Error> {
        remains::sync_name(&self.root.dir(), target)
    }

    fn read(&self, target: &Path, max_bytes: u64) -> Result<Option<Found>, Error> {
        side_file::read(&self.root.dir(), target, max_bytes)
    }

    fn write_side_file(
        &self,
        output: &Output,
        (target, content): (&Path, &[u8]),
        precondition: Precondition,
    ) -> Result<(), Error> {
        side_file::write(self, output, (target, content), precondition)
    }

    fn remove_side_file(&self, target: &Path, shown: &Fingerprint) -> Result<(), Error> {
        side_file::remove(&self.root.dir(), target, shown)
    }

    fn is_unmounted(&self, inode: u64) -> bool {
        let root = self.root.dir();
        let is_another = root.id().is_ok_and(|id| id.inode != inode);
        is_another && !root.may_renumber() && remains::is_empty(&root)
    }

    fn take_replaced(&self) -> Option<u64> {
        self.root.take_replaced()
    }

    fn sweep(&self, is_live: &dyn Fn(&OsStr) -> bool) -> Swept {
        remains::sweep(&self.root.dir(), &self.instance, is_live)
    }
}

#[cfg(test)]
mod tests;
