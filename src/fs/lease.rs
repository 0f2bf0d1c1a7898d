//! The kernel's answer to "is anyone writing this file?".

#![expect(unsafe_code, reason = "rustix has no F_SETLEASE; two calls on a descriptor that is ours")]

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
    sync::Once,
};

/// Who has a file open for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    None,
    Some,
    /// The file system or the file's ownership gives no answer.
    Unknown,
}

/// Asks with a read lease, which the kernel refuses while anyone has the file open for writing
/// (`fcntl(2)`, `F_SETLEASE`). The lease is given back at once.
///
/// Who opens the file for writing in the few microseconds between waits for that, and the kernel
/// sends us SIGIO, which would end the process: it is ignored from the first question on.
pub fn ask_for_writers(file: &File) -> io::Result<Writers> {
    static IGNORE: Once = Once::new();
    // SAFETY: installs SIG_IGN for a signal that nothing else in this program uses.
    IGNORE.call_once(|| unsafe {
        libc::signal(libc::SIGIO, libc::SIG_IGN);
    });
    match set(file, libc::F_RDLCK) {
        Ok(()) => set(file, libc::F_UNLCK).map(|()| Writers::None),
        Err(error) => match error.raw_os_error() {
            Some(libc::EAGAIN) => Ok(Writers::Some),
            Some(libc::EACCES | libc::EPERM | libc::EINVAL | libc::ENOLCK | libc::EOPNOTSUPP) => {
                Ok(Writers::Unknown)
            }
            _ => Err(error),
        },
    }
}

fn set(file: &File, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed; the argument is an int.
    let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_SETLEASE, kind) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_open_for_writing_has_writers() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let writer = tempfile::NamedTempFile::new_in(dir.path()).expect("create");
        let reader = File::open(writer.path()).expect("open");
        assert_eq!(ask_for_writers(&reader).expect("ask"), Writers::Some);
        let path = writer.into_temp_path();
        assert_eq!(ask_for_writers(&reader).expect("ask"), Writers::None);
        drop(path);
    }
}
