//! Operations on a file's content that stay in the kernel.

use std::{fs::File, io};

use rustix::{
    fs::{Advice, copy_file_range, fadvise, ioctl_ficlone},
    io::Errno,
};

use super::sys;

/// Advises the kernel that a file will be read once, from its beginning: it reads further ahead.
pub fn advise_sequential(file: &File) -> io::Result<()> {
    Ok(fadvise(file, 0, None, Advice::Sequential)?)
}

/// Gives `to` the entire content of `from` by sharing its blocks (`ioctl_ficlone(2)`); returns
/// false if the file system cannot, or the files are on two.
pub fn share_content(from: &File, to: &File) -> io::Result<bool> {
    match ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        // `INVAL` and `PERM` come from file systems without this call and from its limits: shared
        // ranges must be whole blocks, and neither file may be a swap file.
        Err(
            Errno::OPNOTSUPP
            | Errno::XDEV
            | Errno::NOSYS
            | Errno::NOTTY
            | Errno::INVAL
            | Errno::PERM,
        ) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Copies at most `max_bytes` bytes from an offset of `from` to the same offset of `to`, in the
/// kernel; returns 0 at the end, and `None` if the kernel cannot.
pub fn copy_range(
    from: &File,
    to: &File,
    offset: u64,
    max_bytes: usize,
) -> io::Result<Option<u64>> {
    let (mut read_at, mut write_at) = (offset, offset);
    loop {
        return match copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), max_bytes) {
            Ok(count) => Ok(Some(count as u64)),
            Err(Errno::INTR) => continue,
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        };
    }
}

/// Starts writeback of a file's content without waiting. Makes nothing durable. An error belongs to
/// the file: the `fsync` that follows need not report it. A file system without this call has no
/// error to hide.
pub fn start_writeback(file: &File) -> io::Result<()> {
    let unsupported = [Errno::NOSYS, Errno::OPNOTSUPP, Errno::INVAL, Errno::SPIPE];
    match sys::start_writeback(file) {
        Err(error)
            if unsupported
                .iter()
                .any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Checks whether a part of a file of `size` bytes was never written, as far as the file system
/// reports.
pub fn has_hole(file: &File, size: u64) -> io::Result<bool> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(0)) {
        Ok(first) => Ok(first < size),
        Err(Errno::NXIO) => Ok(false),
        // Unknown counts as a hole, so that the content is checked.
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
