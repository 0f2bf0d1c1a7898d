//! The directory of a run: its input and output where they are files, and whatever it puts there.

use std::{
    ffi::OsStr,
    fs::{DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::fs::Dir;

/// The directory of all runs, below the state directory.
const ALL: &str = "exec";

/// A run's directory. Dropping it removes it with everything in it.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes the directory with this number, with room for the files of the run.
    pub fn make(state_dir: &Path, number: u64) -> io::Result<Self> {
        let scratch = Self(state_dir.join(ALL).join(number.to_string()));
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(scratch.0.join("in"))?;
        private.create(scratch.0.join("out"))?;
        Ok(scratch)
    }

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
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            let path = crate::observe::display_path(&self.0);
            tracing::warn!(event = "program.scratch_left", %error, dir = %path, "cannot remove a program's directory");
        }
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

/// Removes what runs left that did not end with the service.
pub fn remove_leftovers(state_dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(state_dir.join(ALL)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
