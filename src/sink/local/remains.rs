//! What an earlier run left in the directory.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::file::is_version;
use crate::{
    failpoint,
    fs::{self, Dir, FileMetadata, Kind, NodeId, Overwrite, PatientWalk},
    ledger::Output,
    observe::display_path,
    patience,
    sink::{Error, ErrorKind, Precondition, Remains, Swept},
};

pub fn inspect(root: &Dir, output: &Output) -> Result<Remains, Error> {
    let (parent, name) = fs::split(&output.path);
    let look = || -> io::Result<Remains> {
        // The root responded when it was opened; another file system may be mounted below it.
        let is_root = parent.as_os_str().is_empty();
        if !is_root && !patience::responds(&root.path().join(parent)) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // Opened again: on a network file system only an open refreshes the names.
        let dir = match root.open_beneath(parent) {
            Err(error) if is_no_directory(&error) => return Ok(Remains::default()),
            dir => dir?,
        };
        let differs = |found: &FileMetadata| !found.identity.matches_content(&output.identity);
        let staged = match dir.stat(Path::new(&output.temp))? {
            // Inode numbers may change with a mount; the temp's name is unique, and its content
            // decides.
            Some(found) if differs(&found) => {
                let is_ours = has_content(&dir, &output.temp, output, &found)?;
                Some(if is_ours { output.identity } else { found.identity })
            }
            staged => staged.map(|found| found.identity),
        };
        let published = dir.stat(Path::new(name))?;
        let same_content = match published {
            Some(found) if differs(&found) => has_content(&dir, name, output, &found)?,
            _ => false,
        };
        Ok(Remains { staged, published: published.map(|found| found.identity), same_content })
    };
    look().map_err(ErrorKind::Look.at(root.path().join(&output.path)))
}

fn is_no_directory(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Checks whether the file with a name is the intended output, byte for byte.
fn has_content(
    dir: &Dir,
    name: &OsStr,
    intended: &Output,
    found: &FileMetadata,
) -> io::Result<bool> {
    if found.kind != Kind::File || found.identity.size != intended.identity.size {
        return Ok(false);
    }
    Ok(fs::hash_of(&dir.open_file(Path::new(name))?)? == intended.hash)
}

/// Opens the directory of an output.
fn directory(root: &Dir, target: &Path) -> Result<Dir, Error> {
    root.open_beneath(fs::split(target).0)
        .map_err(ErrorKind::Directory.at(root.path().join(target)))
}

/// Gives a temp its final name.
pub fn publish(root: &Dir, output: &Output, precondition: Precondition) -> Result<(), Error> {
    let dir = directory(root, &output.path)?;
    let (_, name) = fs::split(&output.path);
    let publish = || match precondition {
        Precondition::Absent => dir.rename(&output.temp, &dir, name, Overwrite::Never),
        Precondition::Unchanged(shown) => {
            let found = dir.stat(Path::new(name))?;
            if found.is_none_or(|found| !is_version(&found.identity, &shown)) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            dir.rename(&output.temp, &dir, name, Overwrite::Allow)
        }
    };
    publish().map_err(|error| Error::of_publish(dir.path().join(name), error))
}

/// Removes the temporary name of an output that has its final one, by a link.
pub fn remove_staged_name(root: &Dir, output: &Output) -> Result<(), Error> {
    let dir = directory(root, &output.path)?;
    // A power loss may undo the final name from the previous run, and must not find the temp's name
    // gone.
    failpoint::barrier("barrier::recovered_name", || dir.sync())
        .map_err(ErrorKind::SyncNames.at(dir.path()))?;
    failpoint::hit("recovery::unlink")
        .and_then(|()| dir.unlink(&output.temp))
        .map_err(ErrorKind::Remove.at(dir.path().join(&output.temp)))
}

/// Makes the names of an output's directory durable.
pub fn sync_name(root: &Dir, target: &Path) -> Result<(), Error> {
    let dir = directory(root, target)?;
    failpoint::hit("recovery::directory")
        .and_then(|()| failpoint::barrier("barrier::recovered_directory", || dir.sync()))
        .map_err(ErrorKind::SyncNames.at(dir.path()))
}

/// Removes the temps of this instance that are not live.
pub fn sweep(root: &Arc<Dir>, instance: &NodeId, is_live: &dyn Fn(&OsStr) -> bool) -> Swept {
    let is_orphan = |name: &OsStr| instance.is_temp(name) && !is_live(name);
    let mut swept = Swept::default();
    let mut orphans = Vec::new();
    for entry in PatientWalk::start(root) {
        match entry {
            Ok(entry) if entry.kind == Kind::File && is_orphan(fs::split(&entry.path).1) => {
                orphans.push(entry.path);
            }
            Ok(_) => {}
            // A directory without access for this process holds none of its files: `lost+found`,
            // another user's.
            Err((path, error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                tracing::debug!(event = "recovery.not_searched", path = %display_path(&root.path().join(path)), %error, "directory not searched");
            }
            Err((path, error)) => {
                swept.deferred.push(ErrorKind::List.at(root.path().join(path))(error));
            }
        }
    }
    for path in orphans {
        let (parent, name) = fs::split(&path);
        match root.open_beneath(parent).and_then(|dir| dir.unlink_own(name)) {
            Ok(()) => swept.removed += 1,
            Err(error) => swept.deferred.push(ErrorKind::Remove.at(root.path().join(&path))(error)),
        }
    }
    swept
}

/// Checks whether there is no file below a root but those of state directories.
pub fn is_empty(root: &Arc<Dir>) -> bool {
    let mut state_dirs: Vec<PathBuf> = Vec::new();
    for entry in PatientWalk::start(root) {
        // What cannot be listed may have files.
        let Ok(entry) = entry else { return false };
        if state_dirs.iter().any(|dir| entry.path.starts_with(dir)) {
            continue;
        }
        if entry.kind != Kind::Directory {
            return false;
        }
        if fs::is_state_dir(root, &entry.path).unwrap_or(false) {
            state_dirs.push(entry.path);
        }
    }
    true
}
