//! A pool of threads that sync files and directories concurrently: a disk does better with many
//! requests at a time.

use std::{
    collections::HashSet,
    fmt, io,
    path::PathBuf,
    sync::{Arc, mpsc},
    time::Instant,
};

use super::{file::Content, shared::Shared};
use crate::{
    failpoint,
    fingerprint::FileId,
    fs::{self, Dir},
    limits,
    observe::SyncKind,
    sink::{Error, ErrorKind, HelperGuard, Helpers},
    sync::Mutex,
};

/// A staged output's content and the result of its sync.
pub type Synced = (Content, io::Result<()>);

/// The operation on each file.
type FileOperation = fn(&Content, &Shared) -> io::Result<()>;

/// Work for one thread, and the channel for its results.
struct Task {
    shared: Arc<Shared>,
    kind: TaskKind,
}

enum TaskKind {
    Files { files: Vec<Content>, operation: FileOperation, results: mpsc::Sender<Vec<Synced>> },
    Directory { dir: Arc<Dir>, results: mpsc::Sender<Result<(), Error>> },
}

impl Task {
    /// Runs the task. The caller waits for every result; its channel is closed only after a panic
    /// of the caller.
    fn run(self) {
        let Self { shared, kind } = self;
        match kind {
            TaskKind::Files { files, operation, results } => {
                let run = |content: Content| (operation(&content, &shared), content);
                let synced = files.into_iter().map(run).map(|(result, content)| (content, result));
                drop(results.send(synced.collect()));
            }
            TaskKind::Directory { dir, results } => drop(results.send(shared.sync_directory(&dir))),
        }
    }
}

/// The sending end to the pool's threads, while they run.
type Tasks = Arc<Mutex<Option<mpsc::SyncSender<Task>>>>;

/// A pool without threads works on those that call it.
pub struct SyncPool {
    shared: Arc<Shared>,
    tasks: Tasks,
}

impl fmt::Debug for SyncPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SyncPool")
    }
}

/// Ends the threads of a pool when it is dropped.
struct Guard(Tasks);

impl Drop for Guard {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

/// Runs the tasks of one thread until the pool's guard is dropped.
fn run_tasks(tasks: &Mutex<mpsc::Receiver<Task>>) {
    loop {
        let task = tasks.lock().recv();
        let Ok(task) = task else { return };
        task.run();
    }
}

/// Syncs of directories in flight.
#[derive(Debug)]
#[must_use = "the directories are durable only after `wait`"]
pub struct DirectorySync {
    results: mpsc::Receiver<Result<(), Error>>,
    /// The directories that must each report a result.
    directories: Vec<PathBuf>,
}

impl DirectorySync {
    /// A sync that is finished, with this result.
    pub fn finished(result: Result<(), Error>) -> Self {
        let (sender, results) = mpsc::channel();
        drop(sender.send(result));
        Self { results, directories: vec![PathBuf::new()] }
    }

    /// Waits for all syncs and returns the first failure. A directory without a result, lost to a
    /// panic, is not durable.
    pub fn wait(self) -> Result<(), Error> {
        // Waits for every result, so that no sync is in flight when this returns.
        let results: Vec<_> = self.results.into_iter().collect();
        let is_missing = self.directories.len() > results.len();
        results.into_iter().collect::<Result<(), Error>>()?;
        match self.directories.into_iter().next().filter(|_| is_missing) {
            Some(path) => Err(ErrorKind::SyncNames.at(path)(io::Error::other(NO_RESULT))),
            None => Ok(()),
        }
    }
}

/// The error of a sync that a panic ended.
pub const NO_RESULT: &str = "its sync ended without a result";

impl SyncPool {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, tasks: Tasks::default() }
    }

    /// Returns the pool's threads, which the caller starts.
    pub fn helpers(&self) -> Helpers {
        let (sender, tasks) = mpsc::sync_channel(limits::SYNC_THREADS);
        *self.tasks.lock() = Some(sender);
        let tasks = Arc::new(Mutex::new(tasks));
        let thread = |_| {
            let tasks = Arc::clone(&tasks);
            Box::new(move || run_tasks(&tasks)) as Box<dyn FnOnce() + Send>
        };
        let guard = HelperGuard::new(Guard(Arc::clone(&self.tasks)));
        Helpers { threads: (0..limits::SYNC_THREADS).map(thread).collect(), guard }
    }

    fn run(&self, kind: TaskKind) {
        let task = Task { shared: Arc::clone(&self.shared), kind };
        let sender = self.tasks.lock().clone();
        let Some(sender) = sender else { return task.run() };
        // The threads are gone only after panics: this thread runs the task.
        if let Err(mpsc::SendError(task)) = sender.send(task) {
            task.run();
        }
    }

    /// Runs `fsync` on each file, on as many threads as there are files, at most the pool's.
    pub fn files(&self, files: Vec<Content>) -> Vec<Synced> {
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
    pub fn check(&self, files: Vec<Content>) -> Vec<Synced> {
        self.run_each(files, check_content)
    }

    fn run_each(&self, files: Vec<Content>, operation: FileOperation) -> Vec<Synced> {
        let (sender, results) = mpsc::channel();
        let parts = files.len().min(limits::SYNC_THREADS);
        if parts <= 1 {
            let kind = TaskKind::Files { files, operation, results: sender };
            Task { shared: Arc::clone(&self.shared), kind }.run();
            return results.into_iter().flatten().collect();
        }
        let files_per_task = files.len().div_ceil(parts);
        let mut files = files.into_iter();
        loop {
            let files: Vec<_> = files.by_ref().take(files_per_task).collect();
            if files.is_empty() {
                break;
            }
            self.run(TaskKind::Files { files, operation, results: sender.clone() });
        }
        drop(sender);
        results.into_iter().flatten().collect()
    }

    /// Starts to sync each of these directories, once.
    pub fn begin_directories(&self, dirs: impl IntoIterator<Item = Arc<Dir>>) -> DirectorySync {
        let (sender, results) = mpsc::channel();
        let dirs = distinct(dirs);
        let directories = dirs.iter().map(|dir| dir.path().to_path_buf()).collect();
        for dir in dirs {
            self.run(TaskKind::Directory { dir, results: sender.clone() });
        }
        DirectorySync { results, directories }
    }

    /// Syncs each of these directories, once; a single one on this thread, without waking another.
    pub fn directories(&self, dirs: impl IntoIterator<Item = Arc<Dir>>) -> Result<(), Error> {
        let dirs = distinct(dirs);
        if let [dir] = dirs.as_slice() {
            return self.shared.sync_directory(dir);
        }
        self.begin_directories(dirs).wait()
    }
}

/// Starts writeback of each file. A write that cannot start, because no block can be allocated,
/// reports its error only here: the later `fsync` finds nothing left to write and succeeds.
pub fn start_writeback(files: Vec<Content>) -> (Vec<Content>, Vec<Synced>) {
    let mut failed = Vec::new();
    let mut started = Vec::with_capacity(files.len());
    for content in files {
        let start = || fs::start_writeback(content.temp.file());
        match failpoint::barrier("barrier::writeback", start) {
            Ok(()) => started.push(content),
            Err(error) => failed.push((content, Err(error))),
        }
    }
    (started, failed)
}

/// Removes duplicates, by identity: two handles of one path may be two directories, and one
/// directory may have two paths. One sync is enough where it makes all names of the file system durable.
fn distinct(dirs: impl IntoIterator<Item = Arc<Dir>>) -> Vec<Arc<Dir>> {
    let mut ids = HashSet::new();
    let id_of = |dir: &Arc<Dir>| {
        let id = dir.id()?;
        Ok::<_, io::Error>(if dir.syncs_all_names() { FileId { inode: 0, ..id } } else { id })
    };
    let is_new = |dir: &Arc<Dir>| match id_of(dir) {
        Ok(id) => ids.insert(id),
        // Its sync reports the error.
        Err(_) => true,
    };
    dirs.into_iter().filter(is_new).collect()
}

fn sync_file(content: &Content, shared: &Shared) -> io::Result<()> {
    failpoint::hit("commit::sync")?;
    let start = Instant::now();
    let result = failpoint::barrier("barrier::temp", || content.temp.file().sync_all());
    shared.count_sync(SyncKind::File, start.elapsed());
    result.and_then(|()| check_content(content, shared))
}

fn check_content(content: &Content, shared: &Shared) -> io::Result<()> {
    shared.check_content((content.temp.file(), content.identity.size), &content.hash)
}
