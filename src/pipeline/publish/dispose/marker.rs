//! The marker of a source goes where the source goes, and before it: a marker that stayed would
//! make the next file of that name count as finished while it is still written.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::Path,
};

use crate::{
    fs::{self, Dir, Overwrite},
    limits,
    policy::OnSuccess,
};

/// Removes the marker of the source `name` in a directory, or archives it below `parent`; one that
/// is gone is no error.
pub fn dispose(
    dir: &Dir,
    name: &OsStr,
    marker: &str,
    (parent, on_success): (&Path, &OnSuccess),
) -> io::Result<()> {
    let name = marked(name, marker);
    let disposed = match on_success {
        OnSuccess::Keep => Ok(()),
        OnSuccess::Delete => dir.unlink(&name),
        OnSuccess::Archive(archive) => {
            let to = Dir::open(archive).and_then(|to| to.make_beneath(parent, fs::SHARED));
            match to.and_then(|to| archive_in(dir, &to, &name)) {
                // On another file system: what a marker says is its name, and that ends here.
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => dir.unlink(&name),
                archived => archived,
            }
        }
    };
    unless_gone(disposed)
}

/// Moves the marker of the source `name` beside the source's place in quarantine; one that is gone is
/// no error.
pub fn quarantine(
    dir: &Dir,
    name: &OsStr,
    marker: &str,
    (to, place): (&Dir, &OsStr),
) -> io::Result<()> {
    let name = marked(name, marker);
    let moved = move_in(dir, to, (&name, marked(place, marker)));
    unless_gone(match moved {
        // Another file system, or a place whose name leaves no room: what a marker says ends here.
        Err(error) if error.kind() != io::ErrorKind::NotFound => dir.unlink(&name),
        moved => moved,
    })
}

fn marked(name: &OsStr, marker: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(marker);
    name
}

fn unless_gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn archive_in(dir: &Dir, to: &Dir, name: &OsStr) -> io::Result<()> {
    move_in(dir, to, (name, name.to_owned()))
}

fn move_in(dir: &Dir, to: &Dir, (name, wanted): (&OsStr, OsString)) -> io::Result<()> {
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
