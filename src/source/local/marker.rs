//! Moves the marker of a source where the source goes, and before it: a marker that stayed would
//! declare the next file of that name finished while it is still written.

use std::{
    ffi::{OsStr, OsString},
    io,
    sync::Arc,
};

use crate::fs::{Dir, Overwrite};

/// The mode of a marker, reduced by the umask.
const MARKER_MODE: u32 = 0o666;

/// Returns the name of a source's marker.
pub(super) fn name_of(source: &OsStr, suffix: &str) -> OsString {
    let mut name = source.to_owned();
    name.push(suffix);
    name
}

/// Where the marker of a held source is.
#[derive(Debug)]
pub(super) enum Ended {
    Removed,
    /// Under this temporary name in its own directory, on its way.
    Taken(OsString),
    /// Under this name in the directory of the archive or of the quarantine.
    Moved(Arc<Dir>, OsString),
}

/// Removes a marker; `None` if there is none.
pub(super) fn remove(dir: &Dir, marker: &OsStr) -> io::Result<Option<Ended>> {
    found(dir.unlink(marker).map(|()| Ended::Removed))
}

/// Archives a marker; `None` if there is none.
pub(super) fn archive(
    dir: &Dir,
    taken: &OsStr,
    to: (&Arc<Dir>, &OsStr),
) -> io::Result<Option<Ended>> {
    match move_to(dir, taken, to) {
        // On another file system the marker is removed: its name is all that it holds, and that is no
        // longer needed.
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => remove(dir, taken),
        archived => found(archived),
    }
}

/// Moves a marker next to the slot of its source in quarantine; `None` if there is none.
pub(super) fn quarantine(
    dir: &Dir,
    marker: &OsStr,
    to: (&Arc<Dir>, &OsStr),
) -> io::Result<Option<Ended>> {
    match move_to(dir, marker, to) {
        // On another file system, or if the slot's name leaves no room for the suffix, the marker
        // is removed.
        Err(error) if error.kind() != io::ErrorKind::NotFound => remove(dir, marker),
        moved => found(moved),
    }
}

fn move_to(dir: &Dir, marker: &OsStr, (to, name): (&Arc<Dir>, &OsStr)) -> io::Result<Ended> {
    let name = dir.rename_to_free(marker, to, name)?;
    Ok(Ended::Moved(Arc::clone(to), name))
}

fn found(ended: io::Result<Ended>) -> io::Result<Option<Ended>> {
    match ended {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        ended => ended.map(Some),
    }
}

/// Restores the marker of a source that has its name again, after that: an older one would count as an
/// earlier file's.
pub(super) fn put_back(ended: &Ended, to: (&Dir, &OsStr)) -> io::Result<()> {
    match ended {
        Ended::Removed => create(to.0, to.1),
        Ended::Taken(temp) => restore((to.0, temp), to),
        Ended::Moved(from, name) => restore((from, name), to),
    }
}

/// Returns a marker from quarantine to the input, after its source: a rename gives it a change time that is
/// no earlier than the source's, so it does not count as an earlier file's. A marker that was not kept, or
/// cannot be renamed here, is created: the operator's request declares the file finished.
pub(super) fn restore((from, kept): (&Dir, &OsStr), (to, name): (&Dir, &OsStr)) -> io::Result<()> {
    match from.rename(kept, to, name, Overwrite::Never) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(to, name),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::CrossesDevices | io::ErrorKind::AlreadyExists
            ) =>
        {
            create(to, name)?;
            remove(from, kept).map(drop)
        }
        restored => restored.map(drop),
    }
}

fn create(dir: &Dir, marker: &OsStr) -> io::Result<()> {
    match dir.create_file(marker, MARKER_MODE) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created.map(drop),
    }
}
