//! Whether this process may write in a directory, and whose it is.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, stat};

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
