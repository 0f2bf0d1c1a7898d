//! Renames a file without replacing another, on every file system that can.
//!
//! `renameat2(RENAME_NOREPLACE)` does it in one call. NFS, CephFS, 9p, AFS, eCryptfs and every FUSE
//! file system without `RENAME2` (bindfs, ntfs-3g, SSHFS) refuse the flag with `EINVAL`, `ENOSYS`
//! or `EOPNOTSUPP`. There the file gets its new name by `linkat(2)`, which never replaces either,
//! and loses the old one by `unlinkat(2)`; in between it has both. The kernel refuses an unknown
//! flag without calling the file system, so each call tries again: no state is kept that a new
//! mount could invalidate.
//!
//! On a network file system the reply to a call may be lost and the call be repeated. The result is
//! then decided by the inode that has the new name, as Maildir does (`maildir(5)`).

use std::{
    ffi::{OsStr, OsString},
    io,
    path::Path,
};

use rustix::{
    fs::{self, AtFlags, RenameFlags},
    io::Errno,
};

use super::{
    Dir, FileMetadata, free_number, latest_number,
    probe::{self, is_unsupported},
};
use crate::{failpoint, limits};

/// Whether a rename may overwrite the file that has the new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    Never,
    Allow,
}

/// How a file got its new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renamed {
    /// By a rename: it has only the new name.
    AtOnce,
    /// By a link: it has both names.
    Linked,
    /// As `Linked`, and it had both before.
    WasLinked,
}

impl Dir {
    /// Renames a file of this directory, atomically; durable only after both directories are
    /// synced.
    ///
    /// With [`Overwrite::Never`], a file system without such a rename gives the name by a link: the
    /// new name is durable then when this returns. After an error the file has its old name alone, as far as
    /// possible; otherwise the same call continues from there.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] if the file system has neither such a rename nor hard links.
    pub fn rename(
        &self,
        from: &OsStr,
        to: &Self,
        name: &OsStr,
        overwrite: Overwrite,
    ) -> io::Result<()> {
        if overwrite == Overwrite::Allow {
            return Ok(fs::renameat(&self.fd, from, &to.fd, name)?);
        }
        let renamed = self.rename_or_link(from, to, name)?;
        if renamed == Renamed::AtOnce {
            return Ok(());
        }
        failpoint::hit("link::made")
            .and_then(|()| failpoint::barrier("barrier::linked_name", || to.sync()))
            .and_then(|()| failpoint::hit("link::durable"))
            .and_then(|()| self.unlink_own(from))
            .or_else(|error| self.undo_link(from, (to, name), (renamed, error)))
    }

    /// Renames a file of this directory to `NAME` or, if that is taken, to `NAME.1`, `NAME.2`, …; see
    /// [`free_number`] for which. A file that has one of them already, by a link of a call that a kill or an
    /// error interrupted, keeps it. Returns its new name.
    ///
    /// # Errors
    ///
    /// As [`Self::rename`].
    pub fn rename_to_free(&self, from: &OsStr, to: &Self, name: &OsStr) -> io::Result<OsString> {
        let is_free = |target: &OsStr| Ok(to.stat(Path::new(target))?.is_none());
        let mut target = name.to_owned();
        if self.stat(Path::new(from))?.is_some_and(|found| found.names > 1) {
            let is_linked = |target: &OsStr| self.is_linked(from, to, target);
            let linked = latest_number(name, limits::NAME_BYTES_MAX, is_free, is_linked)?;
            target = linked.unwrap_or(target);
        }
        loop {
            match self.rename(from, to, &target, Overwrite::Never) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                renamed => return renamed.map(|()| target),
            }
            target = free_number(name, "", limits::NAME_BYTES_MAX, is_free)?;
        }
    }

    /// As [`Self::rename`] with [`Overwrite::Never`], but a file that got its new name by a link
    /// keeps the old one: the caller removes it once the new one is durable.
    pub(super) fn rename_or_link(
        &self,
        from: &OsStr,
        to: &Self,
        name: &OsStr,
    ) -> io::Result<Renamed> {
        match self.rename_no_replace(from, to, name) {
            Ok(()) => Ok(Renamed::AtOnce),
            Err(refused) if is_unsupported(refused) => self.link(from, to, name, refused),
            // The kernel finds that the name is taken before the file system can refuse the flag.
            Err(Errno::EXIST) if self.is_linked(from, to, name)? => Ok(Renamed::WasLinked),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a file of this directory a name that only this process makes here, so that no other
    /// file can be replaced; an error if the name exists from before.
    pub fn rename_to_own(&self, from: &OsStr, own: &OsStr) -> io::Result<()> {
        match self.rename_no_replace(from, self, own) {
            Err(refused) if is_unsupported(refused) => {}
            result => return Ok(result?),
        }
        if self.stat_fresh(own)?.is_some() {
            return Err(Errno::EXIST.into());
        }
        match fs::renameat(&self.fd, from, &self.fd, own) {
            // After a lost reply the repeated call finds no file.
            Err(Errno::NOENT) if self.stat_fresh(own)?.is_some() => Ok(()),
            result => Ok(result?),
        }
    }

    /// Calls `renameat2(RENAME_NOREPLACE)` only.
    pub(super) fn rename_no_replace(
        &self,
        from: &OsStr,
        to: &Self,
        name: &OsStr,
    ) -> Result<(), Errno> {
        if failpoint::is_skipped("gate::no_replace") {
            return Err(Errno::INVAL);
        }
        fs::renameat_with(&self.fd, from, &to.fd, name, RenameFlags::NOREPLACE)
    }

    /// Calls `linkat(2)` only.
    pub(super) fn link_no_replace(
        &self,
        from: &OsStr,
        to: &Self,
        name: &OsStr,
    ) -> Result<(), Errno> {
        if failpoint::is_skipped("gate::links") {
            return Err(Errno::PERM);
        }
        fs::linkat(&self.fd, from, &to.fd, name, AtFlags::empty())
    }

    /// Removes the new name of a file whose old one could not be removed, and returns the error of that; an
    /// error that was reported after the removal is none.
    fn undo_link(
        &self,
        from: &OsStr,
        (to, name): (&Self, &OsStr),
        (renamed, error): (Renamed, io::Error),
    ) -> io::Result<()> {
        if self.stat_fresh(from)?.is_none() {
            return Ok(());
        }
        if renamed == Renamed::Linked && self.is_linked(from, to, name)? {
            to.discard(name);
        }
        Err(error)
    }

    fn link(&self, from: &OsStr, to: &Self, name: &OsStr, refused: Errno) -> io::Result<Renamed> {
        let Err(error) = self.link_no_replace(from, to, name) else { return Ok(Renamed::Linked) };
        if matches!(error, Errno::PERM | Errno::MLINK) || is_unsupported(error) {
            // The file system may refuse the name itself: FAT and colons.
            return Err(if probe::supports_no_replace(to) {
                refused.into()
            } else {
                unsupported_error(error)
            });
        }
        if self.is_linked(from, to, name)? { Ok(Renamed::WasLinked) } else { Err(error.into()) }
    }

    /// Checks whether both names belong to one file already: by a link of a call whose reply was
    /// lost, or of the previous run.
    pub fn is_linked(&self, from: &OsStr, to: &Self, name: &OsStr) -> io::Result<bool> {
        let (old, new) = (self.stat_fresh(from)?, to.stat_fresh(name)?);
        Ok(old.zip(new).is_some_and(|(old, new)| is_same_file(&old, &new)))
    }

    /// Removes a name that only this process removes. A missing one was removed by a call whose
    /// reply was lost.
    pub fn unlink_own(&self, name: &OsStr) -> io::Result<()> {
        match self.unlink(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Removes a temporary name whose owner is gone, as far as possible. An error may pass, so it
    /// is tried twice; only a start after an unclean stop sweeps the rest.
    pub fn discard(&self, name: &OsStr) {
        if self.unlink_own(name).is_err() {
            drop(self.unlink(name));
        }
    }
}

fn is_same_file(one: &FileMetadata, other: &FileMetadata) -> bool {
    one.identity.device == other.identity.device && one.identity.inode == other.identity.inode
}

/// Returns the error of a file system that cannot rename without the risk of replacing a file.
fn unsupported_error(error: Errno) -> io::Error {
    let text = format!(
        "the file system supports neither a rename without overwriting nor hard links: {error}"
    );
    io::Error::new(io::ErrorKind::Unsupported, text)
}

#[cfg(test)]
#[cfg(feature = "failpoints")]
mod tests;
