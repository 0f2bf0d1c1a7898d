//! The directory of a run: its input and output where they are files, and whatever it puts there.

use std::{
    ffi::OsStr,
    fs::{DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    fs::{Dir, remove_tree},
    observe::display_path,
    sync::Mutex,
};

/// The directory of all runs, below the state directory.
const ALL: &str = "exec";

/// The directories of the runs of one life of the service, in one of its own: a run never meets what an
/// earlier life left. Dropping it leaves it as it is.
#[derive(Debug)]
pub struct Scratches {
    all: PathBuf,
    /// The directory of this life; `None` before the first run.
    life: Mutex<Option<PathBuf>>,
    next: AtomicU64,
}

impl Scratches {
    /// Removes what runs left that did not end with the service, as far as that is possible.
    pub fn new(state_dir: &Path) -> Self {
        let all = state_dir.join(ALL);
        remove_leftovers(&all);
        Self { all, life: Mutex::default(), next: AtomicU64::default() }
    }

    /// Makes a directory with room for the files of a run.
    pub fn make(&self) -> io::Result<Scratch> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut private = DirBuilder::new();
        private.mode(0o700);
        let scratch = self.life()?.join(number.to_string());
        private.create(&scratch)?;
        let scratch = Scratch(scratch);
        private.create(scratch.0.join("in"))?;
        private.create(scratch.0.join("out"))?;
        Ok(scratch)
    }

    /// Returns the directory of this life, and makes it if it is missing.
    fn life(&self) -> io::Result<PathBuf> {
        let mut private = DirBuilder::new();
        private.mode(0o700);
        let mut life = self.life.lock();
        if let Some(life) = &*life {
            private.recursive(true).create(life)?;
            return Ok(life.clone());
        }
        private.recursive(true).create(&self.all)?;
        private.recursive(false);
        let mut number = 0_u64;
        loop {
            let path = self.all.join(number.to_string());
            match private.create(&path) {
                Ok(()) => return Ok(life.insert(path).clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes the directory of this life, unless a run's is left.
    pub fn close(&self) {
        if let Some(life) = self.life.lock().take() {
            drop(std::fs::remove_dir(life));
        }
    }
}

/// A run's directory. Dropping it removes it with everything in it.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn create_input(&self, name: &OsStr) -> io::Result<File> {
        File::options().write(true).create_new(true).open(input(&self.0, name))
    }

    /// Opens the output, if there is one. A program may have made anything of it.
    pub fn open_output(&self, name: &OsStr) -> io::Result<File> {
        let file = Dir::open(&self.0.join("out"))?.open_file(Path::new(name))?;
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::other("it is not a regular file"))
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.0) {
            log_left(&self.0, &error);
        }
    }
}

fn log_left(dir: &Path, error: &io::Error) {
    tracing::warn!(event = "program.scratch_left", %error, dir = %display_path(dir), "cannot remove a program's directory");
}

/// Removes what an earlier life left. What cannot be removed stays, and keeps no service from starting.
fn remove_leftovers(all: &Path) {
    let entries = match std::fs::read_dir(all) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return log_left(all, &error),
    };
    let left = entries.flatten().map(|entry| entry.path());
    let failed = left.filter_map(|path| Some((remove_tree(&path).err()?, path)));
    if let Some((error, path)) = failed.fold(None, |first, failed| first.or(Some(failed))) {
        log_left(&path, &error);
    }
}

/// The path of the input in a run's directory.
pub fn input(scratch: &Path, name: &OsStr) -> PathBuf {
    scratch.join("in").join(name)
}

/// The path of the output in a run's directory.
pub fn output(scratch: &Path, name: &OsStr) -> PathBuf {
    scratch.join("out").join(name)
}
