//! What the kernel does with a file's content without bringing it up here.

use std::{fs::File, io};

use rustix::{
    fs::{Advice, copy_file_range, fadvise, ioctl_ficlone},
    io::Errno,
};

use super::sys;

/// Tells the kernel that a file will be read once, from its beginning: it reads further ahead.
pub fn advise_sequential(file: &File) -> io::Result<()> {
    Ok(fadvise(file, 0, None, Advice::Sequential)?)
}

/// Gives `to` the whole content of `from` by sharing its blocks (`ioctl_ficlone(2)`); false where
/// the file system cannot, or the two are not of one.
pub fn share_content(from: &File, to: &File) -> io::Result<bool> {
    match ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        // The last two come from file systems that know no such call, and from its limits on
        // files: what is shared must be of whole blocks, and neither of the two a swap file.
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

/// Copies at most so many bytes from an offset of `from` to the same one of `to`, in the kernel;
/// 0 at the end, and `None` where it cannot.
pub fn copy_range(from: &File, to: &File, offset: u64, most: usize) -> io::Result<Option<u64>> {
    let (mut read_at, mut write_at) = (offset, offset);
    loop {
        return match copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), most) {
            Ok(count) => Ok(Some(count as u64)),
            Err(Errno::INTR) => continue,
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        };
    }
}

/// Begins to write a file's content to the disk and does not wait. Makes nothing durable. An error is
/// the file's: the `fsync` that follows need not report it. A file system without such a call has no
/// error to hide.
pub fn start_writeback(file: &File) -> io::Result<()> {
    let unknown = [Errno::NOSYS, Errno::OPNOTSUPP, Errno::INVAL, Errno::SPIPE];
    match sys::start_writeback(file) {
        Err(error)
            if unknown.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Whether a part of a file of this many bytes was never written, as far as the file system can tell.
pub fn has_hole(file: &File, size: u64) -> io::Result<bool> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(0)) {
        Ok(first) => Ok(first < size),
        Err(Errno::NXIO) => Ok(false),
        // Not known: as if it had one, so that the content is looked at.
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
