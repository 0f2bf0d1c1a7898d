//! The system calls that rustix has not: the only unsafe code of the program.

#![expect(
    unsafe_code,
    reason = "rustix has none of these; each is a call on a descriptor that is ours"
)]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
    sync::Once,
};

/// What `F_SETLEASE` is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    Read,
    None,
}

/// `fcntl(fd, F_SETLEASE, …)`.
pub fn set_lease(file: &File, lease: Lease) -> io::Result<()> {
    let kind = match lease {
        Lease::Read => libc::F_RDLCK,
        Lease::None => libc::F_UNLCK,
    };
    // SAFETY: the descriptor is open for as long as `file` is borrowed; the argument is an int.
    succeeded(unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_SETLEASE, kind) })
}

/// Ignores SIGIO from the first call on: a broken lease sends it, and it would end the process.
pub fn ignore_broken_leases() {
    static IGNORE: Once = Once::new();
    // SAFETY: installs SIG_IGN for a signal that nothing else in this program uses.
    IGNORE.call_once(|| unsafe {
        libc::signal(libc::SIGIO, libc::SIG_IGN);
    });
}

/// Begins to write a file's content to the disk and does not wait (`sync_file_range(2)`,
/// `SYNC_FILE_RANGE_WRITE`). Makes nothing durable; an error it reports may be reported by no later
/// `fsync`.
pub fn start_writeback(file: &File) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WRITE;
    // SAFETY: the descriptor is open for as long as `file` is borrowed; the rest are numbers.
    succeeded(unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, flags) })
}

/// Gives large buffers back to the system as soon as they are freed (`mallopt(3)`).
///
/// glibc raises its limit for that with each large buffer it sees freed. Those of chunks and codecs
/// are freed by another thread than made them; kept in the arenas of many threads they leave holes,
/// and memory grows for hours. To be called before there are threads; does nothing elsewhere.
pub fn set_mmap_threshold() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE: libc::c_int = 128 * 1024;
        // SAFETY: takes two numbers. Where it is refused, memory is what it was.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        }
    }
}

fn succeeded(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
