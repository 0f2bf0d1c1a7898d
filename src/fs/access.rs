//! Whether this process may write in a directory, and whose it is.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, Gid, Mode, access, fchmod, fchown, stat};

use super::{FileMetadata, metadata_of};

/// The set-group-ID bit of a directory: its files get its group.
const SET_GROUP_ID: u32 = 0o2000;

/// A directory in which this process may not create files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessDenied {
    pub dir: PathBuf,
    /// Its user.
    pub owner: u32,
    /// Its permissions.
    pub mode: u32,
}

/// Checks whether this process may create files in a directory, or create the directory itself.
/// Returns the directory that denies it: this one, or the nearest one above that exists. Creates
/// nothing; blocks while the file system does not respond.
#[must_use]
pub fn access_denied(dir: &Path) -> Option<AccessDenied> {
    let (dir, found) = dir.ancestors().find_map(|dir| Some((dir, stat(dir).ok()?)))?;
    let result = access(dir, Access::WRITE_OK | Access::EXEC_OK);
    (result == Err(rustix::io::Errno::ACCESS)).then(|| AccessDenied {
        dir: dir.to_path_buf(),
        owner: found.st_uid,
        mode: found.st_mode & 0o7777,
    })
}

/// Gives a file the group of a directory with the set-group-ID bit, as of an inbox for several users, and lets that
/// group read it. Durable after the file's next sync.
pub fn share_with_group(file: &File, directory: &FileMetadata) -> io::Result<()> {
    if directory.mode & SET_GROUP_ID == 0 {
        return Ok(());
    }
    let found = metadata_of(file)?;
    if found.group != directory.group {
        fchown(file, None, Some(Gid::from_raw(directory.group)))?;
    }
    let mode = found.mode & 0o777;
    if mode & 0o040 == 0 {
        fchmod(file, Mode::from_raw_mode(mode | 0o040))?;
    }
    Ok(())
}
