//! The exit codes, and the errors of the operating system that blame the storage and not the file.

use std::io;

/// The exit codes, after `sysexits.h`; a part of the command line's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Every file that was taken is finished.
    Drained = 0,
    /// The command line is invalid (`EX_USAGE`).
    Usage = 64,
    /// `--once` only: it is finished, and files are in quarantine, from this or an earlier run
    /// (`EX_DATAERR`).
    Quarantined = 65,
    /// A command needs a running service, and none runs (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// A bug in the program (`EX_SOFTWARE`).
    Internal = 70,
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
            Self::Drained,
            Self::Usage,
            Self::Quarantined,
            Self::Unavailable,
            Self::Internal,
            Self::Storage,
            Self::WorkLeft,
            Self::Config,
        ];
        all.into_iter().find(|exit| exit.code() == code)
    }
}

/// The state of the storage after an error of the operating system on the output side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageHealth {
    /// The storage works: the file is at fault.
    Available,
    /// It is full, out of descriptors, or does not respond: a later retry may succeed.
    Unavailable,
    /// It became read-only: no output can be made durable.
    ReadOnly,
}

/// Checks whether this is an error of the entire file system: it gives no information on the path, and
/// may end when the mount is repaired.
#[must_use]
pub fn is_unavailable(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(
            Errno::IO
                | Errno::BADMSG
                | Errno::UCLEAN
                | Errno::STALE
                | Errno::NOTCONN
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::TIMEDOUT
                | Errno::NODEV
                | Errno::NXIO
                | Errno::SHUTDOWN
        )
    )
}

/// Classifies an error of a write, a publication or an open by the state of the storage.
#[must_use]
pub fn storage_health(error: &io::Error) -> StorageHealth {
    use rustix::io::Errno;
    let Some(errno) = error.raw_os_error().map(Errno::from_raw_os_error) else {
        return match error.kind() {
            // A file system without this operation lacks it for every file.
            io::ErrorKind::StorageFull | io::ErrorKind::Unsupported => StorageHealth::Unavailable,
            _ => StorageHealth::Available,
        };
    };
    match errno {
        Errno::ROFS => StorageHealth::ReadOnly,
        Errno::NOSPC
        | Errno::DQUOT
        | Errno::MFILE
        | Errno::NFILE
        | Errno::NOMEM
        | Errno::IO
        // The file system is damaged.
        | Errno::BADMSG
        | Errno::UCLEAN
        | Errno::STALE
        | Errno::NOTCONN
        | Errno::HOSTDOWN
        | Errno::TIMEDOUT
        | Errno::NODEV
        | Errno::NXIO
        | Errno::ACCESS
        | Errno::PERM
        | Errno::NOENT
        | Errno::NOTDIR
        | Errno::NOSYS
        | Errno::OPNOTSUPP => StorageHealth::Unavailable,
        _ => StorageHealth::Available,
    }
}
