//! The file systems of the directories that sources are moved to. Without its mount a path leads to the
//! directory below the mount point: what is moved there is hidden as soon as it is mounted again.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use crate::{
    error::of_target,
    fs::{self, Dir},
    sync::Mutex,
};

/// The file system of each archive and quarantine, from the opening of the pipeline on, and otherwise from its
/// first use.
#[derive(Debug, Default)]
pub struct Targets(Mutex<HashMap<PathBuf, Mounted>>);

#[derive(Clone, Debug)]
struct Mounted {
    device: u64,
    /// The directory at which it is mounted; it may have another device number when it is mounted again.
    at: PathBuf,
}

impl Targets {
    /// Returns the targets with these directories, as far as they exist. Blocks while their file systems
    /// do.
    #[must_use]
    pub fn of<'a>(dirs: impl Iterator<Item = &'a Path>) -> Self {
        let targets = Self::default();
        for dir in dirs {
            drop(targets.open(dir));
        }
        targets
    }

    /// Opens a directory that sources are moved to.
    ///
    /// # Errors
    ///
    /// `ENODEV` if its file system is not mounted.
    pub fn open(&self, dir: &Path) -> io::Result<Dir> {
        let opened = Dir::open(dir)?;
        self.check(dir, &opened, dir)?;
        Ok(opened)
    }

    /// Checks a directory, or the one above it at this path in which it is about to be made. An operator
    /// may replace it on its file system, or mount another one.
    pub fn check(&self, dir: &Path, found: &Dir, at: &Path) -> io::Result<()> {
        let device = found.id()?.device;
        let known = self.0.lock().get(dir).cloned();
        match known {
            Some(known) if known.device == device => return Ok(()),
            Some(known) if !fs::is_mount(at)? && !fs::is_mount(&known.at)? => {
                return Err(of_target(rustix::io::Errno::NODEV.into()));
            }
            _ => {}
        }
        let is_mount = |above: &&Path| fs::is_mount(above).unwrap_or(false);
        let at = at.ancestors().find(is_mount).unwrap_or(Path::new("/")).to_path_buf();
        self.0.lock().insert(dir.to_path_buf(), Mounted { device, at });
        Ok(())
    }
}
