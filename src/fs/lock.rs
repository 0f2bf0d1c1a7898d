//! The lock that gives a state directory to one process at a time.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

/// The lock on a state directory. Dropping it, or the end of the process, releases it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "another Tidemill (process {holder}) uses the state directory {}; hint: stop it, or use another `--state-dir`",
        path.display()
    )]
    Held { path: PathBuf, holder: String },
    #[error("cannot lock {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Lock {
    /// Takes the lock of this directory, or returns its holder. Never waits.
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join("lock");
        let failed = |source| LockError::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644);
        let mut file = options.open(&path).map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(failed)?;
                let holder = holder.trim().to_owned();
                return Err(LockError::Held { path: dir.to_path_buf(), holder });
            }
            Err(error) => return Err(failed(error.into())),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_lock_names_its_holder() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let first = Lock::take(dir.path()).expect("free");
        let refused = Lock::take(dir.path()).expect_err("held");
        let holder = format!("(process {})", std::process::id());
        assert!(refused.to_string().contains(&holder), "{refused}");
        drop(first);
        assert!(Lock::take(dir.path()).is_ok());
    }
}
