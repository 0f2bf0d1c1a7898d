//! A directory handle and the operations below it.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
    sync::OnceLock,
};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};

use super::filesystem;
use crate::{
    failpoint,
    fingerprint::{FileId, Fingerprint},
    limits,
};

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    Device,
}

impl Kind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "a regular file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::Device => "a device",
        }
    }

    pub(super) fn from_file_type(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            _ => Self::Device,
        }
    }
}

/// The result of one `stat` of a name or a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMetadata {
    pub kind: Kind,
    pub identity: Fingerprint,
    pub mode: u32,
    pub owner: u32,
    pub group: u32,
    /// The number of hard links.
    pub names: u64,
}

/// An open directory. Dropping it closes the handle.
#[derive(Debug)]
pub struct Dir {
    pub(super) fd: OwnedFd,
    path: PathBuf,
    /// The magic number of its file system, queried on first use.
    magic: OnceLock<u64>,
    /// Device and inode, queried on first use; no other directory gets them while the handle is
    /// open.
    id: OnceLock<FileId>,
}

impl Dir {
    /// Opens a directory by its path, through symbolic links: the operator configured it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty())?;
        Ok(Self { fd, path: path.to_path_buf(), magic: OnceLock::new(), id: OnceLock::new() })
    }

    /// As [`Self::open`], after opening its parent: a network file system caches that a name is
    /// missing until its directory is opened.
    pub fn open_fresh(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            drop(Self::open(parent));
        }
        Self::open(path)
    }

    /// Returns the path it was opened by, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the directory's identity, as of the first call.
    pub fn id(&self) -> io::Result<FileId> {
        if let Some(id) = self.id.get() {
            return Ok(*id);
        }
        let id = identity_of(self)?.file_id();
        Ok(*self.id.get_or_init(|| id))
    }

    fn magic(&self) -> Option<u64> {
        if let Some(magic) = self.magic.get() {
            return Some(*magic);
        }
        let magic = filesystem::magic(&self.fd).ok()?;
        Some(*self.magic.get_or_init(|| magic))
    }

    /// Checks whether other machines write to its file system; false if that cannot be queried.
    #[must_use]
    pub fn is_network(&self) -> bool {
        self.magic().is_some_and(filesystem::is_network_magic)
    }

    /// Checks whether a file of it may have another inode number after each look: by a server's choice, or
    /// because the file system has none of its own.
    #[must_use]
    pub fn may_renumber(&self) -> bool {
        self.magic().is_some_and(|magic| {
            filesystem::is_network_magic(magic) || filesystem::has_no_inodes(magic)
        })
    }

    /// Checks whether [`Self::sync`] makes the names in all directories of the file system durable.
    #[must_use]
    pub fn syncs_all_names(&self) -> bool {
        self.magic().is_some_and(filesystem::needs_commit)
    }

    /// Queries what [`Self::is_network`] returns; an error means that its file system does not answer.
    pub fn query_network(&self) -> io::Result<bool> {
        // Not from memory: the question is whether it answers now.
        let magic = filesystem::magic(&self.fd)?;
        Ok(filesystem::is_network_magic(*self.magic.get_or_init(|| magic)))
    }

    /// Opens a directory below this one; the empty path opens this one.
    pub fn open_beneath(&self, relative: &Path) -> io::Result<Self> {
        let fd = self.resolve(relative, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(Self { fd, path: self.path.join(relative), magic: OnceLock::new(), id: OnceLock::new() })
    }

    /// As [`Self::open_beneath`], and makes missing directories with this mode (less the umask),
    /// durably: each new name is synced in its parent before this returns.
    pub fn make_beneath(&self, relative: &Path, mode: u32) -> io::Result<Self> {
        match self.open_beneath(relative) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let mut dir = self.open_beneath(Path::new(""))?;
        for component in relative.components() {
            let Component::Normal(name) = component else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            match fs::mkdirat(&dir.fd, name, Mode::from_raw_mode(mode)) {
                // Another process that just made it may not have synced it yet.
                Ok(()) | Err(rustix::io::Errno::EXIST) => {
                    failpoint::barrier("barrier::new_directory", || dir.sync())?;
                }
                Err(error) => return Err(error.into()),
            }
            dir = dir.open_beneath(Path::new(name))?;
        }
        Ok(dir)
    }

    /// Opens a file below this directory for reading, whatever its type: a FIFO does not block, and
    /// the caller checks the handle with [`metadata_of`].
    pub fn open_file(&self, relative: &Path) -> io::Result<File> {
        let fd = self.resolve(relative, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        Ok(File::from(fd))
    }

    fn resolve(&self, relative: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut attempts = 1;
        loop {
            match fs::openat2(&self.fd, path, flags, Mode::empty(), resolve) {
                Err(rustix::io::Errno::INTR) => {}
                // The kernel could not rule out a rename that raced with the look-up; or another
                // process holds a write lease, indefinitely.
                Err(rustix::io::Errno::AGAIN) if attempts < limits::OPEN_ATTEMPTS_MAX => {
                    attempts += 1;
                }
                result => return Ok(result?),
            }
        }
    }

    /// Returns the metadata of a name below this directory without opening it; `None` if it does
    /// not exist.
    pub fn stat(&self, relative: &Path) -> io::Result<Option<FileMetadata>> {
        match fs::statat(&self.fd, relative, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(to_metadata(&stat))),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`Self::stat`], and on a network file system never from the cache: there only an open of
    /// the directory makes the client query its server.
    pub fn stat_fresh(&self, relative: impl AsRef<Path>) -> io::Result<Option<FileMetadata>> {
        let relative = relative.as_ref();
        if self.is_network() { self.stat_beneath(relative) } else { self.stat(relative) }
    }

    /// As [`Self::stat`], of a name whose directory is below this one: no link leads out of it.
    pub fn stat_beneath(&self, relative: &Path) -> io::Result<Option<FileMetadata>> {
        let (parent, name) = super::split(relative);
        match self.open_beneath(parent) {
            Ok(dir) => dir.stat(Path::new(name)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the time at which a file was created, in nanoseconds since the epoch; `None` if the file
    /// system has none, or counts by another machine's clock.
    pub fn born_ns(&self, relative: &Path) -> io::Result<Option<i64>> {
        if self.is_network() {
            return Ok(None);
        }
        let found =
            fs::statx(&self.fd, relative, AtFlags::SYMLINK_NOFOLLOW, fs::StatxFlags::BTIME)?;
        let born = found.stx_btime;
        let has_it = found.stx_mask & fs::StatxFlags::BTIME.bits() != 0;
        let nanoseconds =
            || born.tv_sec.checked_mul(1_000_000_000)?.checked_add(born.tv_nsec.into());
        Ok(has_it.then(nanoseconds).flatten())
    }

    /// Removes a file's name; durable only after [`Self::sync`].
    pub fn unlink(&self, name: &OsStr) -> io::Result<()> {
        Ok(fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    /// Creates a new file in this directory, for reading and writing; an error if the name is
    /// taken.
    pub fn create_file(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(fs::openat(&self.fd, name, flags, Mode::from_raw_mode(mode))?))
    }

    /// Makes the names in this directory durable. A failure must not be retried: the kernel forgets
    /// the data that it could not write.
    pub fn sync(&self) -> io::Result<()> {
        match self.magic().map(filesystem::needs_commit) {
            Some(true) => filesystem::commit_names(&self.fd),
            Some(false) => Ok(fs::fsync(&self.fd)?),
            // It may be either.
            None => {
                fs::fsync(&self.fd)?;
                filesystem::commit_names(&self.fd)
            }
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Checks whether an error means that the name, or a directory above it, does not exist.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Returns the metadata of an open file.
pub fn metadata_of(file: &impl AsFd) -> io::Result<FileMetadata> {
    Ok(to_metadata(&fs::fstat(file)?))
}

/// Returns the identity of an open file.
pub fn identity_of(file: &impl AsFd) -> io::Result<Fingerprint> {
    Ok(metadata_of(file)?.identity)
}

#[expect(clippy::cast_sign_loss, clippy::cast_possible_wrap, reason = "the kernel's own widths")]
pub(super) fn to_metadata(stat: &Stat) -> FileMetadata {
    let nanoseconds =
        |seconds: i64, rest: u64| seconds.saturating_mul(1_000_000_000).saturating_add(rest as i64);
    FileMetadata {
        kind: Kind::from_file_type(FileType::from_raw_mode(stat.st_mode)),
        identity: Fingerprint {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size as u64,
            mtime_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        },
        mode: stat.st_mode & 0o7777,
        owner: stat.st_uid,
        group: stat.st_gid,
        names: stat.st_nlink,
    }
}

/// Returns the metadata of a directory by its path, through symbolic links: the operator configured
/// it.
pub fn directory_at(path: &Path) -> io::Result<FileMetadata> {
    Ok(to_metadata(&fs::stat(path)?))
}
