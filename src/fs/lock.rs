//! The lock that gives a state directory to one process at a time.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;

use super::LOCK_NAME;
use crate::display_path::escaped;

/// Limit for reading the lock's file.
const HOLDER_BYTES_MAX: u64 = 64 * 1024;

/// The lock on a state directory. Dropping it, or the end of the process, releases it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// The process that has a lock, as far as it wrote that into the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LockHolder {
    pub pid: Option<u32>,
    /// When it took the lock: RFC 3339, UTC.
    pub since: Option<String>,
    /// Its command line, escaped for people.
    pub command: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "cannot lock the state directory {dir}: {holder} uses it; hint: `tidemill drain --wait --state-dir {dir}` stops it, or use another `--state-dir`",
        dir = path.display()
    )]
    Held { path: PathBuf, holder: LockHolder },
    #[error("cannot lock {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl LockHolder {
    /// Reads the lines that [`Self::lines`] wrote. The file may be empty: its holder writes it after it
    /// has the lock.
    fn parse(text: &str) -> Self {
        let mut lines = text.lines().filter(|line| !line.is_empty());
        Self {
            pid: lines.next().and_then(|line| line.parse().ok()),
            since: lines.next().map(escaped),
            command: lines.next().map(escaped),
        }
    }

    fn lines(command: &str) -> String {
        format!("{}\n{:.0}\n{command}\n", std::process::id(), jiff::Timestamp::now())
    }
}

/// "process 4711 (`tidemill run --config …`, since …)".
impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid: Some(pid), since, command } = self else {
            return f.write_str("another process");
        };
        let command = command.as_ref().map(|command| format!("`{command}`"));
        let since = since.as_ref().map(|since| format!("since {since}"));
        let facts: Vec<_> = [command, since].into_iter().flatten().collect();
        match facts.as_slice() {
            [] => write!(f, "process {pid}"),
            facts => write!(f, "process {pid} ({})", facts.join(", ")),
        }
    }
}

impl Lock {
    /// Takes the lock of this directory for this process with its command line, which is one line; or
    /// returns its holder. Never waits.
    pub fn take(dir: &Path, command: &str) -> Result<Self, LockError> {
        let path = dir.join(LOCK_NAME);
        let failed = |source| LockError::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644);
        let mut file = options.open(&path).map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = Vec::new();
                file.take(HOLDER_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
                let holder = LockHolder::parse(&String::from_utf8_lossy(&text));
                return Err(LockError::Held { path: dir.to_path_buf(), holder });
            }
            Err(error) => return Err(failed(error.into())),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        file.write_all(LockHolder::lines(command).as_bytes()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_lock_names_its_holder_with_its_command() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let first = Lock::take(dir.path(), "tidemill run in out").expect("free");
        let refused = Lock::take(dir.path(), "tidemill run").expect_err("locked").to_string();
        let holder = format!(": process {} (`tidemill run in out`, since 20", std::process::id());
        assert!(refused.contains(&holder), "{refused}");
        drop(first);
        assert!(Lock::take(dir.path(), "tidemill run").is_ok());
    }

    #[test]
    fn a_holder_is_named_as_far_as_it_is_known() {
        for (text, wanted) in [
            ("", "another process"),
            ("7\n", "process 7"),
            ("7\n2026-01-31T08:00:00Z\n", "process 7 (since 2026-01-31T08:00:00Z)"),
            // The file may be another user's.
            ("7\n\u{1b}[2J\na\u{202e}b\n", "process 7 (`a\\u{202e}b`, since \\u{1b}[2J)"),
        ] {
            assert_eq!(LockHolder::parse(text).to_string(), wanted);
        }
    }
}
