//! Removes files from a local archive or quarantine.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    super::{MovedFile, MovedFiles, Removal, Result, SourceError, Targets},
    at, quarantine,
};
use crate::{
    failpoint,
    fs::{self, Dir, FileMetadata, Kind, NodeId, Overwrite, PatientWalk},
    ledger::{Hash, RecordId},
};

/// Holds the root open.
#[derive(Debug)]
pub struct LocalMovedFiles {
    root: Arc<Dir>,
    instance: NodeId,
}

impl LocalMovedFiles {
    /// Opens the directory, through symbolic links, if its file system is mounted.
    pub fn open(root: &Path, instance: &NodeId, targets: &Targets) -> Result<Self> {
        let root = Arc::new(targets.open(root).map_err(at(root))?);
        Ok(Self { root, instance: instance.clone() })
    }

    fn at(&self, path: &Path) -> impl FnOnce(io::Error) -> SourceError {
        let path = self.root.path().join(path);
        move |source| SourceError { path, source }
    }

    fn stat(&self, path: PathBuf) -> io::Result<Option<MovedFile>> {
        let found = self.root.stat_beneath(&path)?;
        let file = found.filter(|found| found.kind == Kind::File);
        let (_, name) = fs::split(&path);
        let taken_for = self.instance.private_id(name);
        Ok(file.map(|FileMetadata { identity, names, .. }| MovedFile {
            path,
            identity,
            names,
            taken_for,
        }))
    }

    fn directory_of<'a>(&self, path: &'a Path) -> io::Result<(Dir, &'a OsStr)> {
        let (parent, name) = fs::split(path);
        Ok((self.root.open_beneath(parent)?, name))
    }

    fn remove(&self, file: &MovedFile, id: RecordId) -> io::Result<Removal> {
        let is_it = |found: &FileMetadata| {
            let is_same = found.identity.matches_content(&file.identity);
            found.kind == Kind::File && found.names == 1 && is_same
        };
        let (dir, name) = self.directory_of(&file.path)?;
        match dir.stat_fresh(name)? {
            None => return Ok(Removal::Missing),
            Some(found) if !is_it(&found) => return Ok(Removal::Changed),
            Some(_) => {}
        }
        let private = fs::private_name(&self.instance, id);
        if name != private {
            dir.rename_to_own(name, &private)?;
        }
        failpoint::hit("retention::taken")?;
        // From here on only this process uses the name.
        match dir.stat_fresh(&private)? {
            None => Ok(Removal::Missing),
            Some(found) if is_it(&found) => dir.unlink_own(&private).map(|()| Removal::Removed),
            Some(_) => {
                if name != private {
                    dir.rename(&private, &dir, name, Overwrite::Never)?;
                }
                Ok(Removal::Changed)
            }
        }
    }
}

/// Returns this result, for a file that may be gone with its directory.
fn missing_is<T>(result: io::Result<T>, missing: T) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(missing),
        result => result,
    }
}

impl MovedFiles for LocalMovedFiles {
    fn may_renumber(&self) -> bool {
        self.root.may_renumber()
    }

    fn files(&self) -> Box<dyn Iterator<Item = Result<MovedFile>> + '_> {
        let file = |entry: Result<fs::WalkEntry, (PathBuf, io::Error)>| match entry {
            Ok(fs::WalkEntry { path, kind: Kind::File }) => self.look(&path).transpose(),
            Ok(_) => None,
            Err((path, error)) => Some(Err(self.at(&path)(error))),
        };
        Box::new(PatientWalk::start(&self.root).filter_map(file))
    }

    fn look(&self, path: &Path) -> Result<Option<MovedFile>> {
        self.stat(path.to_path_buf()).map_err(self.at(path))
    }

    fn taken(&self, path: &Path, id: RecordId) -> Result<Option<MovedFile>> {
        let (parent, _) = fs::split(path);
        self.look(&parent.join(fs::private_name(&self.instance, id)))
    }

    fn content_hash(&self, path: &Path) -> Result<Hash> {
        let hash = self.directory_of(path).and_then(|(dir, name)| fs::content_hash(&dir, name));
        hash.map_err(self.at(path))
    }

    fn remove(&self, file: &MovedFile, id: RecordId) -> Result<Removal> {
        missing_is(self.remove(file, id), Removal::Missing).map_err(self.at(&file.path))
    }

    fn restore(&self, file: &MovedFile, name: &OsStr) -> Result<()> {
        let (dir, private) = self.directory_of(&file.path).map_err(self.at(&file.path))?;
        let restored = dir.rename_to_free(private, &dir, name);
        restored.map(drop).map_err(self.at(&file.path))
    }

    fn read_reason(&self, path: &Path) -> Result<Vec<u8>> {
        quarantine::read_reason(&self.root.path().join(path)).map_err(self.at(path))
    }

    fn remove_reason(&self, path: &Path) -> Result<()> {
        let remove = || {
            let (dir, name) = self.directory_of(path)?;
            dir.unlink_own(&quarantine::reason_name(name))
        };
        missing_is(remove(), ()).map_err(self.at(path))
    }

    fn sync(&self, path: &Path) -> Result<()> {
        let synced = self.directory_of(path).and_then(|(dir, _)| dir.sync());
        missing_is(synced, ()).map_err(self.at(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(root: &Path) -> LocalMovedFiles {
        LocalMovedFiles::open(root, &NodeId::new("00000001"), &Targets::default()).expect("open")
    }

    fn look(files: &LocalMovedFiles, path: &str) -> MovedFile {
        files.look(path.as_ref()).expect("look").expect("a file")
    }

    #[test]
    fn only_the_file_that_was_seen_is_removed() {
        let root = tempfile::tempdir().expect("temporary directory");
        let path = |name: &str| root.path().join(name);
        std::fs::create_dir(path("d")).expect("directory");
        for name in ["d/removed", "d/changed", "d/replaced", "d/linked", "gone"] {
            std::fs::write(path(name), name).expect("write");
        }
        std::os::unix::fs::symlink(path("d/removed"), path("link")).expect("link");
        let files = open(root.path());
        let remove = |file: &MovedFile| MovedFiles::remove(&files, file, 7).expect("remove");
        let names = ["d/removed", "d/changed", "d/replaced", "d/linked", "gone"];
        let seen = names.map(|name| look(&files, name));
        std::fs::write(path("d/changed"), "another").expect("write");
        std::fs::write(path("new"), "d/replaced").expect("write");
        let (from, to) =
            (Dir::open(root.path()).expect("open"), Dir::open(&path("d")).expect("open"));
        from.rename("new".as_ref(), &to, "replaced".as_ref(), Overwrite::Allow).expect("rename");
        std::fs::hard_link(path("d/linked"), path("other")).expect("link");
        from.unlink("gone".as_ref()).expect("remove");
        let removed = seen.each_ref().map(remove);
        let expected = [
            Removal::Removed,
            Removal::Changed,
            Removal::Changed,
            Removal::Changed,
            Removal::Missing,
        ];
        assert_eq!(removed, expected);
        assert!(files.look("link".as_ref()).expect("look").is_none(), "no link is followed");
        let mut left: Vec<_> = files.files().map(|file| file.expect("a file").path).collect();
        left.sort();
        assert_eq!(left, ["d/changed", "d/linked", "d/replaced", "other"].map(PathBuf::from));
        MovedFiles::sync(&files, "d/removed".as_ref()).expect("sync");
    }

    #[test]
    fn what_an_interrupted_removal_took_is_found_and_restored_or_removed() {
        let root = tempfile::tempdir().expect("temporary directory");
        let files = open(root.path());
        for (id, restores) in [(7, true), (8, false)] {
            let name = fs::private_name(&NodeId::new("00000001"), id);
            std::fs::write(root.path().join(&name), "content").expect("write");
            let found: Vec<_> = files.files().map(|file| file.expect("a file")).collect();
            let taken: Vec<_> = found.iter().filter(|file| file.taken_for == Some(id)).collect();
            let [taken] = taken[..] else { panic!("one file: {found:?}") };
            if restores {
                std::fs::write(root.path().join("a"), "another").expect("write");
                files.restore(taken, "a".as_ref()).expect("restore");
                assert_eq!(look(&files, "a.1").identity.size, 7);
            } else {
                let removed = MovedFiles::remove(&files, taken, id).expect("remove");
                assert_eq!(removed, Removal::Removed);
            }
            assert!(!root.path().join(&name).exists());
        }
    }
}
