//! Probes the abilities of a directory's file system, with files of our own.

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

/// How a file can get a new name without replacing another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renames {
    /// By `renameat2(RENAME_NOREPLACE)`.
    AtOnce,
    /// By `linkat` and `unlinkat`.
    ByLink,
    Never,
}

/// The attributes of a source that its output can keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptAttributes {
    pub modes: bool,
    /// Whether a file can be given to another user. Only root may: true for other users.
    pub owners: bool,
    pub times: bool,
}

/// The abilities of one directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    pub renames: Renames,
    /// Whether names can be made durable: `fsync` of a directory.
    pub syncs_directories: bool,
    pub kept: KeptAttributes,
    /// Whether other machines may change it without this kernel's knowledge.
    pub is_network: bool,
    /// The device number of its file system; valid while it is mounted.
    pub device: u64,
}

/// A closed file of a probe. Dropping it removes the file that has its name.
struct ProbeFile<'a> {
    dir: &'a Dir,
    name: OsString,
}

impl Drop for ProbeFile<'_> {
    fn drop(&mut self) {
        self.dir.discard(&self.name);
    }
}

/// Probes a directory. It leaves no file; after an interruption a file with a temp's name stays,
/// which the sweep removes.
///
/// # Errors
///
/// No file could be made, so nothing is known: the directory is full, read-only or not writable for
/// this process.
pub fn probe(dir: &Arc<Dir>, instance: &NodeId) -> io::Result<Abilities> {
    let temp = Temp::create(dir, instance)?;
    let kept = probe_attributes(&temp);
    let device = rustix::fs::fstat(temp.file())?.st_dev;
    let renames = find_renames(dir, &ProbeFile { dir, name: temp.close() }, instance)?;
    let syncs_directories = !is_unsupported_sync(rustix::fs::fsync(dir.as_fd()));
    Ok(Abilities { renames, syncs_directories, kept, is_network: dir.is_network(), device })
}

fn probe_attributes(temp: &Temp) -> KeptAttributes {
    let file = temp.file();
    let time = Timespec { tv_sec: 1_000_000_000, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    let other = || rustix::fs::fchown(file, Some(Uid::from_raw(1)), Some(Gid::from_raw(1)));
    KeptAttributes {
        modes: rustix::fs::fchmod(file, Mode::from_raw_mode(0o640)).is_ok(),
        times: rustix::fs::futimens(file, &times).is_ok(),
        owners: !rustix::process::geteuid().is_root() || other().is_ok(),
    }
}

/// Checks whether the file system does not support `fsync` of a directory; another error is the
/// disk's.
fn is_unsupported_sync(synced: rustix::io::Result<()>) -> bool {
    synced.is_err_and(|error| error == Errno::BADF || is_unsupported(error))
}

/// Finds the way to rename. A rename must fail if the name is taken, and succeed if it is free. A
/// file system that ignores the flag would replace files, with or without links:
/// [`Renames::Never`].
fn find_renames(dir: &Arc<Dir>, file: &ProbeFile<'_>, instance: &NodeId) -> io::Result<Renames> {
    let other = ProbeFile { dir, name: Temp::create(dir, instance)?.close() };
    let attempt = |by: fn(&Dir, &OsStr, &Dir, &OsStr) -> Result<(), Errno>| {
        by(dir, &file.name, dir, &other.name)
    };
    let on_taken = attempt(Dir::rename_no_replace);
    dir.unlink_own(&other.name)?;
    let on_free = match on_taken {
        Ok(()) => return Ok(Renames::Never),
        Err(Errno::EXIST) => attempt(Dir::rename_no_replace),
        refused => refused,
    };
    match on_free {
        Ok(()) => return Ok(Renames::AtOnce),
        Err(error) if is_unsupported(error) => {}
        Err(error) => return Err(error.into()),
    }
    // If the reply was lost, the link exists all the same.
    let linked = attempt(Dir::link_no_replace);
    let exists = matches!(linked, Ok(()) | Err(Errno::EXIST));
    Ok(if exists && dir.stat_fresh(&other.name)?.is_some() {
        Renames::ByLink
    } else {
        Renames::Never
    })
}

/// Checks whether the directory's file system supports `RENAME_NOREPLACE`; false if that cannot be
/// found out.
pub(super) fn supports_no_replace(dir: &Dir) -> bool {
    let dir = dir.open_beneath(Path::new("")).map(Arc::new);
    // The name belongs to no ledger: an interruption leaves an empty file that is never taken in.
    let found = dir.and_then(|dir| {
        let instance = NodeId::new("probe");
        let name = Temp::create(&dir, &instance)?.close();
        find_renames(&dir, &ProbeFile { dir: &dir, name }, &instance)
    });
    matches!(found, Ok(Renames::AtOnce))
}

/// Checks whether an error means that this system call or flag does not exist here.
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
        assert!(supports_no_replace(&dir));
    }

    #[cfg(feature = "failpoints")]
    #[test]
    fn missing_abilities_are_detected() {
        let _scenario = fail::FailScenario::setup();
        let root = tempfile::tempdir().expect("temporary directory");
        let dir = Arc::new(Dir::open(root.path()).expect("open"));
        let renames = || probe(&dir, &NodeId::new("0011")).expect("probe").renames;
        fail::cfg("gate::no_replace", "return(out)").expect("configure");
        assert_eq!(renames(), Renames::ByLink);
        assert!(!supports_no_replace(&dir));
        fail::cfg("gate::links", "return(out)").expect("configure");
        assert_eq!(renames(), Renames::Never);
        assert_eq!(std::fs::read_dir(root.path()).expect("list").count(), 0);
    }
}
