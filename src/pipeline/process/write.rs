//! write: the output's bytes in a temporary file of the output's own directory.
//!
//! Owns: the temporary file. Never makes a final name appear.
//!
//! W1: what is staged has the size that was written, asked of the file itself: a full disk can let
//! every write succeed.
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
        failure::WriteError,
        job::{ContentState, FailedJob, Hashes, Job, Staged, Transformed},
        kept,
    },
    policy::Durability,
};

/// The output directories a thread has open, by pipeline and path; at most [`limits::OPEN_DIRECTORIES_MAX`].
#[derive(Debug, Default)]
pub struct Directories(HashMap<(usize, PathBuf), (Arc<Dir>, Instant)>);

impl Directories {
    fn open(&mut self, job: &Job, relative: &Path) -> io::Result<Arc<Dir>> {
        let context = &job.context;
        let key = (context.index, relative.to_path_buf());
        let now = Instant::now();
        if let Some((dir, looked)) = self.0.get_mut(&key) {
            // A handle stays good when its directory is renamed, and is then another's. The commit
            // looks again, at each batch.
            let is_new = now.saturating_duration_since(*looked) < limits::DIRECTORY_CHECK_INTERVAL;
            if is_new || context.has(dir, relative).unwrap_or(false) {
                *looked = if is_new { *looked } else { now };
                return Ok(Arc::clone(dir));
            }
            self.0.remove(&key);
        }
        if self.0.len() >= limits::OPEN_DIRECTORIES_MAX {
            self.0.clear();
        }
        // A consumer may have taken the root and made another.
        let root = match context.current_output() {
            Err(error) if is_gone(&error) => context.reopen_output()?,
            root => root?,
        };
        let dir = Arc::new(root.make_beneath_like(relative, &job.input, fs::SHARED_DIR_MODE)?);
        self.0.insert(key, (Arc::clone(&dir), now));
        Ok(dir)
    }

    /// Makes a temp in this directory, which may have been removed since it was opened.
    fn make_temp(&mut self, job: &Job, relative: &Path) -> io::Result<Temp> {
        let context = &job.context;
        let dir = self.open(job, relative)?;
        let made = Temp::create(&dir, &context.instance);
        if made.is_err() {
            self.0.remove(&(context.index, relative.to_path_buf()));
        }
        match made {
            Err(error) if is_gone(&error) => {
                let dir = self.open(job, relative)?;
                Temp::create(&dir, &context.instance)
            }
            made => made,
        }
    }
}

/// A temp that is being written.
#[derive(Debug)]
pub struct Draft {
    temp: Temp,
    output: PathBuf,
    written: u64,
    /// Of these so many began to go to the disk.
    under_way: u64,
    hasher: blake3::Hasher,
}

/// Writes a small file's output.
pub fn whole(directories: &mut Directories, file: Transformed) -> Result<Staged, Box<FailedJob>> {
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
            directories.make_temp(job, parent).map_err(|source| directory_failed(job, source))?;
        Ok(Self { temp, output, written: 0, under_way: 0, hasher: blake3::Hasher::new() })
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

    /// Begins to write what has gathered to the disk, so that the sync finds little left. An error is
    /// the file's: the sync need not report it.
    fn start_writeback(&mut self, job: &Job) -> Result<(), WriteError> {
        let gathered = self.written - self.under_way >= limits::WRITEBACK_BYTES;
        if gathered && job.context.config.durability != Durability::None {
            fs::start_writeback(self.temp.file())
                .map_err(|source| WriteError::Sync { path: job.source_path(), source })?;
            self.under_way = self.written;
        }
        Ok(())
    }

    /// Another handle of the file, to read what was written.
    pub fn reader(&self) -> io::Result<File> {
        self.temp.file().try_clone()
    }

    /// Makes it the source by sharing its blocks; false where that cannot be.
    pub fn share(&mut self, job: &Job, source: &File) -> Result<bool, WriteError> {
        let failed = |source| WriteError::Io { path: job.source_path(), source };
        let shared = failpoint::hit("write")
            .and_then(|()| fs::share_content(source, self.temp.file()))
            .map_err(failed)?;
        if shared {
            self.written = job.seen.identity.size;
        }
        Ok(shared)
    }

    /// Copies the source's next bytes in the kernel: 0 at its end, `None` where it cannot.
    pub fn copy(
        &mut self,
        job: &Job,
        source: &File,
        most: usize,
    ) -> Result<Option<u64>, WriteError> {
        let failed = |source| WriteError::Io { path: job.source_path(), source };
        let copied = failpoint::hit("write")
            .and_then(|()| fs::copy_range(source, self.temp.file(), self.written, most))
            .map_err(failed)?;
        self.written += copied.unwrap_or_default();
        self.start_writeback(job)?;
        Ok(copied)
    }

    /// The hash of what was copied.
    pub fn hashed(&mut self, hasher: blake3::Hasher) {
        self.hasher = hasher;
    }

    /// Ends a large file; [`ContentState::Durable`] makes it durable here, so that it does not hold up
    /// the next group commit.
    pub fn finish(
        self,
        job: Job,
        source: Option<Hash>,
        content: ContentState,
    ) -> Result<Staged, Box<FailedJob>> {
        let output_hash = *self.hasher.finalize().as_bytes();
        let (temp, output, identity) = match self.seal(&job) {
            Ok(sealed) => sealed,
            Err(error) => return Err(Box::new(job.fail(error))),
        };
        // What was only copied has the hash of its source.
        let hashes = Hashes { source: source.unwrap_or(output_hash), output: output_hash };
        let staged = Staged { job, temp, identity, content, output, hashes };
        if content == ContentState::Durable {
            let sync = || {
                fs::start_writeback(staged.temp.file())?;
                staged.temp.file().sync_all()?;
                kept::check(&staged)
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
        let failed = |source| WriteError::Io { path: job.source_path(), source };
        self.temp.copy_attributes(&job.seen).map_err(failed)?;
        failpoint::pass("write::sealed");
        let identity = self.temp.identity().map_err(failed)?;
        if identity.size != self.written {
            let (path, written, found) = (job.source_path(), self.written, identity.size);
            return Err(WriteError::Short { path, written, found });
        }
        Ok((self.temp, self.output, identity))
    }
}

/// Whether a directory was removed since it was opened; by another machine it is a stale handle.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle)
}

/// Below a root that is there, a name that is no directory blames the file and not the place.
fn directory_failed(job: &Job, source: io::Error) -> WriteError {
    let path = job.source_path();
    let taken = source.kind() == io::ErrorKind::NotADirectory;
    if taken && Dir::open(&job.context.config.output).is_ok() {
        WriteError::DirectoryTaken { path, source }
    } else {
        WriteError::Directory { path, source }
    }
}

/// Where the output of a source goes, below the output's root.
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
