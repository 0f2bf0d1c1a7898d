//! Moves a source to another file system: copies it as a temp, then removes the source.
//!
//! | step | what is true if power fails right after it |
//! |---|---|
//! | write the copy durably, with owner, mode and times, and compare it with the source | a temp exists, which the sweep removes; the source has its private name |
//! | give the copy its name, durably | both exist: the next disposal detects that the copy equals the source, byte for byte, and goes on |
//! | remove the source | both may exist, and the source under its own name: as above |

use std::{
    ffi::{OsStr, OsString},
    io,
    path::Path,
    sync::Arc,
};

use super::held::LocalHeld;
use crate::{
    error::of_target,
    failpoint,
    fs::{self, Dir, Overwrite, Temp},
    limits,
};

/// What becomes of a file whose name in the other directory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IfTaken {
    /// It becomes `NAME.1`, `NAME.2`, …
    Numbered,
    /// It is not moved: a record has its name.
    Refused,
}

/// Moves a held source into a directory under this name: by a rename, or by a copy to another file
/// system.
pub(super) fn move_to(
    held: &LocalHeld,
    to: &Arc<Dir>,
    (name, taken): (&OsStr, IfTaken),
    on_progress: &dyn Fn(),
) -> io::Result<()> {
    let renamed = match taken {
        IfTaken::Numbered => held.dir.rename_to_free(&held.private, to, name).map(drop),
        IfTaken::Refused => held.dir.rename(&held.private, to, name, Overwrite::Never),
    };
    match renamed {
        Err(error) if needs_copy(&error) => move_by_copy(held, to, (name, taken), on_progress),
        Err(error) if taken == IfTaken::Refused && error.kind() == io::ErrorKind::AlreadyExists => {
            // A link to another file system meets a taken name first: it may be the copy of an
            // interrupted move.
            let is_elsewhere = held.dir.id()?.device != to.id()?.device;
            let copy =
                if is_elsewhere { find_previous_copy(held, to, (name, taken))? } else { None };
            copy.map_or_else(|| Err(of_target(error)), |copy| finish_copy(held, to, &copy))
        }
        renamed => renamed,
    }
}

/// Checks whether a rename failed because the directories are on different file systems or mounts,
/// or because this file may not be linked.
fn needs_copy(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::Unsupported)
}

/// Moves a source into a directory of another file system.
fn move_by_copy(
    held: &LocalHeld,
    to: &Arc<Dir>,
    (name, taken): (&OsStr, IfTaken),
    on_progress: &dyn Fn(),
) -> io::Result<()> {
    if let Some(copy) = find_previous_copy(held, to, (name, taken))? {
        return finish_copy(held, to, &copy);
    }
    let target = make_copy(held, to, (name, taken), on_progress)?;
    held.remove().or_else(|error| {
        // The removal may have been reported as failed after it was done.
        if held.dir.stat_fresh(&held.private)?.is_none() {
            return Ok(());
        }
        // The source gets its name back and is copied again; two copies would be two files.
        to.discard(&target);
        Err(error)
    })
}

/// Makes the copy of an interrupted move durable and removes the source.
fn finish_copy(held: &LocalHeld, to: &Dir, copy: &OsStr) -> io::Result<()> {
    to.open_file(Path::new(copy)).and_then(|copy| copy.sync_all()).map_err(of_target)?;
    failpoint::barrier("barrier::copied_name", || to.sync()).map_err(of_target)?;
    held.remove()
}

/// Makes a durable copy and returns its name.
fn make_copy(
    held: &LocalHeld,
    to: &Arc<Dir>,
    (name, taken): (&OsStr, IfTaken),
    on_progress: &dyn Fn(),
) -> io::Result<OsString> {
    let on_chunk = || {
        failpoint::pass("move::chunk");
        on_progress();
    };
    let mut copy = fs::copy((&held.dir, &held.private), to, &held.instance, on_chunk)?;
    failpoint::pass("move::copied");
    let mut target = name.to_owned();
    loop {
        match publish_copy(copy, to, &target).map_err(of_target)? {
            None => {
                failpoint::pass("move::named");
                return Ok(target);
            }
            Some(_) if taken == IfTaken::Refused => {
                return Err(of_target(io::ErrorKind::AlreadyExists.into()));
            }
            Some(unnamed) => copy = unnamed,
        }
        let free = fs::free_number(name, "", limits::NAME_BYTES_MAX, is_free(to));
        target = free.map_err(of_target)?;
    }
}

fn is_free(to: &Dir) -> impl Fn(&OsStr) -> io::Result<bool> {
    |name| Ok(to.stat(Path::new(name))?.is_none())
}

/// Returns the name of the copy that an interrupted move made. The same content that was delivered before has
/// another time.
fn find_previous_copy(
    held: &LocalHeld,
    to: &Dir,
    (name, taken): (&OsStr, IfTaken),
) -> io::Result<Option<OsString>> {
    let Some(source) = held.identity_of_private()?.filter(|_| held.resumed) else {
        return Ok(None);
    };
    let is_copy = |target: &OsStr| {
        let found = to.stat_fresh(target)?;
        Ok(found.is_some_and(|found| found.identity.may_be_copy_of(&source))
            && fs::have_same_content((&held.dir, &held.private), (to, target))?)
    };
    match taken {
        IfTaken::Numbered => fs::latest_number(name, limits::NAME_BYTES_MAX, is_free(to), is_copy),
        IfTaken::Refused => Ok(is_copy(name)?.then(|| name.to_owned())),
    }
}

/// Gives the copy this name, durably; returns the copy if the name is taken.
fn publish_copy(copy: Temp, to: &Dir, name: &OsStr) -> io::Result<Option<Temp>> {
    match copy.publish(name, Overwrite::Never) {
        Ok(second_name) => {
            let synced = failpoint::barrier("barrier::copied_name", || to.sync())
                .and_then(|()| second_name.as_ref().map_or(Ok(()), fs::SecondName::remove));
            // What was not durable once counts for nothing: the next sync may report nothing.
            let discard = |_: &io::Error| {
                to.discard(name);
                drop(second_name.as_ref().map(fs::SecondName::remove));
            };
            synced.inspect_err(discard).map(|()| None)
        }
        Err((copy, error)) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Some(copy)),
        Err((_, error)) => Err(error),
    }
}
