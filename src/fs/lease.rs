//! The kernel's answer to whether a process is writing a file.

use std::{fs::File, io};

use rustix::io::Errno;

use super::sys::{Lease, ignore_broken_leases, set_lease};

/// Whether a process has a file open for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    None,
    Some,
    /// The file is another user's, and this process has no `CAP_LEASE`: the kernel gives no answer.
    Denied,
    /// The file system gives no answer.
    Unknown,
}

/// Checks for writers with a read lease, which the kernel refuses while a process has the file open
/// for writing (`fcntl(2)`, `F_SETLEASE`). The lease is released at once.
///
/// A process that opens the file for writing in the microseconds between waits for the release, and
/// the kernel sends SIGIO, which would end this process: it is ignored from the first check on.
pub fn check_writers(file: &File) -> io::Result<Writers> {
    ignore_broken_leases();
    match set_lease(file, Lease::Read) {
        Ok(()) => set_lease(file, Lease::None).map(|()| Writers::None),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::AGAIN) => Ok(Writers::Some),
            Some(Errno::ACCESS | Errno::PERM) => Ok(Writers::Denied),
            Some(Errno::INVAL | Errno::NOLCK | Errno::OPNOTSUPP) => Ok(Writers::Unknown),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_open_for_writing_has_writers() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let writer = tempfile::NamedTempFile::new_in(dir.path()).expect("create");
        let reader = File::open(writer.path()).expect("open");
        assert_eq!(check_writers(&reader).expect("check"), Writers::Some);
        let path = writer.into_temp_path();
        assert_eq!(check_writers(&reader).expect("check"), Writers::None);
        drop(path);
    }
}
