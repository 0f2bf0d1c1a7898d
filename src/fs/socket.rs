//! A Unix socket that only the process's own user may connect to.

use std::{
    io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use super::Dir;

/// The size of `sun_path` (`unix(7)`), with the zero at its end.
const PATH_BYTES_MAX: usize = 108;

/// The socket's path. [`Self::remove`] removes it; dropping it leaves it.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

/// The error of a socket that cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("the path has {0} bytes, the limit is 107")]
    TooLong(usize),
    #[error("another program listens on it")]
    Taken,
    #[error("the path is a file that is no socket")]
    NoSocket,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Socket {
    /// Creates the socket and listens. A socket without a listener is replaced.
    pub fn bind(path: &Path) -> Result<(Self, UnixListener), SocketError> {
        let bytes = path.as_os_str().len();
        if bytes >= PATH_BYTES_MAX {
            return Err(SocketError::TooLong(bytes));
        }
        match path.symlink_metadata() {
            Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NoSocket),
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketError::Taken),
            Ok(_) => unlink(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let listener = UnixListener::bind(path)?;
        // Until here another user may connect: the accepting side checks the user.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let metadata = path.symlink_metadata()?;
        let id = (metadata.dev(), metadata.ino());
        Ok((Self { path: path.to_path_buf(), id }, listener))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the path, if it is still this socket's.
    pub fn remove(self) -> io::Result<()> {
        match self.path.symlink_metadata() {
            Ok(found) if (found.dev(), found.ino()) == self.id => unlink(&self.path),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn unlink(path: &Path) -> io::Result<()> {
    let (parent, name) = super::split(path);
    Dir::open(parent)?.unlink(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_private_replaces_a_stale_one_and_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        // The listener is gone, and its name stays: as after a kill.
        drop(UnixListener::bind(&path).expect("a socket"));
        let (socket, listener) = Socket::bind(&path).expect("replaced");
        assert_eq!(path.metadata().expect("exists").permissions().mode() & 0o777, 0o600);
        assert!(matches!(Socket::bind(&path), Err(SocketError::Taken)));
        socket.remove().expect("removed");
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_no_socket_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        std::fs::write(&path, "mine").expect("a file");
        assert!(matches!(Socket::bind(&path), Err(SocketError::NoSocket)));
        assert_eq!(std::fs::read_to_string(&path).expect("exists"), "mine");
    }

    #[test]
    fn a_socket_whose_name_was_taken_by_another_is_not_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("s");
        let (socket, _listener) = Socket::bind(&path).expect("bound");
        unlink(&path).expect("removed");
        let _other = UnixListener::bind(&path).expect("another");
        socket.remove().expect("no error");
        assert!(path.exists());
    }

    #[test]
    fn the_error_of_a_path_that_is_too_long_has_its_length() {
        let path = Path::new("/tmp").join("x".repeat(200));
        let error = Socket::bind(&path).expect_err("too long");
        assert!(error.to_string().contains("205 bytes"), "{error}");
    }
}
