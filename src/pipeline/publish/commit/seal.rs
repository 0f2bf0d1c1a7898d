//! The first part of a group commit: makes contents and temporary names durable.

use std::sync::Arc;

use super::{
    DurableBatch,
    group_sync::GroupSync,
    sync_pool::{DirEntries, DirectorySync, SyncPool, Synced},
};
use crate::{
    failpoint, limits,
    pipeline::{
        channel::{Inlet, Outlet, Shared},
        failure::{CommitError, Failure, Verdict},
        halt::Halt,
        job::{ContentState, DisposeRequest, Staged},
    },
    policy::Durability,
    stage::Stage,
};

/// The seal thread.
#[derive(Debug)]
pub struct Sealer {
    pub shared: Shared,
    pub fatal: Halt,
    pub pool: SyncPool,
    pub group_sync: GroupSync,
}

impl Sealer {
    /// Seals staged outputs, batch by batch, until the inlet closes.
    pub fn run(self, inlet: &Inlet<Staged>, outlet: &Outlet<DurableBatch>) {
        loop {
            let batch = inlet.receive_batch(limits::COMMIT_BATCH_FILES_MAX);
            if batch.is_empty() {
                return;
            }
            let sealed = self.shared.panics.guard(|| self.seal(batch)).unwrap_or_default();
            if !sealed.is_empty() {
                outlet.send(DurableBatch(sealed));
            }
        }
    }

    fn seal(&self, batch: Vec<Staged>) -> Vec<Staged> {
        if self.fatal.is_set() {
            return Vec::new();
        }
        for staged in &batch {
            staged.job.meter.stage_started(Stage::Commit);
            staged.job.trace.stage_started(Stage::Commit);
        }
        let (to_sync, rest): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|staged| staged.content == ContentState::Cached);
        let (mut by_fsync, to_sync) = split(to_sync, Durability::Fsync);
        let (mut by_syncfs, unsynced) = split(to_sync, Durability::Syncfs);
        if self.group_sync.is_better_for(&by_fsync) {
            by_syncfs.append(&mut by_fsync);
        }
        if !self.group_sync.may_replace_fsync(&by_syncfs) {
            by_fsync.append(&mut by_syncfs);
        }
        let entries = directories(by_fsync.iter().chain(&rest));
        let directory_sync = if by_fsync.len() + rest.len() == 1 {
            // Waking another thread takes longer than this sync.
            DirectorySync::finished(self.pool.directories(entries))
        } else {
            // Concurrently with the files: the names exist already and need not wait for the
            // contents.
            self.pool.begin_directories(entries)
        };
        let mut sealed = rest;
        sealed.extend(unsynced);
        sealed.extend(self.keep_synced(self.pool.files(by_fsync)));
        let by_syncfs = self.keep_synced(self.group_sync.sync(by_syncfs));
        let by_syncfs = self.keep_synced(self.pool.check(by_syncfs));
        // After the `syncfs`: ext4 without a journal writes inodes after the flush that ends a
        // `syncfs`, and the directory's `fsync` flushes the disk again.
        let after = self.pool.directories(directories(by_syncfs.iter()));
        sealed.extend(by_syncfs);
        match directory_sync.wait().and(after) {
            Ok(()) => sealed,
            // The disk is full: none of these outputs has an intent, and their sources are read
            // again.
            Err(failure) if failure.verdict() == Verdict::Pause => {
                self.drop_all(sealed, &failure);
                Vec::new()
            }
            // Any other failure to sync a directory ends all publishing.
            Err(failure) => {
                self.fatal.set(&failure);
                Vec::new()
            }
        }
    }

    fn drop_all(&self, sealed: Vec<Staged>, failure: &Failure) {
        for staged in sealed {
            let path = staged.job.source_path();
            let source = std::io::Error::new(std::io::ErrorKind::StorageFull, failure.chain());
            let failed = staged.job.fail(CommitError::Sync { path, source });
            self.shared.failed.send(DisposeRequest::Failed(failed));
        }
    }

    /// C5: drops the outputs that could not be synced; their sources go through the intake again.
    fn keep_synced(&self, synced: Vec<Synced>) -> Vec<Staged> {
        let mut kept = Vec::with_capacity(synced.len());
        for (staged, result) in synced {
            match result {
                Ok(()) => kept.push(staged),
                Err(source) => {
                    let path = staged.job.source_path();
                    let failed = staged.job.fail(CommitError::Sync { path, source });
                    self.shared.failed.send(DisposeRequest::Failed(failed));
                }
            }
        }
        kept
    }
}

/// Returns the directories whose temporary names must be durable.
fn directories<'a>(files: impl Iterator<Item = &'a Staged>) -> impl Iterator<Item = DirEntries> {
    let must_be_durable =
        |staged: &&Staged| staged.job.context.config.durability != Durability::None;
    let is_skipped = failpoint::is_skipped("barrier::temp_directory");
    files
        .filter(must_be_durable)
        .filter(move |_| !is_skipped)
        .map(|staged| (Arc::clone(staged.temp.dir()), Arc::clone(&staged.job.context.meter)))
}

/// Splits files into those with this durability and the others.
fn split(files: Vec<Staged>, durability: Durability) -> (Vec<Staged>, Vec<Staged>) {
    files.into_iter().partition(|staged| staged.job.context.config.durability == durability)
}
