//! The first part of a group commit: content and temporary names become durable.

use std::sync::Arc;

use super::{
    DurableBatch,
    group_sync::GroupSync,
    sync_pool::{DirEntries, SyncPool, Synced, Syncing},
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

/// The sealing thread.
#[derive(Debug)]
pub struct Sealer {
    pub shared: Shared,
    pub fatal: Halt,
    pub pool: SyncPool,
    pub whole: GroupSync,
}

impl Sealer {
    /// Seals what is staged, batch by batch, until there is no more.
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
        let (mut each, to_sync) = split(to_sync, Durability::Fsync);
        let (mut whole, none) = split(to_sync, Durability::Syncfs);
        if self.whole.suits(&each) {
            whole.append(&mut each);
        }
        if !self.whole.may_stand_for(&whole) {
            each.append(&mut whole);
        }
        let names = directories(each.iter().chain(&rest));
        let beside = if each.len() + rest.len() == 1 {
            // To wake another thread for it takes longer than it does.
            Syncing::ended(self.pool.directories(names))
        } else {
            // Beside the files: a name does not wait for its content. Their temps are there.
            self.pool.begin_directories(names)
        };
        let mut sealed = rest;
        sealed.extend(none);
        sealed.extend(self.keep_synced(self.pool.files(each)));
        let whole = self.keep_synced(self.whole.sync(whole));
        let whole = self.keep_synced(self.pool.check(whole));
        // After it: ext4 without a journal writes inodes after the flush that ends a `syncfs`, and
        // the directory's `fsync` flushes the disk again.
        let after = self.pool.directories(directories(whole.iter()));
        sealed.extend(whole);
        match beside.wait().and(after) {
            Ok(()) => sealed,
            // A full disk: none of these has an intent, and their sources are read again.
            Err(failure) if failure.verdict() == Verdict::Pause => {
                self.drop_all(sealed, &failure);
                Vec::new()
            }
            // A directory that cannot be synced otherwise ends all publishing.
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

    /// C5: what could not be synced is dropped, and its source goes through the intake again.
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

/// Where the temporary names are that must be durable.
fn directories<'a>(files: impl Iterator<Item = &'a Staged>) -> impl Iterator<Item = DirEntries> {
    let asked = |staged: &&Staged| staged.job.context.config.durability != Durability::None;
    let left_out = failpoint::is_skipped("barrier::temp_directory");
    files
        .filter(asked)
        .filter(move |_| !left_out)
        .map(|staged| (Arc::clone(staged.temp.dir()), Arc::clone(&staged.job.context.meter)))
}

/// Those of this durability, and the others.
fn split(files: Vec<Staged>, durability: Durability) -> (Vec<Staged>, Vec<Staged>) {
    files.into_iter().partition(|staged| staged.job.context.config.durability == durability)
}
