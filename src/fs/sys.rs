//! The system calls that rustix lacks.

#![expect(
    unsafe_code,
    reason = "rustix has none of these calls; each uses a descriptor of this process"
)]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
    sync::Once,
};

/// The argument of `F_SETLEASE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    Read,
    None,
}

/// Calls `fcntl(fd, F_SETLEASE, …)`.
pub fn set_lease(file: &File, lease: Lease) -> io::Result<()> {
    let kind = match lease {
        Lease::Read => libc::F_RDLCK,
        Lease::None => libc::F_UNLCK,
    };
    // SAFETY: the descriptor is open for as long as `file` is borrowed; the argument is an int.
    check_result(unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_SETLEASE, kind) })
}

/// Ignores SIGIO from the first call on: a broken lease sends it, and it would end the process.
pub fn ignore_broken_leases() {
    static IGNORE: Once = Once::new();
    // SAFETY: installs SIG_IGN for a signal that nothing else in this program uses.
    IGNORE.call_once(|| unsafe {
        libc::signal(libc::SIGIO, libc::SIG_IGN);
    });
}

/// Starts writeback of a file's content without waiting (`sync_file_range(2)`,
/// `SYNC_FILE_RANGE_WRITE`). Makes nothing durable; no later `fsync` need report an error that it
/// returns.
pub fn start_writeback(file: &File) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WRITE;
    // SAFETY: the descriptor is open for as long as `file` is borrowed; the rest are numbers.
    check_result(unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, flags) })
}

/// Makes glibc return large buffers to the system as soon as they are freed (`mallopt(3)`).
///
/// glibc raises that threshold with each large buffer it frees. Buffers of chunks and codecs are
/// allocated by one thread and freed by another; kept in the arenas of many threads they leave
/// holes, and memory grows for hours. Must be called before other threads start; does nothing with
/// other C libraries.
pub fn set_mmap_threshold() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE: libc::c_int = 128 * 1024;
        // SAFETY: takes two numbers. A refusal changes nothing.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        }
    }
}

fn check_result(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
