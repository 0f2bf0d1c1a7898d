//! The root of the outputs, and the directories below it that are open.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, MutexGuard},
    time::Instant,
};

use crate::{
    failpoint,
    fingerprint::FileId,
    fs::{self, Dir, FileMetadata},
    limits,
    observe::display_path,
    sync::Mutex,
};

/// The output directory of a pipeline, which another program may replace while it is open.
#[derive(Debug)]
pub struct Root {
    pipeline: Arc<str>,
    path: PathBuf,
    /// The latest opened directory at the path.
    dir: Mutex<Arc<Dir>>,
    /// Open directories below it, each with the time of its latest check; at most
    /// [`limits::OPEN_DIRECTORIES_MAX`].
    below: Mutex<HashMap<PathBuf, (Arc<Dir>, Instant)>>,
    /// The directories that were synced since the root was opened, so that the names in them that an
    /// earlier run made are durable; at most [`limits::SYNCED_DIRECTORIES_MAX`].
    synced: Mutex<HashSet<PathBuf>>,
    /// The inode of a root that replaced another one; see [`Self::take_replaced`].
    replaced: Mutex<Option<u64>>,
}

impl Root {
    pub fn open(path: &Path, pipeline: Arc<str>) -> io::Result<Self> {
        let dir = Mutex::new(Arc::new(Dir::open(path)?));
        let path = path.to_path_buf();
        let (below, synced, replaced) = (Mutex::default(), Mutex::default(), Mutex::default());
        Ok(Self { pipeline, path, dir, below, synced, replaced })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn dir(&self) -> Arc<Dir> {
        Arc::clone(&self.dir.lock())
    }

    /// Opens the root again, by its path: it may have been removed and created again. This never creates
    /// it, because a missing root may be a missing mount.
    pub fn reopen(&self) -> io::Result<Arc<Dir>> {
        let dir = Arc::new(Dir::open_fresh(&self.path)?);
        let before = std::mem::replace(&mut *self.dir.lock(), Arc::clone(&dir));
        let inode = |dir: &Dir| dir.id().map(|id| id.inode);
        if let (Ok(before), Ok(now)) = (inode(&before), inode(&dir))
            && before != now
        {
            *self.replaced.lock() = Some(now);
        }
        self.synced().clear();
        Ok(dir)
    }

    /// Returns the inode of the root if it is another one since the last call.
    pub fn take_replaced(&self) -> Option<u64> {
        self.replaced.lock().take()
    }

    /// Returns the root that is now at its path: a consumer may take the entire directory and create
    /// another one.
    fn current(&self) -> io::Result<Arc<Dir>> {
        let opened = self.dir();
        let path = &self.path;
        // On a network file system only an `open` bypasses the attribute cache of this machine.
        let found = if opened.is_network() {
            Dir::open_fresh(path)?.id()?
        } else {
            fs::directory_at(path)?.identity.file_id()
        };
        if is_same(&opened, found)? {
            return Ok(opened);
        }
        let opened_id = opened.id()?;
        // An unmount uncovers a directory of another file system; a mount is a legal replacement.
        if found.device != opened_id.device && !fs::is_mount(path)? {
            return Err(rustix::io::Errno::NODEV.into());
        }
        tracing::info!(event = "output.replaced", pipeline = %self.pipeline, output = %display_path(path), "output directory was replaced");
        self.reopen()
    }

    /// Checks whether a directory below the root is still at its path.
    pub fn is_current(&self, dir: &Dir, relative: &Path) -> io::Result<bool> {
        let root = self.current()?;
        if relative.as_os_str().is_empty() {
            return is_same(dir, root.id()?);
        }
        let found = root.stat_fresh(relative)?;
        found.map_or(Ok(false), |found| is_same(dir, found.identity.file_id()))
    }

    /// Opens a directory below the root, and creates it if it is missing. Its name is durable.
    pub fn open_below(
        &self,
        relative: &Path,
        model: &dyn Fn(&Path) -> Option<FileMetadata>,
    ) -> io::Result<Arc<Dir>> {
        if let Some(dir) = self.opened(relative) {
            return Ok(dir);
        }
        // A consumer may have taken the root and created another one.
        let root = match self.current() {
            Err(error) if is_gone(&error) => self.reopen()?,
            root => root?,
        };
        let dir = Arc::new(root.make_beneath_like(relative, model, fs::SHARED_DIR_MODE)?);
        self.sync_parents(&root, relative)?;
        self.remember(relative, &dir);
        Ok(dir)
    }

    /// Syncs each directory above this one, once: a run that was killed may have made a name in it.
    fn sync_parents(&self, root: &Dir, relative: &Path) -> io::Result<()> {
        for parent in relative.ancestors().skip(1) {
            if self.synced().contains(parent) {
                continue;
            }
            match root.open_beneath(parent) {
                Ok(dir) => failpoint::barrier("barrier::new_directory", || dir.sync())?,
                // The service may only pass through it, and made no name in it.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
            let mut synced = self.synced();
            if synced.len() >= limits::SYNCED_DIRECTORIES_MAX {
                synced.clear();
            }
            synced.insert(parent.to_path_buf());
        }
        Ok(())
    }

    fn synced(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.synced.lock()
    }

    fn opened(&self, relative: &Path) -> Option<Arc<Dir>> {
        let now = Instant::now();
        let (dir, checked_at) = {
            let below = self.below.lock();
            below.get(relative).map(|(dir, checked_at)| (Arc::clone(dir), *checked_at))?
        };
        if now.saturating_duration_since(checked_at) < limits::DIRECTORY_CHECK_INTERVAL {
            return Some(dir);
        }
        // A handle survives a rename of its directory, and then leads to another path. The commit
        // checks again, at each batch.
        if self.is_current(&dir, relative).unwrap_or(false) {
            self.remember(relative, &dir);
            return Some(dir);
        }
        self.forget(relative);
        None
    }

    /// Keeps a directory open, as checked now.
    fn remember(&self, relative: &Path, dir: &Arc<Dir>) {
        let entry = (Arc::clone(dir), Instant::now());
        let mut below = self.below.lock();
        if let Some(known) = below.get_mut(relative) {
            *known = entry;
            return;
        }
        if below.len() >= limits::OPEN_DIRECTORIES_MAX {
            below.clear();
        }
        below.insert(relative.to_path_buf(), entry);
    }

    pub fn forget(&self, relative: &Path) {
        self.below.lock().remove(relative);
        // Another program may have made the directory that is there now.
        if let Some(parent) = relative.parent() {
            self.synced().remove(parent);
        }
    }
}

/// Checks whether a directory was removed since it was opened; a removal by another machine results in
/// a stale handle.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle)
}

/// Compares a directory with a file ID, and stats it again if they differ: some file systems do not
/// keep their inode numbers.
fn is_same(dir: &Dir, found: FileId) -> io::Result<bool> {
    if dir.id()? == found {
        return Ok(true);
    }
    match fs::identity_of(dir) {
        // The directory was removed on the server.
        Err(error) if error.kind() == io::ErrorKind::StaleNetworkFileHandle => Ok(false),
        identity => Ok(identity?.file_id() == found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that was killed may have made one, and its name is not durable on every file system.
    #[test]
    fn the_names_above_an_output_are_made_durable_again() {
        let outer = tempfile::tempdir().expect("temporary directory");
        let (path, taken) = (outer.path().join("out"), outer.path().join("taken"));
        std::fs::create_dir_all(path.join("a/b")).expect("directories");
        let root = Root::open(&path, "main".into()).expect("open");
        let open = |below: &str| drop(root.open_below(below.as_ref(), &|_| None).expect("open"));
        let synced = || {
            let mut synced: Vec<_> = root.synced().iter().cloned().collect();
            synced.sort();
            synced
        };
        open("");
        assert!(synced().is_empty(), "the root is the operator's");
        open("a/b");
        assert_eq!(synced(), [Path::new(""), Path::new("a")]);
        root.forget("a/b".as_ref());
        assert_eq!(synced(), [Path::new("")]);
        rustix::fs::rename(&path, taken).expect("a consumer takes it");
        std::fs::create_dir_all(path.join("a")).expect("directories");
        root.reopen().expect("open");
        assert!(synced().is_empty());
    }
}
