//! Moves the marker of a source where the source goes, and before it: a marker that stayed would
//! declare the next file of that name finished while it is still written.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::Path,
};

use crate::{
    fs::{self, Dir, FileMetadata, Overwrite},
    limits,
    policy::OnSuccess,
};

/// Removes the marker of the source `name`, or archives it below `parent`; a missing marker is no
/// error.
pub fn dispose(
    dir: &Dir,
    name: &OsStr,
    marker: &str,
    (parent, on_success): (&Path, &OnSuccess),
) -> io::Result<()> {
    let name = marker_name(name, marker);
    let disposed = match on_success {
        OnSuccess::Keep => Ok(()),
        OnSuccess::Delete => dir.unlink(&name),
        OnSuccess::Archive(archive) => {
            let to = Dir::open(archive).and_then(|to| to.make_beneath(parent, fs::SHARED_DIR_MODE));
            match to.and_then(|to| archive_marker(dir, &to, &name)) {
                // On another file system the marker is removed: its name is all that it holds, and
                // that is no longer needed.
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => dir.unlink(&name),
                archived => archived,
            }
        }
    };
    ignore_missing(disposed)
}

/// Moves the marker of the source `name` next to the source's slot in quarantine; a missing marker
/// is no error.
pub fn quarantine(
    dir: &Dir,
    name: &OsStr,
    marker: &str,
    (to, slot): (&Dir, &OsStr),
) -> io::Result<()> {
    let name = marker_name(name, marker);
    let result = move_marker(dir, to, (&name, marker_name(slot, marker)));
    ignore_missing(match result {
        // On another file system, or if the slot's name leaves no room for the suffix, the marker
        // is removed.
        Err(error) if error.kind() != io::ErrorKind::NotFound => dir.unlink(&name),
        moved => moved,
    })
}

fn marker_name(name: &OsStr, marker: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(marker);
    name
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn archive_marker(dir: &Dir, to: &Dir, name: &OsStr) -> io::Result<()> {
    move_marker(dir, to, (name, name.to_owned()))
}

fn move_marker(dir: &Dir, to: &Dir, (name, wanted): (&OsStr, OsString)) -> io::Result<()> {
    let mut target = wanted.clone();
    loop {
        match dir.rename(name, to, &target, Overwrite::Never) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            moved => return moved,
        }
        target = fs::free_number(&wanted, "", limits::NAME_BYTES_MAX, |candidate| {
            Ok(to.stat(Path::new(candidate))?.is_none())
        })?;
    }
}

/// Checks whether a marker is older than the content of its file: it belonged to an earlier file.
///
/// The content's time is the earlier one of the file's two, because a rename moves the change time
/// and a producer may set the modification time to one in the future.
#[must_use]
pub fn is_stale(marker: &FileMetadata, file: &FileMetadata) -> bool {
    let marker = marker.identity;
    let written_ns = file.identity.modified_ns.min(file.identity.changed_ns);
    marker.modified_ns.max(marker.changed_ns) < written_ns
}
