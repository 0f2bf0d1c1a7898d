//! The exit codes, and the errors of the operating system that blame the storage and not the file.

use std::io;

/// The exit codes, after `sysexits.h`; a part of the command line's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command did what it should; of a service: every file that was taken is finished.
    Success = 0,
    /// The command line is invalid (`EX_USAGE`).
    Usage = 64,
    /// `--once` only: it is finished, and files are in quarantine, from this or an earlier run
    /// (`EX_DATAERR`).
    Quarantined = 65,
    /// A command needs a running service, and none runs (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// A bug in the program (`EX_SOFTWARE`).
    Internal = 70,
    /// `put` only: the name is taken by a file with other content (`EX_CANTCREAT`).
    NameTaken = 73,
    /// Storage failed: no further output could be made durable (`EX_IOERR`).
    Storage = 74,
    /// Files are unfinished, or another process has the state directory; the next start resumes the
    /// work (`EX_TEMPFAIL`).
    WorkLeft = 75,
    /// The configuration is invalid (`EX_CONFIG`).
    Config = 78,
}

impl Exit {
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// Returns the variant with this code.
    #[must_use]
    pub fn of_code(code: i32) -> Option<Self> {
        let all = [
            Self::Success,
            Self::Usage,
            Self::Quarantined,
            Self::Unavailable,
            Self::Internal,
            Self::NameTaken,
            Self::Storage,
            Self::WorkLeft,
            Self::Config,
        ];
        all.into_iter().find(|exit| exit.code() == code)
    }
}

/// Checks whether this is an error of the entire file system: it gives no information on the path, and
/// may end when the mount is repaired.
#[must_use]
pub fn is_unavailable(error: &io::Error) -> bool {
    errno(error).is_some_and(|errno| is_damage(errno) || is_unreachable(errno))
}

/// Checks whether an error is one of the disk, which no change of the configuration can end: it failed, is
/// gone, or became read-only.
#[must_use]
pub fn is_of_disk(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ReadOnlyFilesystem || is_unavailable(error)
}

/// Checks whether an error on the input's side says nothing about the file: its file system does not
/// respond, or the machine lacks a resource. A local disk reports a bad block of one file as damage, a
/// network file system a lost server.
#[must_use]
pub fn blames_input(error: &io::Error, is_network: bool) -> bool {
    errno(error).is_some_and(|errno| {
        is_unreachable(errno) || is_shortage(errno) || (is_network && is_damage(errno))
    })
}

/// Checks whether an error of a write, a publication or an open on the output's side says nothing about
/// the file: the storage is full, read-only, not permitted, or does not respond. A later retry may
/// succeed.
#[must_use]
pub fn blames_output(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let Some(errno) = errno(error) else {
        // A file system without this operation lacks it for every file.
        return matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::Unsupported);
    };
    let is_refusal = matches!(
        errno,
        Errno::ROFS
            | Errno::NOSPC
            | Errno::DQUOT
            | Errno::ACCESS
            | Errno::PERM
            | Errno::NOENT
            | Errno::NOTDIR
            | Errno::NOSYS
            | Errno::OPNOTSUPP
    );
    is_refusal || is_damage(errno) || is_unreachable(errno) || is_shortage(errno)
}

/// Formats an error with its causes, on one line. A cause that the text ends with is not repeated.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// An error of the directory that a file is moved to, not of the file.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct TargetError(io::Error);

/// Marks an error as one of the directory that a file is moved to.
#[must_use]
pub fn of_target(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), TargetError(error))
}

/// Returns the error of the directory that a file is moved to, if it is one.
#[must_use]
pub fn target_error(error: &io::Error) -> Option<&io::Error> {
    error.get_ref()?.downcast_ref::<TargetError>().map(|TargetError(error)| error)
}

fn errno(error: &io::Error) -> Option<rustix::io::Errno> {
    let error = target_error(error).unwrap_or(error);
    error.raw_os_error().map(rustix::io::Errno::from_raw_os_error)
}

/// The disk cannot read or write, or what it has is damaged.
const fn is_damage(errno: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(errno, Errno::IO | Errno::BADMSG | Errno::UCLEAN)
}

/// The device, its server or the mount is gone.
const fn is_unreachable(errno: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(
        errno,
        Errno::STALE
            | Errno::NOTCONN
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::TIMEDOUT
            | Errno::NODEV
            | Errno::NXIO
            | Errno::SHUTDOWN
    )
}

/// The machine lacks descriptors or memory.
const fn is_shortage(errno: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM)
}
