//! The first part of a group commit: content and temporary names become durable.

use std::{collections::HashMap, io, os::fd::AsFd, sync::Arc, time::Instant};

use super::{
    Sealed,
    pool::{Pool, Syncing},
};
use crate::{
    failpoint, fs, limits,
    observe::SyncKind,
    pipeline::{
        failure::CommitError,
        fatal::Fatal,
        job::{Content, Disposable, Staged},
        stage::{Inlet, Outlet, Shared},
    },
    policy::Durability,
    stages::Stage,
};

/// The sealing thread.
#[derive(Debug)]
pub struct Sealer {
    pub shared: Shared,
    pub fatal: Fatal,
    pub pool: Pool,
}

impl Sealer {
    /// Seals what is staged, batch by batch, until there is no more.
    pub fn run(self, inlet: &Inlet<Staged>, outlet: &Outlet<Sealed>) {
        loop {
            let batch = inlet.receive_batch(limits::BATCH);
            if batch.is_empty() {
                return;
            }
            let sealed = self.shared.panics.guard(|| self.seal(batch)).unwrap_or_default();
            if !sealed.is_empty() {
                outlet.send(Sealed(sealed));
            }
        }
    }

    fn seal(&self, batch: Vec<Staged>) -> Vec<Staged> {
        if self.fatal.is_set() {
            return Vec::new();
        }
        for staged in &batch {
            staged.job.meter.begins(Stage::Commit);
            staged.job.trace.begins(Stage::Commit);
        }
        // Beside the files: a name does not wait for its content. Their temps are there.
        let directories = self.sync_directories(&batch);
        let (to_sync, mut sealed): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|staged| staged.content == Content::Cached);
        let (each, rest): (Vec<_>, Vec<_>) = to_sync
            .into_iter()
            .partition(|staged| staged.job.context.config.durability == Durability::Fsync);
        let (whole, none): (Vec<_>, Vec<_>) = rest
            .into_iter()
            .partition(|staged| staged.job.context.config.durability == Durability::Syncfs);
        sealed.extend(none);
        sealed.extend(self.keep_synced(self.pool.files(each)));
        sealed.extend(self.keep_synced(sync_whole(whole)));
        match directories.wait() {
            Ok(()) => sealed,
            // A directory that cannot be synced ends all publishing.
            Err(failure) => {
                self.fatal.set(&failure);
                Vec::new()
            }
        }
    }

    /// Begins to make the temporary names durable.
    fn sync_directories(&self, files: &[Staged]) -> Syncing {
        let asked = |staged: &&Staged| staged.job.context.config.durability != Durability::None;
        let names = |staged: &Staged| {
            (Arc::clone(staged.temp.dir()), Arc::clone(&staged.job.context.meter))
        };
        let left_out = failpoint::leaves_out("barrier::temp_directory");
        let files = files.iter().filter(asked).filter(|_| !left_out);
        self.pool.directories(files.map(names))
    }

    /// C5: what could not be synced is dropped, and its source goes through the intake again.
    fn keep_synced(&self, synced: Vec<(Staged, io::Result<()>)>) -> Vec<Staged> {
        let mut kept = Vec::with_capacity(synced.len());
        for (staged, result) in synced {
            match result {
                Ok(()) => kept.push(staged),
                Err(source) => {
                    let path = staged.job.source_path();
                    let failed = staged.job.fail(CommitError::Sync { path, source });
                    self.shared.failed.send(Disposable::Failed(failed));
                }
            }
        }
        kept
    }
}

fn swap<A, B>((one, other): (A, B)) -> (B, A) {
    (other, one)
}

/// One `syncfs` for all files of a file system.
fn sync_whole(files: Vec<Staged>) -> Vec<(Staged, io::Result<()>)> {
    let mut results: HashMap<u64, io::Result<()>> = HashMap::new();
    for staged in &files {
        results.entry(staged.identity.device).or_insert_with(|| {
            failpoint::hit("commit::sync")?;
            let start = Instant::now();
            let sync = || fs::sync_file_system(&staged.temp.file().as_fd());
            let result = failpoint::barrier("barrier::temp", sync);
            staged.job.context.meter.sync(SyncKind::FileSystem, start.elapsed());
            result
        });
    }
    let result_of = |staged: &Staged| match results.get(&staged.identity.device) {
        Some(Err(error)) => Err(copy(error)),
        _ => Ok(()),
    };
    files.into_iter().map(|staged| (result_of(&staged), staged)).map(swap).collect()
}

fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}
