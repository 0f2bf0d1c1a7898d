//! Creates and inspects directories and files of the configuration, by their paths.

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

/// The mode of the service's own directories and missing ones above them: no other user may write
/// to them, whatever the umask.
pub const OWN_DIR_MODE: u32 = 0o755;
/// The mode of directories that others use too: the umask alone decides.
pub const SHARED_DIR_MODE: u32 = 0o777;

/// Makes a directory with mode [`OWN_DIR_MODE`]; an existing one keeps its mode.
pub fn make_own(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(OWN_DIR_MODE).create(path)
}

/// Makes a directory with mode [`SHARED_DIR_MODE`]; an existing one keeps its mode.
pub fn make_shared(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(SHARED_DIR_MODE).create(path)
}

/// Returns the owner of a directory; an error if its name is a symbolic link.
pub fn owner(path: &Path) -> io::Result<u32> {
    let found = rustix::fs::lstat(path)?;
    match Kind::from_file_type(FileType::from_raw_mode(found.st_mode)) {
        Kind::Directory => Ok(found.st_uid),
        kind => {
            Err(io::Error::new(io::ErrorKind::NotADirectory, format!("it is {}", kind.as_str())))
        }
    }
}

/// Returns the identity of the file or directory at a path.
pub fn file_id(path: &Path) -> io::Result<FileId> {
    let found = rustix::fs::stat(path)?;
    Ok(FileId { device: found.st_dev, inode: found.st_ino })
}

/// Replaces a file of an own directory atomically, without following a link that has its name. Not
/// durable: for content that can be written again.
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
