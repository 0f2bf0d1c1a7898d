//! The threads that sync files and directories, many at a time: a disk does better with many.

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

/// A staged output and what its sync came to.
pub type Synced = (Staged, io::Result<()>);

/// A directory whose names must be durable, and the meter of the pipeline it is of.
pub type DirEntries = (Arc<Dir>, Arc<PipelineMeter>);

/// What is done with each file.
type Work = fn(&Staged) -> io::Result<()>;

/// Work for one thread, and where its answer goes.
enum Task {
    Files { files: Vec<Staged>, work: Work, done: mpsc::Sender<Vec<Synced>> },
    Directory { names: DirEntries, done: mpsc::Sender<Result<(), Failure>> },
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
            Self::Files { files, work, done } => {
                let work = |staged: Staged| (work(&staged), staged);
                let worked = files.into_iter().map(work).map(|(result, staged)| (staged, result));
                drop(done.send(worked.collect()));
            }
            Self::Directory { names, done } => drop(done.send(sync_names(&names))),
        }
    }
}

/// The pool's sending end. When the last one is dropped the pool's threads end.
#[derive(Clone, Debug)]
pub struct SyncPool(mpsc::SyncSender<Task>);

/// One thread of the pool: works until the last [`SyncPool`] is dropped.
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
pub struct Syncing {
    answers: mpsc::Receiver<Result<(), Failure>>,
    /// The directories whose answers must come.
    asked: Vec<PathBuf>,
}

impl Syncing {
    /// It is over, with this result.
    pub fn ended(result: Result<(), Failure>) -> Self {
        let (done, answers) = mpsc::channel();
        drop(done.send(result));
        Self { answers, asked: vec![PathBuf::new()] }
    }

    /// Waits for all of them; the first failure, if there was one. A directory without an answer, which
    /// a panic took with it, is not durable.
    pub fn wait(self) -> Result<(), Failure> {
        // Every answer is waited for, so that no sync is under way when this returns.
        let answers: Vec<_> = self.answers.into_iter().collect();
        let missing = self.asked.len() > answers.len();
        answers.into_iter().collect::<Result<(), Failure>>()?;
        match self.asked.into_iter().next().filter(|_| missing) {
            Some(path) => {
                let source = io::Error::other("its sync ended without a result");
                Err(CommitError::DirectorySync { path, source }.into())
            }
            None => Ok(()),
        }
    }
}

impl SyncPool {
    /// The pool and its threads, which are to be started.
    pub fn new() -> (Self, Vec<Syncer>) {
        let (pool, tasks) = mpsc::sync_channel(limits::SYNC_THREADS);
        let tasks = Arc::new(Mutex::new(tasks));
        let syncers = (0..limits::SYNC_THREADS).map(|_| Syncer(Arc::clone(&tasks))).collect();
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
        if files.len() <= 1 {
            return self.each(files, sync_file);
        }
        // All of it is on its way before the first is waited for. A file's blocks are placed then,
        // so that the first `fsync` writes the inodes of its neighbours too, and theirs find nothing
        // left to write.
        let (begun, failed) = begin(files);
        let mut synced = self.each(begun, sync_file);
        synced.extend(failed);
        synced
    }

    /// Whether each of these files, which were made durable together, still has its content.
    pub fn check(&self, files: Vec<Staged>) -> Vec<Synced> {
        self.each(files, content_check::check)
    }

    fn each(&self, files: Vec<Staged>, work: Work) -> Vec<Synced> {
        let (done, answers) = mpsc::channel();
        let parts = files.len().min(limits::SYNC_THREADS);
        if parts <= 1 {
            Task::Files { files, work, done }.run();
            return answers.into_iter().flatten().collect();
        }
        let each = files.len().div_ceil(parts);
        let mut files = files.into_iter();
        loop {
            let files: Vec<_> = files.by_ref().take(each).collect();
            if files.is_empty() {
                break;
            }
            self.run(Task::Files { files, work, done: done.clone() });
        }
        drop(done);
        answers.into_iter().flatten().collect()
    }

    /// Begins to sync each of these directories, once.
    pub fn begin_directories(&self, names: impl IntoIterator<Item = DirEntries>) -> Syncing {
        let (done, answers) = mpsc::channel();
        let names = each_once(names);
        let asked = names.iter().map(|(dir, _)| dir.path().to_path_buf()).collect();
        for names in names {
            self.run(Task::Directory { names, done: done.clone() });
        }
        Syncing { answers, asked }
    }

    /// Syncs each of these directories, once; a single one here, without waking another thread.
    pub fn directories(&self, names: impl IntoIterator<Item = DirEntries>) -> Result<(), Failure> {
        let names = each_once(names);
        if let [names] = names.as_slice() {
            return sync_names(names);
        }
        self.begin_directories(names).wait()
    }
}

/// Begins to write each of these to the disk. The error of a write that cannot even begin, because no
/// block can be had for it, is told to who began it and to nobody after: the `fsync` finds nothing left
/// to write, and succeeds.
pub fn begin(files: Vec<Staged>) -> (Vec<Staged>, Vec<Synced>) {
    let mut failed = Vec::new();
    let mut begun = Vec::with_capacity(files.len());
    for staged in files {
        match fs::start_writeback(staged.temp.file()) {
            Ok(()) => begun.push(staged),
            Err(error) => failed.push((staged, Err(error))),
        }
    }
    (begun, failed)
}

/// Two handles of one path may be two directories, and one directory may have two paths.
fn each_once(names: impl IntoIterator<Item = DirEntries>) -> Vec<DirEntries> {
    let mut known = HashSet::new();
    let is_new = |(dir, _): &DirEntries| match dir.id() {
        Ok(id) => known.insert(id),
        // Its sync says what is wrong with it.
        Err(_) => true,
    };
    names.into_iter().filter(is_new).collect()
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
