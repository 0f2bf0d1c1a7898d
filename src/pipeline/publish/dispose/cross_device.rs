//! A move to another file system: a copy, made as a temp, and only then the end of the source.
//!
//! | step | if it ends right after it |
//! |---|---|
//! | the copy, durable, with owner, mode and times, compared with the source | a temp, which the sweep removes; the source has its private name |
//! | the copy gets its name, durably | both are there: recovery finds the copy to be the source's, byte for byte, and goes on |
//! | the source is removed | – |

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
    /// Moves it into a directory, as `NAME` or, where that is taken, `NAME.1`, `NAME.2`, …: by a
    /// rename, or by a copy to another file system. Gives the name it got.
    pub fn move_to(self, to: &Arc<Dir>, name: &OsStr) -> Result<OsString, (Self, io::Error)> {
        let mut target = name.to_owned();
        loop {
            match self.dir.rename(&self.private, to, &target, Overwrite::Never) {
                Ok(()) => return Ok(target),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if is_needed(&error) => {
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

/// Whether a rename failed because the two directories are on different file systems or mounts, or
/// because this file may not be linked to.
fn is_needed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::Unsupported)
}

/// Moves a source into a directory of another file system, as `NAME`, `NAME.1`, … Gives the name.
fn move_by_copy(
    taken: HeldSource,
    to: &Arc<Dir>,
    name: &OsStr,
) -> Result<OsString, (HeldSource, io::Error)> {
    let target = match copied(&taken, to, name) {
        Ok(target) => target,
        Err(error) => return Err((taken, error)),
    };
    match taken.remove() {
        Ok(()) => Ok(target),
        Err(failed) => {
            // The source gets its name back, and is copied anew; two copies would be two files.
            to.discard(&target);
            Err(failed)
        }
    }
}

/// The durable copy's name.
fn copied(taken: &HeldSource, to: &Arc<Dir>, name: &OsStr) -> io::Result<OsString> {
    if let Some(target) = made_before(taken, to, name)? {
        return Ok(target);
    }
    let moved = || {
        failpoint::pass("move::chunk");
        taken.progressed();
    };
    let mut copy = fs::copy((&taken.dir, &taken.private), to, &taken.instance, moved)?;
    failpoint::pass("move::copied");
    let mut names = names(name);
    loop {
        let target = names.next().unwrap_or_default();
        match named(copy, to, &target)? {
            None => {
                failpoint::pass("move::named");
                return Ok(target);
            }
            Some(back) => copy = back,
        }
    }
}

/// The name of the copy that the run before made, where recovery goes on with its move.
fn made_before(taken: &HeldSource, to: &Dir, name: &OsStr) -> io::Result<Option<OsString>> {
    if !taken.found {
        return Ok(None);
    }
    for target in names(name) {
        if to.stat_fresh(&target)?.is_none() {
            break;
        }
        if fs::have_same_content((&taken.dir, &taken.private), (to, &target))? {
            to.sync()?;
            return Ok(Some(target));
        }
    }
    Ok(None)
}

/// `NAME`, `NAME.1`, `NAME.2`, …
fn names(name: &OsStr) -> impl Iterator<Item = OsString> {
    let numbered = |number| fs::numbered(name, number, "", limits::NAME_BYTES_MAX);
    std::iter::once(name.to_owned()).chain((1..).map(numbered))
}

/// Gives the copy this name, durably; gives it back where the name is taken.
fn named(copy: Temp, to: &Dir, name: &OsStr) -> io::Result<Option<Temp>> {
    match copy.publish(name, Overwrite::Never) {
        Ok(second) => {
            to.sync()?;
            second.as_ref().map_or(Ok(()), fs::SecondName::remove)?;
            Ok(None)
        }
        Err((back, error)) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Some(back)),
        Err((_, error)) => Err(error),
    }
}
