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

/// The names of the ledger and of the lock, by which a state directory is known.
pub const LEDGER_NAME: &str = "ledger.sqlite";
pub const LOCK_NAME: &str = "lock";

/// Checks whether a directory below `root` is the state directory of a service: it has a ledger and a
/// lock.
pub fn is_state_dir(root: &Dir, directory: &Path) -> io::Result<bool> {
    let has = |name: &str| {
        let found = root.stat(&directory.join(name))?;
        Ok::<_, io::Error>(found.is_some_and(|found| found.kind == Kind::File))
    };
    Ok(has(LEDGER_NAME)? && has(LOCK_NAME)?)
}

/// Returns the nearest state directory that has this path, below `root`.
pub fn state_dir_of<'a>(root: &Dir, path: &'a Path) -> io::Result<Option<&'a Path>> {
    for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
        if is_state_dir(root, parent)? {
            return Ok(Some(parent));
        }
    }
    Ok(None)
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
