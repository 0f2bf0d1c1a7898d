//! An open file of a local source.

use std::{fs::File, io, path::Path};

use super::super::{Opened, SourceFile};
use crate::fs::{self, Dir, ExtendedAttributes, FileMetadata, Writers};

pub(super) fn open(dir: &Dir, path: &Path) -> io::Result<Opened> {
    match dir.open_file(path) {
        Ok(file) => Ok(Opened::File(Box::new(file))),
        Err(error) if is_not_a_file(&error) => Ok(Opened::Gone),
        // Another process holds a write lease on it.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Opened::Busy),
        Err(error) => Err(error),
    }
}

/// Checks whether the file vanished, or another type of file replaced it.
fn is_not_a_file(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        errno,
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NXIO | Errno::NODEV)
    )
}

impl SourceFile for File {
    fn metadata(&self) -> io::Result<FileMetadata> {
        fs::metadata_of(self)
    }

    fn extended_attributes(&self) -> io::Result<ExtendedAttributes> {
        ExtendedAttributes::read(self)
    }

    fn writers(&self) -> io::Result<Writers> {
        fs::check_writers(self)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        fs::fill(self, buffer, offset)
    }

    fn advise_sequential(&self) {
        // This is only advice: a file system may ignore it.
        fs::advise_sequential(self).ok();
    }

    fn as_file(&self) -> Option<&File> {
        Some(self)
    }
}
