//! Moves a source to another file system: copies it as a temp, then removes the source.
//!
//! | step | what is true if power fails right after it |
//! |---|---|
//! | write the copy durably, with owner, mode and times, and compare it with the source | a temp exists, which the sweep removes; the source has its private name |
//! | give the copy its name, durably | both exist: recovery detects that the copy equals the source, byte for byte, and goes on |
//! | remove the source | – |

use std::{
    ffi::{OsStr, OsString},
    io,
    path::Path,
    sync::Arc,
};

use super::held_source::HeldSource;
use crate::{
    failpoint,
    fs::{self, Dir, Overwrite, Temp},
    limits,
};

impl HeldSource {
    /// Moves it into a directory, as `NAME` or, if that is taken, `NAME.1`, `NAME.2`, …: by a
    /// rename, or by a copy to another file system. Returns the new name.
    pub fn move_to(self, to: &Arc<Dir>, name: &OsStr) -> Result<OsString, (Self, io::Error)> {
        let mut target = name.to_owned();
        loop {
            match self.dir.rename(&self.private, to, &target, Overwrite::Never) {
                Ok(()) => return Ok(target),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if needs_copy(&error) => {
                    return move_by_copy(self, to, name);
                }
                Err(error) => return Err((self, error)),
            }
            let is_free = |name: &OsStr| Ok(to.stat(Path::new(name))?.is_none());
            match fs::free_number(name, "", limits::NAME_BYTES_MAX, is_free) {
                Ok(free) => target = free,
                Err(error) => return Err((self, error)),
            }
        }
    }
}

/// Checks whether a rename failed because the directories are on different file systems or mounts,
/// or because this file may not be linked.
fn needs_copy(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::Unsupported)
}

/// Moves a source into a directory of another file system, as `NAME`, `NAME.1`, … Returns the name.
fn move_by_copy(
    held: HeldSource,
    to: &Arc<Dir>,
    name: &OsStr,
) -> Result<OsString, (HeldSource, io::Error)> {
    let target = match make_copy(&held, to, name) {
        Ok(target) => target,
        Err(error) => return Err((held, error)),
    };
    match held.remove() {
        Ok(()) => Ok(target),
        Err(failed) => {
            // The source gets its name back and is copied again; two copies would be two files.
            to.discard(&target);
            Err(failed)
        }
    }
}

/// Makes a durable copy and returns its name.
fn make_copy(held: &HeldSource, to: &Arc<Dir>, name: &OsStr) -> io::Result<OsString> {
    if let Some(target) = find_previous_copy(held, to, name)? {
        return Ok(target);
    }
    let on_chunk = || {
        failpoint::pass("move::chunk");
        held.progressed();
    };
    let mut copy = fs::copy((&held.dir, &held.private), to, &held.instance, on_chunk)?;
    failpoint::pass("move::copied");
    let mut names = candidate_names(name);
    loop {
        let target = names.next().unwrap_or_default();
        match publish_copy(copy, to, &target)? {
            None => {
                failpoint::pass("move::named");
                return Ok(target);
            }
            Some(unnamed) => copy = unnamed,
        }
    }
}

/// Returns the name of the copy that the previous run made, if recovery continues its move.
fn find_previous_copy(held: &HeldSource, to: &Dir, name: &OsStr) -> io::Result<Option<OsString>> {
    if !held.from_recovery {
        return Ok(None);
    }
    for target in candidate_names(name) {
        if to.stat_fresh(&target)?.is_none() {
            break;
        }
        if fs::have_same_content((&held.dir, &held.private), (to, &target))? {
            to.sync()?;
            return Ok(Some(target));
        }
    }
    Ok(None)
}

/// Returns `NAME`, `NAME.1`, `NAME.2`, …
fn candidate_names(name: &OsStr) -> impl Iterator<Item = OsString> {
    let with_number = |number| fs::numbered_name(name, number, "", limits::NAME_BYTES_MAX);
    std::iter::once(name.to_owned()).chain((1..).map(with_number))
}

/// Gives the copy this name, durably; returns the copy if the name is taken.
fn publish_copy(copy: Temp, to: &Dir, name: &OsStr) -> io::Result<Option<Temp>> {
    match copy.publish(name, Overwrite::Never) {
        Ok(second_name) => {
            to.sync()?;
            second_name.as_ref().map_or(Ok(()), fs::SecondName::remove)?;
            Ok(None)
        }
        Err((copy, error)) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Some(copy)),
        Err((_, error)) => Err(error),
    }
}
