//! The first part of a group commit: content and temporary names become durable.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::AsFd,
    sync::{Arc, mpsc},
    time::Instant,
};

use super::Sealed;
use crate::{
    failpoint,
    fs::{self, Dir},
    limits,
    observe::{PipelineMeter, SyncKind},
    pipeline::{
        failure::{CommitError, Failure},
        fatal::Fatal,
        job::{Content, Disposable, Staged},
        stage::{Inlet, Outlet, Shared},
    },
    policy::Durability,
    stages::Stage,
};

/// A batch's part for one thread of the pool, and where its answer goes.
struct Task {
    files: Vec<Staged>,
    done: mpsc::Sender<Vec<(Staged, io::Result<()>)>>,
}

/// The sealing thread. Dropping it closes its pool's channel, and the pool's threads end.
#[derive(Debug)]
pub struct Sealer {
    shared: Shared,
    fatal: Fatal,
    pool: mpsc::SyncSender<Task>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("files", &self.files.len()).finish_non_exhaustive()
    }
}

/// One thread of the pool: syncs files until the sealer is gone.
#[derive(Debug)]
pub struct Syncer(Arc<std::sync::Mutex<mpsc::Receiver<Task>>>);

impl Syncer {
    pub fn run(self) {
        loop {
            let task = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv();
            let Ok(Task { files, done }) = task else {
                return;
            };
            let synced = files.into_iter().map(|staged| (sync_file(&staged), staged));
            let synced = synced.map(|(result, staged)| (staged, result)).collect();
            // The sealer waits for every answer; it is gone only after a panic of its own.
            drop(done.send(synced));
        }
    }
}

fn sync_file(staged: &Staged) -> io::Result<()> {
    failpoint::hit("commit::sync")?;
    let start = Instant::now();
    let result = failpoint::barrier("barrier::temp", || staged.temp.file().sync_all());
    staged.job.context.meter.sync(SyncKind::File, start.elapsed());
    result
}

impl Sealer {
    /// The sealer and the threads of its pool.
    pub fn new(shared: Shared, fatal: Fatal) -> (Self, Vec<Syncer>) {
        let (pool, tasks) = mpsc::sync_channel(limits::SYNCS);
        let tasks = Arc::new(std::sync::Mutex::new(tasks));
        let syncers = (0..limits::SYNCS).map(|_| Syncer(Arc::clone(&tasks))).collect();
        (Self { shared, fatal, pool }, syncers)
    }

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
        batch.iter().for_each(|staged| staged.job.meter.begins(Stage::Commit));
        let (to_sync, mut sealed): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|staged| staged.content == Content::Cached);
        let (each, rest): (Vec<_>, Vec<_>) = to_sync
            .into_iter()
            .partition(|staged| staged.job.context.config.durability == Durability::Fsync);
        let (whole, none): (Vec<_>, Vec<_>) = rest
            .into_iter()
            .partition(|staged| staged.job.context.config.durability == Durability::Syncfs);
        sealed.extend(none);
        sealed.extend(self.keep_synced(self.sync_each(each)));
        sealed.extend(self.keep_synced(sync_whole(whole)));
        self.sync_directories(sealed)
    }

    /// `fsync` of each file, on as many threads as there are files, up to the pool's.
    fn sync_each(&self, files: Vec<Staged>) -> Vec<(Staged, io::Result<()>)> {
        let parts = files.len().min(limits::SYNCS);
        if parts <= 1 {
            return files
                .into_iter()
                .map(|staged| (sync_file(&staged), staged))
                .map(swap)
                .collect();
        }
        let each = files.len().div_ceil(parts);
        let (done, answers) = mpsc::channel();
        let mut files = files.into_iter();
        loop {
            let files: Vec<_> = files.by_ref().take(each).collect();
            if files.is_empty() {
                break;
            }
            let task = Task { files, done: done.clone() };
            if let Err(mpsc::SendError(task)) = self.pool.send(task) {
                // The pool is gone, which only its panics can bring about: sync here.
                let synced = task.files.into_iter().map(|staged| (sync_file(&staged), staged));
                drop(task.done.send(synced.map(swap).collect()));
            }
        }
        drop(done);
        answers.into_iter().flatten().collect()
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

    /// The temporary names. A directory that cannot be synced ends all publishing.
    fn sync_directories(&self, files: Vec<Staged>) -> Vec<Staged> {
        match failpoint::barrier("barrier::temp_directory", || sync_directories(&files)) {
            Ok(()) => files,
            Err(failure) => {
                self.fatal.set(&failure);
                Vec::new()
            }
        }
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

/// Syncs each directory that one of these temps is in, once.
fn sync_directories(files: &[Staged]) -> Result<(), Failure> {
    let mut synced = HashSet::new();
    for staged in files {
        let dir = staged.temp.dir();
        let asked = staged.job.context.config.durability != Durability::None;
        if !asked || synced.contains(dir.path()) {
            continue;
        }
        sync_directory(dir, &staged.job.context.meter)
            .map_err(|source| CommitError::DirectorySync { path: dir.path().into(), source })?;
        synced.insert(dir.path());
    }
    Ok(())
}

pub(super) fn sync_directory(dir: &Dir, meter: &PipelineMeter) -> io::Result<()> {
    failpoint::hit("commit::directory")?;
    let start = Instant::now();
    let result = dir.sync();
    meter.sync(SyncKind::Directory, start.elapsed());
    result
}
