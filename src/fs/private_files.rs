//! Directories and files that the configuration names, by their paths.

use std::{
    ffi::OsStr,
    fs::DirBuilder,
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use rustix::fs::FileType;

use super::{Dir, Kind, Overwrite};
use crate::fingerprint::FileId;

/// A directory of the service's own, and what is missing above it: whatever the umask is, nobody
/// else may write into it.
pub const OWN: u32 = 0o755;
/// A directory that others work in too: the umask alone says who.
pub const SHARED: u32 = 0o777;

/// Makes a directory for [`OWN`] use; one that is there stays as it is.
pub fn make_own(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(OWN).create(path)
}

/// Makes a directory for [`SHARED`] use; one that is there stays as it is.
pub fn make_shared(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(SHARED).create(path)
}

/// Whose a directory is; an error where a symbolic link has its name.
pub fn owner(path: &Path) -> io::Result<u32> {
    let found = rustix::fs::lstat(path)?;
    match Kind::of(FileType::from_raw_mode(found.st_mode)) {
        Kind::Directory => Ok(found.st_uid),
        kind => {
            Err(io::Error::new(io::ErrorKind::NotADirectory, format!("it is {}", kind.as_str())))
        }
    }
}

/// Which file or directory a path leads to.
pub fn file_id(path: &Path) -> io::Result<FileId> {
    let found = rustix::fs::stat(path)?;
    Ok(FileId { device: found.st_dev, inode: found.st_ino })
}

/// Replaces a file of a directory of ours as a whole, without following a link that has its name.
/// Not durable: for what can be written again.
pub fn replace_own(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let dir = Dir::open(dir)?;
    let (name, new) = (OsStr::new(name), format!("{name}.new"));
    let new = OsStr::new(&new);
    match dir.unlink(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    dir.create_file(new, 0o644)?.write_all(content)?;
    dir.rename(new, &dir, name, Overwrite::Allow)
}
