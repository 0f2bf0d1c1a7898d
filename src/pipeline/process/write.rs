//! write: the output's bytes in a temporary file of the output's own directory.
//!
//! Owns: the temporary file. Never makes a final name appear.
//!
//! W1: a staged output has the number of bytes that were written, by the file's own metadata: on a
//! full disk every write can still succeed.
//! W2: the directory of a staged output is durable up to the output's root.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use crate::{
    failpoint,
    fingerprint::Fingerprint,
    fs::{self, Dir, Temp},
    ledger::Hash,
    limits,
    pipeline::{
        content_check,
        failure::WriteError,
        job::{ContentState, FailedJob, Hashes, Job, Staged, Transformed},
    },
    policy::Durability,
};

/// The open output directories of a thread, by pipeline and path, each with the time of its latest
/// check; at most [`limits::OPEN_DIRECTORIES_MAX`].
#[derive(Debug, Default)]
pub struct Directories(HashMap<(usize, PathBuf), (Arc<Dir>, Instant)>);

impl Directories {
    fn open(&mut self, job: &Job, relative: &Path) -> io::Result<Arc<Dir>> {
        let context = &job.context;
        let key = (context.index, relative.to_path_buf());
        let now = Instant::now();
        if let Some((dir, checked_at)) = self.0.get_mut(&key) {
            // A handle survives a rename of its directory, and then leads to another path. The commit
            // checks again, at each batch.
            let is_recent =
                now.saturating_duration_since(*checked_at) < limits::DIRECTORY_CHECK_INTERVAL;
            if is_recent || context.is_current(dir, relative).unwrap_or(false) {
                *checked_at = if is_recent { *checked_at } else { now };
                return Ok(Arc::clone(dir));
            }
            self.0.remove(&key);
        }
        if self.0.len() >= limits::OPEN_DIRECTORIES_MAX {
            self.0.clear();
        }
        // A consumer may have taken the root and created another one.
        let root = match context.current_output() {
            Err(error) if is_gone(&error) => context.reopen_output()?,
            root => root?,
        };
        let dir = Arc::new(root.make_beneath_like(relative, &job.input, fs::SHARED_DIR_MODE)?);
        self.0.insert(key, (Arc::clone(&dir), now));
        Ok(dir)
    }

    /// Creates a temp in this directory, which may have been removed since it was opened.
    fn create_temp(&mut self, job: &Job, relative: &Path) -> io::Result<Temp> {
        let context = &job.context;
        let dir = self.open(job, relative)?;
        let result = Temp::create(&dir, &context.instance);
        if result.is_err() {
            self.0.remove(&(context.index, relative.to_path_buf()));
        }
        match result {
            Err(error) if is_gone(&error) => {
                let dir = self.open(job, relative)?;
                Temp::create(&dir, &context.instance)
            }
            result => result,
        }
    }
}

/// A temp that is being written. Dropping it discards the temp.
#[derive(Debug)]
pub struct Draft {
    temp: Temp,
    /// The final path, below the output.
    output: PathBuf,
    /// Bytes written so far.
    written: u64,
    /// Bytes whose writeback has been started.
    writeback_started: u64,
    hasher: blake3::Hasher,
}

/// Writes a small file's output.
pub fn write_small(
    directories: &mut Directories,
    file: Transformed,
) -> Result<Staged, Box<FailedJob>> {
    let Transformed { mut job, bytes, hashes } = file;
    let staged = failpoint::hit("write")
        .map_err(|source| WriteError::Io { path: job.source_path(), source })
        .and_then(|()| Draft::begin(directories, &job))
        .and_then(|mut draft| {
            draft.write(&job, &bytes)?;
            draft.seal(&job)
        });
    drop(bytes);
    job.release_bytes();
    match staged {
        Ok((temp, output, identity)) => {
            Ok(Staged { job, temp, identity, content: ContentState::Cached, output, hashes })
        }
        Err(error) => Err(Box::new(job.fail(error))),
    }
}

impl Draft {
    pub fn begin(directories: &mut Directories, job: &Job) -> Result<Self, WriteError> {
        let output = output_path(job)?;
        let (parent, _) = fs::split(&output);
        let temp =
            directories.create_temp(job, parent).map_err(|source| directory_error(job, source))?;
        Ok(Self { temp, output, written: 0, writeback_started: 0, hasher: blake3::Hasher::new() })
    }

    fn write(&mut self, job: &Job, bytes: &[u8]) -> Result<(), WriteError> {
        let mut file = self.temp.file();
        file.write_all(bytes)
            .map_err(|source| WriteError::Io { path: job.source_path(), source })?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Adds a chunk of a large file's output.
    pub fn add(&mut self, job: &Job, chunk: &[u8]) -> Result<(), WriteError> {
        failpoint::hit("write")
            .map_err(|source| WriteError::Io { path: job.source_path(), source })?;
        self.hasher.update(chunk);
        self.write(job, chunk)?;
        self.start_writeback(job)
    }

    /// Starts the writeback of gathered bytes, so that the final sync finds few dirty pages. An error
    /// fails the file here, because the sync need not report it.
    fn start_writeback(&mut self, job: &Job) -> Result<(), WriteError> {
        let is_due = self.written - self.writeback_started >= limits::WRITEBACK_BYTES;
        if is_due && job.context.config.durability != Durability::None {
            fs::start_writeback(self.temp.file())
                .map_err(|source| WriteError::Sync { path: job.source_path(), source })?;
            self.writeback_started = self.written;
        }
        Ok(())
    }

    /// Returns another handle of the file, to read the written content.
    pub fn reader(&self) -> io::Result<File> {
        self.temp.file().try_clone()
    }

    /// Shares the blocks of the entire source with the draft; false if the file system cannot.
    pub fn share(&mut self, job: &Job, source: &File) -> Result<bool, WriteError> {
        let write_error = |source| WriteError::Io { path: job.source_path(), source };
        let shared = failpoint::hit("write")
            .and_then(|()| fs::share_content(source, self.temp.file()))
            .map_err(write_error)?;
        if shared {
            self.written = job.metadata.identity.size;
        }
        Ok(shared)
    }

    /// Copies up to `limit` of the source's next bytes in the kernel: 0 at the source's end, `None` if
    /// the kernel cannot copy between the two files.
    pub fn copy(
        &mut self,
        job: &Job,
        source: &File,
        limit: usize,
    ) -> Result<Option<u64>, WriteError> {
        let write_error = |source| WriteError::Io { path: job.source_path(), source };
        let copied = failpoint::hit("write")
            .and_then(|()| fs::copy_range(source, self.temp.file(), self.written, limit))
            .map_err(write_error)?;
        self.written += copied.unwrap_or_default();
        self.start_writeback(job)?;
        Ok(copied)
    }

    /// Sets the hasher of the copied content.
    pub fn set_hasher(&mut self, hasher: blake3::Hasher) {
        self.hasher = hasher;
    }

    /// Finishes a large file; [`ContentState::Durable`] makes it durable here, so that it does not delay
    /// the next group commit. Without a source hash the output is a copy of its source.
    pub fn finish(
        self,
        job: Job,
        source_hash: Option<Hash>,
        content: ContentState,
    ) -> Result<Staged, Box<FailedJob>> {
        let output_hash = *self.hasher.finalize().as_bytes();
        let (temp, output, identity) = match self.seal(&job) {
            Ok(sealed) => sealed,
            Err(error) => return Err(Box::new(job.fail(error))),
        };
        let hashes = Hashes { source: source_hash.unwrap_or(output_hash), output: output_hash };
        let staged = Staged { job, temp, identity, content, output, hashes };
        if content == ContentState::Durable {
            let sync = || {
                fs::start_writeback(staged.temp.file())?;
                staged.temp.file().sync_all()?;
                content_check::check(&staged)
            };
            if let Err(source) = failpoint::barrier("barrier::temp", sync) {
                let Staged { job, temp, .. } = staged;
                drop(temp);
                let path = job.source_path();
                return Err(Box::new(job.fail(WriteError::Sync { path, source })));
            }
        }
        Ok(staged)
    }

    /// Sets mode, owner and times, and checks W1.
    fn seal(self, job: &Job) -> Result<(Temp, PathBuf, Fingerprint), WriteError> {
        let write_error = |source| WriteError::Io { path: job.source_path(), source };
        self.temp.copy_attributes(&job.metadata).map_err(write_error)?;
        failpoint::pass("write::sealed");
        let identity = self.temp.identity().map_err(write_error)?;
        if identity.size != self.written {
            let (path, written, found) = (job.source_path(), self.written, identity.size);
            return Err(WriteError::Short { path, written, found });
        }
        Ok((self.temp, self.output, identity))
    }
}

/// Checks whether a directory was removed since it was opened; a removal by another machine results in
/// a stale handle.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle)
}

/// Classifies an error of the output directory: below an existing root, a name that is not a directory
/// blames the file and not the storage.
fn directory_error(job: &Job, source: io::Error) -> WriteError {
    let path = job.source_path();
    let is_taken = source.kind() == io::ErrorKind::NotADirectory;
    if is_taken && Dir::open(&job.context.config.output).is_ok() {
        WriteError::DirectoryTaken { path, source }
    } else {
        WriteError::Directory { path, source }
    }
}

/// Returns the path of a source's output, below the output's root.
fn output_path(job: &Job) -> Result<PathBuf, WriteError> {
    let (parent, name) = fs::split(&job.path);
    let name = job.context.config.transforms.output_name(name);
    if name.is_empty() || name == "." || name == ".." {
        return Err(WriteError::NoName { path: job.source_path() });
    }
    if name.len() > limits::NAME_BYTES_MAX {
        return Err(WriteError::NameTooLong { path: job.source_path(), bytes: name.len() });
    }
    Ok(parent.join(name))
}
