//! A pool of threads that sync files and directories concurrently: a disk does better with many
//! requests at a time.

use std::{
    collections::HashSet,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Instant,
};

use crate::{
    failpoint,
    fs::{self, Dir},
    limits,
    observe::{PipelineMeter, SyncKind},
    pipeline::{
        content_check,
        failure::{CommitError, Failure},
        job::Staged,
    },
};

/// A staged output and the result of its sync.
pub type Synced = (Staged, io::Result<()>);

/// A directory whose names must be durable, and the meter of its pipeline.
pub type DirEntries = (Arc<Dir>, Arc<PipelineMeter>);

/// The operation on each file.
type FileOperation = fn(&Staged) -> io::Result<()>;

/// Work for one thread, and the channel for its results.
enum Task {
    Files { files: Vec<Staged>, operation: FileOperation, results: mpsc::Sender<Vec<Synced>> },
    Directory { entries: DirEntries, results: mpsc::Sender<Result<(), Failure>> },
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Files { .. } => "Files",
            Self::Directory { .. } => "Directory",
        })
    }
}

impl Task {
    /// Runs the task. The caller waits for every result; its channel is closed only after a panic
    /// of the caller.
    fn run(self) {
        match self {
            Self::Files { files, operation, results } => {
                let run = |staged: Staged| (operation(&staged), staged);
                let synced = files.into_iter().map(run).map(|(result, staged)| (staged, result));
                drop(results.send(synced.collect()));
            }
            Self::Directory { entries, results } => drop(results.send(sync_names(&entries))),
        }
    }
}

/// The sending end of the pool. Dropping the last one ends the pool's threads.
#[derive(Clone, Debug)]
pub struct SyncPool(mpsc::SyncSender<Task>);

/// One thread of the pool. It runs until the last [`SyncPool`] is dropped.
#[derive(Debug)]
pub struct Syncer(Arc<Mutex<mpsc::Receiver<Task>>>);

impl Syncer {
    pub fn run(self) {
        loop {
            let task = self.0.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(task) = task else { return };
            task.run();
        }
    }
}

/// Syncs of directories in flight.
#[derive(Debug)]
#[must_use = "the directories are durable only after `wait`"]
pub struct DirectorySync {
    results: mpsc::Receiver<Result<(), Failure>>,
    /// The directories that must each report a result.
    directories: Vec<PathBuf>,
}

impl DirectorySync {
    /// A sync that is finished, with this result.
    pub fn finished(result: Result<(), Failure>) -> Self {
        let (sender, results) = mpsc::channel();
        drop(sender.send(result));
        Self { results, directories: vec![PathBuf::new()] }
    }

    /// Waits for all syncs and returns the first failure. A directory without a result, lost to a
    /// panic, is not durable.
    pub fn wait(self) -> Result<(), Failure> {
        // Waits for every result, so that no sync is in flight when this returns.
        let results: Vec<_> = self.results.into_iter().collect();
        let is_missing = self.directories.len() > results.len();
        results.into_iter().collect::<Result<(), Failure>>()?;
        match self.directories.into_iter().next().filter(|_| is_missing) {
            Some(path) => {
                let source = io::Error::other("its sync ended without a result");
                Err(CommitError::DirectorySync { path, source }.into())
            }
            None => Ok(()),
        }
    }
}

impl SyncPool {
    /// Creates the pool and its threads, which the caller starts.
    pub fn new() -> (Self, Vec<Syncer>) {
        let (pool, tasks) = mpsc::sync_channel(limits::SYNC_THREADS);
        let tasks = Arc::new(Mutex::new(tasks));
        let syncers = (0..limits::SYNC_THREADS).map(|_| Syncer(Arc::clone(&tasks))).collect();
        (Self(pool), syncers)
    }

    fn run(&self, task: Task) {
        // The pool is gone only after panics of its threads: this thread runs the task.
        if let Err(mpsc::SendError(task)) = self.0.send(task) {
            task.run();
        }
    }

    /// Runs `fsync` on each file, on as many threads as there are files, at most the pool's.
    pub fn files(&self, files: Vec<Staged>) -> Vec<Synced> {
        if files.len() <= 1 {
            return self.run_each(files, sync_file);
        }
        // Writeback of all files is started before the first wait. Their blocks are allocated then,
        // so the first `fsync` also writes the inodes of its neighbours, whose own `fsync` finds
        // nothing left to write.
        let (started, failed) = start_writeback(files);
        let mut synced = self.run_each(started, sync_file);
        synced.extend(failed);
        synced
    }

    /// Checks whether each of these files, which were made durable together, still has its content.
    pub fn check(&self, files: Vec<Staged>) -> Vec<Synced> {
        self.run_each(files, content_check::check)
    }

    fn run_each(&self, files: Vec<Staged>, operation: FileOperation) -> Vec<Synced> {
        let (sender, results) = mpsc::channel();
        let parts = files.len().min(limits::SYNC_THREADS);
        if parts <= 1 {
            Task::Files { files, operation, results: sender }.run();
            return results.into_iter().flatten().collect();
        }
        let files_per_task = files.len().div_ceil(parts);
        let mut files = files.into_iter();
        loop {
            let files: Vec<_> = files.by_ref().take(files_per_task).collect();
            if files.is_empty() {
                break;
            }
            self.run(Task::Files { files, operation, results: sender.clone() });
        }
        drop(sender);
        results.into_iter().flatten().collect()
    }

    /// Starts to sync each of these directories, once.
    pub fn begin_directories(
        &self,
        entries: impl IntoIterator<Item = DirEntries>,
    ) -> DirectorySync {
        let (sender, results) = mpsc::channel();
        let entries = distinct(entries);
        let directories = entries.iter().map(|(dir, _)| dir.path().to_path_buf()).collect();
        for entries in entries {
            self.run(Task::Directory { entries, results: sender.clone() });
        }
        DirectorySync { results, directories }
    }

    /// Syncs each of these directories, once; a single one on this thread, without waking another.
    pub fn directories(
        &self,
        entries: impl IntoIterator<Item = DirEntries>,
    ) -> Result<(), Failure> {
        let entries = distinct(entries);
        if let [entries] = entries.as_slice() {
            return sync_names(entries);
        }
        self.begin_directories(entries).wait()
    }
}

/// Starts writeback of each file. A write that cannot start, because no block can be allocated,
/// reports its error only here: the later `fsync` finds nothing left to write and succeeds.
pub fn start_writeback(files: Vec<Staged>) -> (Vec<Staged>, Vec<Synced>) {
    let mut failed = Vec::new();
    let mut started = Vec::with_capacity(files.len());
    for staged in files {
        match fs::start_writeback(staged.temp.file()) {
            Ok(()) => started.push(staged),
            Err(error) => failed.push((staged, Err(error))),
        }
    }
    (started, failed)
}

/// Removes duplicates, by identity: two handles of one path may be two directories, and one
/// directory may have two paths.
fn distinct(entries: impl IntoIterator<Item = DirEntries>) -> Vec<DirEntries> {
    let mut ids = HashSet::new();
    let is_new = |(dir, _): &DirEntries| match dir.id() {
        Ok(id) => ids.insert(id),
        // Its sync reports the error.
        Err(_) => true,
    };
    entries.into_iter().filter(is_new).collect()
}

fn sync_file(staged: &Staged) -> io::Result<()> {
    failpoint::hit("commit::sync")?;
    let start = Instant::now();
    let result = failpoint::barrier("barrier::temp", || staged.temp.file().sync_all());
    staged.job.context.meter.sync(SyncKind::File, start.elapsed());
    result.and_then(|()| content_check::check(staged))
}

fn sync_names((dir, meter): &DirEntries) -> Result<(), Failure> {
    let sync = || {
        failpoint::hit("commit::directory")?;
        let start = Instant::now();
        let result = dir.sync();
        meter.sync(SyncKind::Directory, start.elapsed());
        result
    };
    let failed = |source| CommitError::DirectorySync { path: dir.path().into(), source };
    Ok(sync().map_err(failed)?)
}
