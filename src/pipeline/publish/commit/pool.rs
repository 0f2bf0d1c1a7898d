//! The threads that sync files and directories, many at a time: a disk does better with many.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Instant,
};

use crate::{
    failpoint,
    fs::{self, Dir},
    limits,
    observe::{PipelineMeter, SyncKind},
    pipeline::{
        failure::{CommitError, Failure},
        job::Staged,
    },
};

/// A staged output and what its sync came to.
pub type Synced = (Staged, io::Result<()>);

/// A directory whose names must be durable, and the meter of the pipeline it is of.
pub type Names = (Arc<Dir>, Arc<PipelineMeter>);

/// Work for one thread, and where its answer goes.
enum Task {
    Files { files: Vec<Staged>, done: mpsc::Sender<Vec<Synced>> },
    Directory { names: Names, done: mpsc::Sender<Result<(), Failure>> },
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
    /// Who asked waits for every answer, and is gone only after a panic of its own.
    fn run(self) {
        match self {
            Self::Files { files, done } => {
                let sync = |staged: Staged| (sync_file(&staged), staged);
                let synced = files.into_iter().map(sync).map(|(result, staged)| (staged, result));
                drop(done.send(synced.collect()));
            }
            Self::Directory { names, done } => drop(done.send(sync_names(&names))),
        }
    }
}

/// The pool's sending end. When the last one is dropped the pool's threads end.
#[derive(Clone, Debug)]
pub struct Pool(mpsc::SyncSender<Task>);

/// One thread of the pool: works until the last [`Pool`] is dropped.
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

/// Directories that are being synced.
#[derive(Debug)]
#[must_use = "they are durable only when it was waited for"]
pub struct Syncing(mpsc::Receiver<Result<(), Failure>>);

impl Syncing {
    /// It is over, with this result.
    pub fn ended(result: Result<(), Failure>) -> Self {
        let (done, answers) = mpsc::channel();
        drop(done.send(result));
        Self(answers)
    }

    /// Waits for all of them; the first failure, if there was one.
    pub fn wait(self) -> Result<(), Failure> {
        // Every answer is waited for, so that no sync is under way when this returns.
        let answers: Vec<_> = self.0.into_iter().collect();
        answers.into_iter().collect()
    }
}

impl Pool {
    /// The pool and its threads, which are to be started.
    pub fn new() -> (Self, Vec<Syncer>) {
        let (pool, tasks) = mpsc::sync_channel(limits::SYNCS);
        let tasks = Arc::new(Mutex::new(tasks));
        let syncers = (0..limits::SYNCS).map(|_| Syncer(Arc::clone(&tasks))).collect();
        (Self(pool), syncers)
    }

    fn run(&self, task: Task) {
        // Where the pool is gone, which only its panics can bring about, this thread does it.
        if let Err(mpsc::SendError(task)) = self.0.send(task) {
            task.run();
        }
    }

    /// `fsync` of each file, on as many threads as there are files, up to the pool's.
    pub fn files(&self, files: Vec<Staged>) -> Vec<Synced> {
        let (done, answers) = mpsc::channel();
        let parts = files.len().min(limits::SYNCS);
        if parts <= 1 {
            Task::Files { files, done }.run();
            return answers.into_iter().flatten().collect();
        }
        // All of it is on its way before the first is waited for. A file's blocks are placed then,
        // so that the first `fsync` writes the inodes of its neighbours too, and theirs find nothing
        // left to write. What fails here the `fsync` meets.
        for staged in &files {
            fs::start_writeback(staged.temp.file()).ok();
        }
        let each = files.len().div_ceil(parts);
        let mut files = files.into_iter();
        loop {
            let files: Vec<_> = files.by_ref().take(each).collect();
            if files.is_empty() {
                break;
            }
            self.run(Task::Files { files, done: done.clone() });
        }
        drop(done);
        answers.into_iter().flatten().collect()
    }

    /// Begins to sync each of these directories, once.
    pub fn begin_directories(&self, names: impl IntoIterator<Item = Names>) -> Syncing {
        let (done, answers) = mpsc::channel();
        for names in each_once(names) {
            self.run(Task::Directory { names, done: done.clone() });
        }
        Syncing(answers)
    }

    /// Syncs each of these directories, once; a single one here, without waking another thread.
    pub fn directories(&self, names: impl IntoIterator<Item = Names>) -> Result<(), Failure> {
        let names = each_once(names);
        if let [names] = names.as_slice() {
            return sync_names(names);
        }
        self.begin_directories(names).wait()
    }
}

fn each_once(names: impl IntoIterator<Item = Names>) -> Vec<Names> {
    let mut known = HashSet::new();
    names.into_iter().filter(|(dir, _)| known.insert(dir.path().to_path_buf())).collect()
}

fn sync_file(staged: &Staged) -> io::Result<()> {
    failpoint::hit("commit::sync")?;
    let start = Instant::now();
    let result = failpoint::barrier("barrier::temp", || staged.temp.file().sync_all());
    staged.job.context.meter.sync(SyncKind::File, start.elapsed());
    result
}

fn sync_names((dir, meter): &Names) -> Result<(), Failure> {
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
