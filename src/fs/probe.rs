//! What a directory's file system can do, found by doing it with files of our own.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::AsFd,
    path::Path,
    sync::Arc,
};

use rustix::{
    fs::{Gid, Mode, Timespec, Timestamps, Uid},
    io::Errno,
};

use super::{Dir, NodeId, Temp};

/// How a file of a directory can get a new name without replacing another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renames {
    /// By `renameat2(RENAME_NOREPLACE)`.
    AtOnce,
    /// By `linkat` and `unlinkat`.
    ByLink,
    Never,
}

/// What of a source's attributes its output can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub modes: bool,
    /// Whether a file can be given to another user. Only root may, so others have it by default.
    pub owners: bool,
    pub times: bool,
}

/// What was found about one directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    pub renames: Renames,
    /// Names can be made durable: `fsync` of a directory.
    pub syncs_directories: bool,
    pub kept: Kept,
    /// Other machines may change it unseen by this kernel.
    pub is_network: bool,
    /// The number of its file system, for the time that it stays mounted.
    pub device: u64,
}

/// A closed file that a probe made. Dropping it removes what has its name.
struct Trial<'a> {
    dir: &'a Dir,
    name: OsString,
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        self.dir.discard(&self.name);
    }
}

/// Tries out a directory. Leaves nothing there; what an end in the middle leaves has a temp's name,
/// and the sweep removes it.
///
/// # Errors
///
/// Nothing could be made there, so nothing is known: it is full, read-only, or not ours to write to.
pub fn probe(dir: &Arc<Dir>, instance: &NodeId) -> io::Result<Abilities> {
    let temp = Temp::create(dir, instance)?;
    let kept = kept(&temp);
    let device = rustix::fs::fstat(temp.file())?.st_dev;
    let renames = renames(dir, &Trial { dir, name: temp.close() }, instance)?;
    let syncs_directories = !is_refused(rustix::fs::fsync(dir.as_fd()));
    Ok(Abilities { renames, syncs_directories, kept, is_network: dir.is_network(), device })
}

fn kept(temp: &Temp) -> Kept {
    let file = temp.file();
    let time = Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    let other = || rustix::fs::fchown(file, Some(Uid::from_raw(1)), Some(Gid::from_raw(1)));
    Kept {
        modes: rustix::fs::fchmod(file, Mode::from_raw_mode(0o640)).is_ok(),
        times: rustix::fs::futimens(file, &times).is_ok(),
        owners: !rustix::process::geteuid().is_root() || other().is_ok(),
    }
}

/// `fsync` of a directory that the file system has no notion of; another error is the disk's.
fn is_refused(synced: rustix::io::Result<()>) -> bool {
    synced.is_err_and(|error| error == Errno::BADF || is_unsupported(error))
}

/// A rename must fail where the name is taken, and succeed where it is free. A file system that passes
/// over the flag would replace files, links or not: it has neither.
fn renames(dir: &Arc<Dir>, trial: &Trial<'_>, instance: &NodeId) -> io::Result<Renames> {
    let other = Trial { dir, name: Temp::create(dir, instance)?.close() };
    let strictly = |by: fn(&Dir, &OsStr, &Dir, &OsStr) -> Result<(), Errno>| {
        by(dir, &trial.name, dir, &other.name)
    };
    let on_taken = strictly(Dir::rename_strictly);
    dir.unlink_own(&other.name)?;
    let on_free = match on_taken {
        Ok(()) => return Ok(Renames::Never),
        Err(Errno::EXIST) => strictly(Dir::rename_strictly),
        refused => refused,
    };
    match on_free {
        Ok(()) => return Ok(Renames::AtOnce),
        Err(error) if is_unsupported(error) => {}
        Err(error) => return Err(error.into()),
    }
    // Where the answer is lost, the link is there all the same.
    let made = strictly(Dir::link_strictly);
    let is_there = matches!(made, Ok(()) | Err(Errno::EXIST));
    Ok(if is_there && dir.stat_fresh(&other.name)?.is_some() {
        Renames::ByLink
    } else {
        Renames::Never
    })
}

/// Whether the directory's file system knows `RENAME_NOREPLACE`; not, where that cannot be found out.
pub(super) fn renames_strictly(dir: &Dir) -> bool {
    let dir = dir.open_beneath(Path::new("")).map(Arc::new);
    // Of no ledger: what an end in the middle leaves is an empty file that is never taken in.
    let found = dir.and_then(|dir| {
        let instance = NodeId::new("probe");
        let name = Temp::create(&dir, &instance)?.close();
        renames(&dir, &Trial { dir: &dir, name }, &instance)
    });
    matches!(found, Ok(Renames::AtOnce))
}

/// Whether an error of a system call says that there is no such call or flag here.
pub(super) const fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_directory_can_do_everything_and_nothing_is_left_in_it() {
        let root = tempfile::tempdir().expect("temporary directory");
        let dir = Arc::new(Dir::open(root.path()).expect("open"));
        let found = probe(&dir, &NodeId::new("0011")).expect("probe");
        assert_eq!((found.renames, found.syncs_directories), (Renames::AtOnce, true));
        assert!(found.kept.modes && found.kept.times && !found.is_network);
        assert_eq!(std::fs::read_dir(root.path()).expect("list").count(), 0);
        assert!(renames_strictly(&dir));
    }

    #[cfg(feature = "failpoints")]
    #[test]
    fn what_a_file_system_cannot_do_is_found_out() {
        let _scenario = fail::FailScenario::setup();
        let root = tempfile::tempdir().expect("temporary directory");
        let dir = Arc::new(Dir::open(root.path()).expect("open"));
        let renames = || probe(&dir, &NodeId::new("0011")).expect("probe").renames;
        fail::cfg("gate::no_replace", "return(out)").expect("configure");
        assert_eq!(renames(), Renames::ByLink);
        assert!(!renames_strictly(&dir));
        fail::cfg("gate::links", "return(out)").expect("configure");
        assert_eq!(renames(), Renames::Never);
        assert_eq!(std::fs::read_dir(root.path()).expect("list").count(), 0);
    }
}
