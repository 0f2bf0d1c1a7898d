//! How the process ends, and which errors of the operating system blame the place, not the file.

use std::io;

/// The exit codes, after `sysexits.h`; part of the command line's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything taken in was finished.
    Drained = 0,
    /// The command line cannot be understood (`EX_USAGE`).
    Usage = 64,
    /// `--once` only: it is finished, and files are in quarantine, from this run or before
    /// (`EX_DATAERR`).
    Quarantined = 65,
    /// A command needs a service that runs, and none does (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// A fault of the program itself (`EX_SOFTWARE`).
    Internal = 70,
    /// Storage failed: nothing more could be made durable (`EX_IOERR`).
    Storage = 74,
    /// Work was left, or another process has the state directory; the next start goes on
    /// (`EX_TEMPFAIL`).
    WorkLeft = 75,
    /// The configuration cannot be used (`EX_CONFIG`).
    Config = 78,
}

impl Exit {
    #[must_use]
    pub const fn code(self) -> i32 {
        self as i32
    }

    /// The one of this code.
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

/// What an error of the operating system, met on the output side, says about the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageHealth {
    /// It says nothing about the place: the file is to blame.
    Available,
    /// Full, out of descriptors, or not answering: worth another try by itself, later.
    Unavailable,
    /// It was made read-only: nothing can be made durable any more.
    ReadOnly,
}

/// Whether this is an error of the file system as a whole: it says nothing of the path that was asked for,
/// and may be gone when the mount is mended.
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

/// Sorts an error met while writing, publishing or opening by what it says about the place.
#[must_use]
pub fn storage_health(error: &io::Error) -> StorageHealth {
    use rustix::io::Errno;
    let Some(errno) = error.raw_os_error().map(Errno::from_raw_os_error) else {
        return match error.kind() {
            // What the file system cannot do for this file it can do for none.
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
