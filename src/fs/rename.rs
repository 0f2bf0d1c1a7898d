//! A new name for a file, on every file system that can give one without replacing another file.
//!
//! `renameat2(RENAME_NOREPLACE)` does it in one call. NFS, CephFS, 9p, AFS, eCryptfs and every FUSE
//! file system without `RENAME2` (bindfs, ntfs-3g, SSHFS) refuse the flag with `EINVAL`, `ENOSYS` or
//! `EOPNOTSUPP`. There the file gets its new name by `linkat(2)`, which never replaces either, and
//! loses the old one by `unlinkat(2)`; in between it has both. The kernel answers a flag that it does
//! not know without asking the file system, so each call tries again: nothing is remembered that a
//! new mount could make untrue.
//!
//! On a network file system the answer to a call may be lost and the call be repeated. What a call
//! came to is then decided by the inode that has the new name, as Maildir does (`maildir(5)`).

use std::{
    ffi::{OsStr, OsString},
    io,
    sync::Arc,
};

use rustix::{
    fs::{self, AtFlags, RenameFlags},
    io::Errno,
};

use super::{
    Dir, FileMetadata,
    probe::{self, is_unsupported},
};
use crate::failpoint;

/// Whether a rename may replace what has the new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    Never,
    Allow,
}

/// The old name of a file that got its new one by a link. Dropping it leaves the name there.
#[derive(Debug)]
#[must_use = "the file keeps two names until `remove`"]
pub struct SecondName {
    dir: Arc<Dir>,
    name: OsString,
}

impl SecondName {
    pub(super) const fn new(dir: Arc<Dir>, name: OsString) -> Self {
        Self { dir, name }
    }

    /// Removes the old name. The new one must be durable before: otherwise a power loss may take both.
    pub fn remove(&self) -> io::Result<()> {
        match self.dir.unlink_own(&self.name) {
            // The directory was removed, and the name with it.
            Err(error) if error.kind() == io::ErrorKind::StaleNetworkFileHandle => Ok(()),
            removed => removed,
        }
    }
}

/// How a file got its new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renamed {
    /// It has the new name only.
    AtOnce,
    /// It has both names.
    Linked,
}

impl Dir {
    /// Renames a file of this directory, atomically; durable only after both directories' sync.
    ///
    /// Where nothing may be replaced and the file system has no such rename, it is done by a link:
    /// the new name is durable then when this returns. An error may leave both names; the same call
    /// made again goes on from there.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] where the file system has no such rename and makes no link.
    pub fn rename(
        &self,
        from: &OsStr,
        to: &Self,
        name: &OsStr,
        replace: Overwrite,
    ) -> io::Result<()> {
        if replace == Overwrite::Allow {
            return Ok(fs::renameat(&self.fd, from, &to.fd, name)?);
        }
        if self.rename_or_link(from, to, name)? == Renamed::Linked {
            failpoint::pass("link::made");
            to.sync()?;
            failpoint::pass("link::durable");
            self.unlink_own(from)?;
        }
        Ok(())
    }

    /// As [`Self::rename`] with [`Overwrite::Never`], but a file that got its new name by a link keeps
    /// the old one: the caller removes it once the new one is durable.
    pub(super) fn rename_or_link(
        &self,
        from: &OsStr,
        to: &Self,
        name: &OsStr,
    ) -> io::Result<Renamed> {
        match self.rename_strictly(from, to, name) {
            Ok(()) => Ok(Renamed::AtOnce),
            Err(refused) if is_unsupported(refused) => {
                self.link(from, to, name, refused).map(|()| Renamed::Linked)
            }
            // The kernel finds that the name is taken before the file system can refuse the flag.
            Err(Errno::EXIST) if self.is_linked(from, to, name)? => Ok(Renamed::Linked),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a file of this directory a name that only this process makes here, so that nobody
    /// else's file can be replaced; an error where something has the name from before.
    pub fn rename_to_own(&self, from: &OsStr, own: &OsStr) -> io::Result<()> {
        match self.rename_strictly(from, self, own) {
            Err(refused) if is_unsupported(refused) => {}
            result => return Ok(result?),
        }
        if self.stat_fresh(own)?.is_some() {
            return Err(Errno::EXIST.into());
        }
        match fs::renameat(&self.fd, from, &self.fd, own) {
            // Where the answer was lost, the call that was repeated finds no file any more.
            Err(Errno::NOENT) if self.stat_fresh(own)?.is_some() => Ok(()),
            result => Ok(result?),
        }
    }

    /// `renameat2(RENAME_NOREPLACE)` and nothing else.
    pub(super) fn rename_strictly(
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

    /// `linkat(2)` and nothing else.
    pub(super) fn link_strictly(&self, from: &OsStr, to: &Self, name: &OsStr) -> Result<(), Errno> {
        if failpoint::is_skipped("gate::links") {
            return Err(Errno::PERM);
        }
        fs::linkat(&self.fd, from, &to.fd, name, AtFlags::empty())
    }

    fn link(&self, from: &OsStr, to: &Self, name: &OsStr, refused: Errno) -> io::Result<()> {
        let Err(error) = self.link_strictly(from, to, name) else { return Ok(()) };
        if matches!(error, Errno::PERM | Errno::MLINK) || is_unsupported(error) {
            // The name itself may be what this file system does not take: FAT and colons.
            return Err(if probe::renames_strictly(to) {
                refused.into()
            } else {
                unsupported(error)
            });
        }
        if self.is_linked(from, to, name)? { Ok(()) } else { Err(error.into()) }
    }

    /// Whether both names are one file's already: by a link that was made by a call whose answer was
    /// lost, or by the run before this one.
    fn is_linked(&self, from: &OsStr, to: &Self, name: &OsStr) -> io::Result<bool> {
        let (old, new) = (self.stat_fresh(from)?, to.stat_fresh(name)?);
        Ok(old.zip(new).is_some_and(|(old, new)| is_one_file(&old, &new)))
    }

    /// Removes a name that nobody else removes. One that is gone was removed by a call whose answer
    /// was lost.
    pub fn unlink_own(&self, name: &OsStr) -> io::Result<()> {
        match self.unlink(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Removes a temporary name whose owner is gone, as far as it can: an error may pass, so it is
    /// tried twice, and only a start after a stop that was not clean sweeps what is left.
    pub fn discard(&self, name: &OsStr) {
        if self.unlink_own(name).is_err() {
            drop(self.unlink(name));
        }
    }
}

fn is_one_file(one: &FileMetadata, other: &FileMetadata) -> bool {
    one.identity.device == other.identity.device && one.identity.inode == other.identity.inode
}

/// Nothing here can give a file a name without the risk of replacing another.
fn unsupported(error: Errno) -> io::Error {
    let text = format!(
        "the file system has no rename that replaces nothing, and makes no hard link: {error}"
    );
    io::Error::new(io::ErrorKind::Unsupported, text)
}

#[cfg(test)]
#[cfg(feature = "failpoints")]
mod tests;
