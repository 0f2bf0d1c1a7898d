//! Walks a tree with one open directory in memory at a time, not the tree.

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::fs::FileType;

use super::{Dir, Kind};
use crate::fingerprint::FileId;

/// An entry of a walked tree: its path below the root, and its type.
#[derive(Debug, PartialEq, Eq)]
pub struct WalkEntry {
    pub path: PathBuf,
    pub kind: Kind,
}

/// An iterator over all entries below a directory. Symbolic links are returned, never followed. A
/// directory that cannot be listed is returned as an error with its path, and the walk continues.
#[derive(Debug)]
pub struct Walk {
    root: Arc<Dir>,
    /// Directories still to be listed, the deepest last.
    pending: Vec<PathBuf>,
    open: Option<(PathBuf, rustix::fs::Dir)>,
    /// Directories that are not entered, by any path.
    avoided: Arc<[FileId]>,
    /// Paths at which one of those was found since the last [`Self::take_avoided`].
    avoided_paths: Vec<PathBuf>,
    /// Listed directories that were gone when they were opened, since the last [`Self::take_gone`].
    gone_paths: Vec<PathBuf>,
    /// Grows with each directory that is opened.
    progress: Option<Arc<AtomicU64>>,
}

impl Walk {
    /// Starts a walk at `below`, a path below `root`; empty for the entire tree.
    #[must_use]
    pub fn new(root: Arc<Dir>, below: PathBuf) -> Self {
        Self {
            root,
            pending: vec![below],
            open: None,
            avoided: Arc::new([]),
            avoided_paths: Vec::new(),
            gone_paths: Vec::new(),
            progress: None,
        }
    }

    /// Returns the same walk, which counts the directories that it opens.
    #[must_use]
    pub fn counting(self, progress: Arc<AtomicU64>) -> Self {
        Self { progress: Some(progress), ..self }
    }

    /// Returns the same walk, which does not enter these directories below its root.
    #[must_use]
    pub fn avoiding(self, avoided: Arc<[FileId]>) -> Self {
        Self { avoided, ..self }
    }

    /// Skips the directory that was returned last.
    pub fn skip_directory(&mut self) {
        self.pending.pop();
    }

    /// Returns the paths at which avoided directories were found since the last call.
    pub fn take_avoided(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.avoided_paths)
    }

    /// Returns the listed directories that were gone when they were opened, since the last call.
    pub fn take_gone(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.gone_paths)
    }

    fn is_avoided(&self, path: &Path, dir: &Dir) -> bool {
        let id = |dir| super::identity_of(dir).map(|identity| identity.file_id());
        // Only below the root: the root of the walk itself may be among them.
        !self.avoided.is_empty()
            && !path.as_os_str().is_empty()
            && id(dir).is_ok_and(|id| self.avoided.contains(&id))
    }

    fn open_next(&mut self) -> Option<Result<(), (PathBuf, io::Error)>> {
        let path = self.pending.pop()?;
        if let Some(progress) = &self.progress {
            progress.fetch_add(1, Ordering::Relaxed);
        }
        let opened = self.root.open_beneath(&path);
        if opened.as_ref().is_ok_and(|dir| self.is_avoided(&path, dir)) {
            self.avoided_paths.push(path);
            return Some(Ok(()));
        }
        let listed =
            opened.and_then(|dir| rustix::fs::Dir::read_from(dir).map_err(io::Error::from));
        match listed {
            Ok(dir) => {
                self.open = Some((path, dir));
                Some(Ok(()))
            }
            // It was removed or renamed since it was listed; only the root itself must exist.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path != Path::new("") => {
                self.gone_paths.push(path);
                Some(Ok(()))
            }
            Err(error) => Some(Err((path, error))),
        }
    }

    fn enter(&mut self, path: PathBuf, kind: FileType) -> <Self as Iterator>::Item {
        let kind = match kind {
            FileType::Unknown => match self.root.stat(&path) {
                Ok(Some(found)) => found.kind,
                // The look at it finds that it is gone.
                Ok(None) => Kind::File,
                Err(error) => return Err((path, error)),
            },
            kind => Kind::from_file_type(kind),
        };
        if kind == Kind::Directory {
            self.pending.push(path.clone());
        }
        Ok(WalkEntry { path, kind })
    }
}

impl Iterator for Walk {
    type Item = Result<WalkEntry, (PathBuf, io::Error)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((path, dir)) = &mut self.open else {
                if let Err(failed) = self.open_next()? {
                    return Some(Err(failed));
                }
                continue;
            };
            match dir.read() {
                None => self.open = None,
                Some(Err(error)) => {
                    let path = path.clone();
                    self.open = None;
                    return Some(Err((path, error.into())));
                }
                Some(Ok(entry)) => {
                    let name = entry.file_name().to_bytes();
                    if name == b"." || name == b".." {
                        continue;
                    }
                    let (path, kind) = (path.join(OsStr::from_bytes(name)), entry.file_type());
                    return Some(self.enter(path, kind));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_or_avoided_directory_is_not_entered() {
        let root = tempfile::tempdir().expect("temporary directory");
        for dir in ["x", "over", "avoided"] {
            std::fs::create_dir(root.path().join(dir)).expect("directory");
            std::fs::write(root.path().join(dir).join("file"), "").expect("write");
        }
        let dir = Arc::new(Dir::open(root.path()).expect("open"));
        let metadata = dir.stat("avoided".as_ref()).expect("stat").expect("exists");
        let avoided = Arc::new([metadata.identity.file_id()]);
        let mut walk = Walk::new(dir, PathBuf::new()).avoiding(avoided);
        let mut files = Vec::new();
        while let Some(found) = walk.next() {
            let found = found.expect("entry");
            if found.path == Path::new("over") {
                walk.skip_directory();
            } else if found.kind == Kind::File {
                files.push(found.path);
            }
        }
        assert_eq!(files, [Path::new("x/file")]);
        assert_eq!(walk.take_avoided(), [Path::new("avoided")]);
    }

    #[test]
    fn a_directory_that_is_renamed_before_it_is_entered_is_reported() {
        let root = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir(root.path().join("before")).expect("directory");
        let mut walk = Walk::new(Arc::new(Dir::open(root.path()).expect("open")), PathBuf::new());
        assert_eq!(walk.next().expect("an entry").expect("listed").path, Path::new("before"));
        rustix::fs::rename(root.path().join("before"), root.path().join("after")).expect("rename");
        assert!(walk.next().is_none());
        assert_eq!(walk.take_gone(), [Path::new("before")]);
    }

    #[test]
    fn everything_is_found_once_and_links_are_not_followed() {
        let root = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir_all(root.path().join("x/y")).expect("directories");
        std::fs::write(root.path().join("x/y/file"), "").expect("write");
        std::os::unix::fs::symlink("/", root.path().join("link")).expect("link");
        let dir = Arc::new(Dir::open(root.path()).expect("open"));
        let mut found: Vec<_> = Walk::new(dir, PathBuf::new())
            .map(|entry| entry.expect("entry"))
            .map(|found| (found.path, found.kind))
            .collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let expected = [
            ("link", Kind::Symlink),
            ("x", Kind::Directory),
            ("x/y", Kind::Directory),
            ("x/y/file", Kind::File),
        ];
        assert_eq!(found, expected.map(|(path, kind)| (PathBuf::from(path), kind)));
    }
}
