//! Searches the directories of the pipelines for files that an unclean stop left.

use std::{
    ffi::OsStr,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Error, Summary};
use crate::{
    error::chain,
    fs::{self, Dir, Kind, PatientWalk, Walk, WalkEntry},
    observe::display_path,
    patience,
};

/// The type of a searched directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    Configured,
    /// Of an unfinished record; it may be gone.
    Earlier,
    /// Created with the first file that is quarantined.
    Quarantine,
    /// The nearest directory above a quarantine that does not exist yet, where the start probed the
    /// file system. Its subdirectories are not searched.
    AboveQuarantine,
}

pub fn quarantine_root(quarantine: &Path) -> (&Path, Root) {
    if patience::responds(quarantine)
        && !quarantine.exists()
        && let Some(above) = quarantine.ancestors().skip(1).find(|above| above.exists())
    {
        return (above, Root::AboveQuarantine);
    }
    (quarantine, Root::Quarantine)
}

/// Returns the files below a root whose names match. A quarantine that does not exist yet
/// has none, nor an archive of earlier that is gone; any other directory that cannot be listed is deferred to a later start.
pub fn find_files(
    (root, kind): (&Path, Root),
    is_wanted: impl Fn(&OsStr) -> bool,
    summary: &mut Summary,
) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if !patience::responds(root) {
        defer_directory(root, &ErrorKind::TimedOut.into(), summary);
        return found;
    }
    let dir = match Dir::open(root) {
        Ok(dir) => dir,
        Err(error)
            if matches!(kind, Root::Quarantine | Root::Earlier)
                && error.kind() == ErrorKind::NotFound =>
        {
            return found;
        }
        Err(error) => {
            defer_directory(root, &error, summary);
            return found;
        }
    };
    let dir = Arc::new(dir);
    let entries: Box<dyn Iterator<Item = _>> = match kind {
        Root::AboveQuarantine => Box::new(entries_of(dir)),
        Root::Configured | Root::Earlier | Root::Quarantine => Box::new(PatientWalk::start(&dir)),
    };
    for entry in entries {
        match entry {
            Ok(entry) if entry.kind == Kind::File && is_wanted(fs::split(&entry.path).1) => {
                found.push(entry.path);
            }
            Ok(_) => {}
            Err((path, error)) => not_searched(&root.join(path), &error, summary),
        }
    }
    found
}

/// Returns the entries of a directory itself.
fn entries_of(dir: Arc<Dir>) -> impl Iterator<Item = Result<WalkEntry, (PathBuf, io::Error)>> {
    let mut walk = Walk::new(dir, PathBuf::new());
    std::iter::from_fn(move || {
        let entry = walk.next()?;
        if entry.as_ref().is_ok_and(|entry| entry.kind == Kind::Directory) {
            walk.skip_directory();
        }
        Some(entry)
    })
}

pub fn remove(root: &Path, path: &Path) -> Result<(), Error> {
    let (parent, name) = fs::split(path);
    Dir::open(root)
        .and_then(|root| root.open_beneath(parent))
        .and_then(|dir| dir.unlink_own(name))
        .map_err(|source| Error::Io {
            path: root.join(path),
            action: "remove the temporary file",
            source,
        })
}

pub fn defer_directory(path: &Path, error: &io::Error, summary: &mut Summary) {
    tracing::warn!(event = "recovery.deferred", path = %display_path(path), %error, "cannot search a directory, deferred to a later start");
    summary.deferred += 1;
}

/// Defers a directory, except one without access for this process, which holds none of its files:
/// `lost+found`, another user's.
pub fn not_searched(path: &Path, error: &io::Error, summary: &mut Summary) {
    if error.kind() == ErrorKind::PermissionDenied {
        tracing::debug!(event = "recovery.not_searched", path = %display_path(path), %error, "directory not searched");
    } else {
        defer_directory(path, error, summary);
    }
}

/// Defers a file to a later start: one name that cannot be handled holds up no pipeline's start.
pub fn defer(error: &Error, summary: &mut Summary) {
    tracing::warn!(
        event = "recovery.deferred",
        error = chain(error),
        "recovery deferred a file to a later start"
    );
    summary.deferred += 1;
}
