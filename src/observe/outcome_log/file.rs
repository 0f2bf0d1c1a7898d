//! The file: locked by one service at a time, appended to, and searched near its end.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, OFlags},
    io::Errno,
};

use super::proof::{Line, Proof};
use crate::{failpoint, outcome::OutcomeKind, page_cache};

/// Range at the end of the file that is searched for lines without a state in the ledger after a crash.
const TAIL_BYTES: u64 = 64 * 1024 * 1024;
/// Range at the end of the file that is searched for the largest record number, and that is rewritten:
/// tens of thousands of lines. Records in flight together have neighbouring numbers.
const RECENT_BYTES: u64 = 8 * 1024 * 1024;
/// Longer than any line of this program.
const BLOCK_BYTES: u64 = 1024 * 1024;
/// Start of every line of this program: the first field of [`Outcome`](crate::outcome::Outcome).
const LINE_START: &[u8] = b"{\"time\":\"";

/// The open file, locked. Dropping it closes and unlocks it.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    /// Length of the file in bytes before the last append.
    length_before: u64,
    /// Bytes that the last append wrote.
    appended: u64,
    /// Whether readable lines may be missing on the disk, because a sync of this or the previous run may
    /// have failed.
    may_have_failed_sync: bool,
}

impl Log {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        repair_tail(&file)?;
        let path = path.to_path_buf();
        Ok(Self { path, file, length_before: 0, appended: 0, may_have_failed_sync: true })
    }

    /// Makes the appended lines durable.
    pub fn sync(&self) -> io::Result<()> {
        failpoint::hit("events::sync")?;
        self.file.sync_data()
    }

    /// Appends these lines. [`is_repeatable`] decides by the error whether something may be left of them.
    pub fn append(&mut self, lines: &[String]) -> io::Result<()> {
        self.follow_rotation()?;
        let mut text = lines.join("\n");
        if !lines.is_empty() {
            text.push('\n');
        }
        let length = self.file.metadata().map_err(not_written)?.len();
        (self.length_before, self.appended) = (length, 0);
        let written = failpoint::hit("events::append").and_then(|()| self.write(text.as_bytes()));
        written.map_err(|error| {
            let error = if self.appended == 0 { error } else { self.undo_append(error) };
            if is_refused(&error) { not_written(error) } else { error }
        })
    }

    /// Writes all of `text`, and counts what it wrote.
    fn write(&mut self, mut text: &[u8]) -> io::Result<()> {
        while !text.is_empty() {
            match self.file.write(text) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.appended += written as u64;
                    text = text.get(written..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Undoes the last append, after this error of it. If this fails too, the next start repairs the torn line.
    /// Where another program appended as well, which no lock prevents, its lines and the own ones stay: then
    /// the returned error is not repeatable.
    pub fn undo_append(&mut self, error: io::Error) -> io::Error {
        let is_undone = self.try_undo_append().unwrap_or(false);
        if is_undone { error } else { io::Error::other(LinesLeft(error)) }
    }

    /// Returns whether nothing of it is left.
    fn try_undo_append(&mut self) -> io::Result<bool> {
        let length = self.file.metadata()?.len();
        if length == self.length_before + self.appended {
            return self.file.set_len(self.length_before).map(|()| true);
        }
        let mut last = [0];
        self.file.read_exact_at(&mut last, length.saturating_sub(1))?;
        if last != *b"\n" {
            self.file.write_all(b"\n")?;
        }
        Ok(false)
    }

    /// Reopens the path if a log rotation renamed the file.
    fn follow_rotation(&mut self) -> io::Result<()> {
        let open = self.file.metadata().map_err(not_written)?;
        let is_same =
            |named: &std::fs::Metadata| (named.dev(), named.ino()) == (open.dev(), open.ino());
        match std::fs::metadata(&self.path) {
            Ok(named) if is_same(&named) => Ok(()),
            Ok(_) => self.reopen(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.reopen(),
            Err(error) => Err(not_written(error)),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = open(&self.path)?;
        repair_tail(&file).map_err(not_written)?;
        self.file = file;
        Ok(())
    }

    pub fn recorded(&mut self, records: &HashSet<Proof>) -> io::Result<HashSet<i64>> {
        // The process may have ended between a line and its sync.
        if self.may_have_failed_sync {
            failpoint::barrier("barrier::rewritten_lines", || self.rewrite())?;
        }
        self.may_have_failed_sync = true;
        self.sync()?;
        self.may_have_failed_sync = false;
        let mut recorded = HashSet::new();
        let by_number = failpoint::is_skipped("barrier::line_proof");
        let is_of_one = |line: &Proof| {
            records.contains(line) || by_number && records.iter().any(|record| record.id == line.id)
        };
        self.search(TAIL_BYTES, |line| {
            if line.outcome == Some(OutcomeKind::Published) && is_of_one(&line.proof) {
                recorded.insert(line.proof.id);
            }
        })?;
        Ok(recorded)
    }

    /// Rewrites the last bytes unchanged. They include the last append, and everything before it is
    /// durable. After a failed sync the bytes are in memory only, and the next sync, even of another
    /// process, finds nothing to write.
    fn rewrite(&self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let flags = rustix::fs::fcntl_getfl(&self.file)?;
        match rustix::fs::fcntl_setfl(&self.file, flags - OFlags::APPEND) {
            // An append-only file (`chattr +a`) cannot be rewritten.
            Err(Errno::PERM) => return Ok(()),
            cleared => cleared?,
        }
        let rewritten = page_cache::rewrite(&self.file, length.saturating_sub(RECENT_BYTES));
        rustix::fs::fcntl_setfl(&self.file, flags)?;
        rewritten
    }

    pub fn largest_id(&self, ledger: &str) -> io::Result<i64> {
        let mut largest = 0;
        self.search(RECENT_BYTES, |line| {
            if line.proof.ledger == ledger {
                largest = largest.max(line.proof.id);
            }
        })?;
        Ok(largest)
    }

    /// Passes every line of this program in the last `range` bytes of the file to `found`.
    fn search(&self, range: u64, mut found: impl FnMut(Line)) -> io::Result<()> {
        let mut file = &self.file;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(range)))?;
        let mut lines = BufReader::new(file.take(range));
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            if let Ok(line) = serde_json::from_slice(&line) {
                found(line);
            }
            line.clear();
        }
        Ok(())
    }
}

fn repair_tail(mut file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let from = length.saturating_sub(BLOCK_BYTES);
    let mut block = vec![0; usize::try_from(length - from).unwrap_or(0)];
    file.read_exact_at(&mut block, from)?;
    let newline = block.iter().rposition(|byte| *byte == b'\n');
    let start = newline.map_or(0, |newline| newline + 1);
    let line = block.get(start..).unwrap_or_default();
    // A line longer than a block is not of this program.
    let is_complete = newline.is_some() || from == 0;
    if line.is_empty() {
        Ok(())
    } else if is_complete && line.iter().zip(LINE_START).all(|(byte, expected)| byte == expected) {
        failpoint::barrier("barrier::torn_line", || file.set_len(from + start as u64))
    } else {
        file.write_all(b"\n")
    }
}

fn open(path: &Path) -> io::Result<File> {
    let (file, parent) = open_or_create(path).map_err(not_written)?;
    if let Some(parent) = parent {
        // Where this fails, the next try would find the file and take its name as durable.
        failpoint::barrier("barrier::events_directory", || parent.sync_all())?;
    }
    Ok(file)
}

/// Opens and locks the file, and returns its directory if the file may be new.
fn open_or_create(path: &Path) -> io::Result<(File, Option<File>)> {
    let mut options = OpenOptions::new();
    let file = options.read(true).append(true).create(true).mode(0o644).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    lock(&file)?;
    // An empty one may be new, by an earlier try that failed after it.
    if file.metadata()?.len() > 0 {
        return Ok((file, None));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((file, Some(File::open(parent.unwrap_or(Path::new(".")))?)))
}

/// Locks the file, because undoing a failed append would remove the lines of another service. On file
/// systems without locks this does nothing.
fn lock(file: &File) -> io::Result<()> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another process has locked it; hint: set a separate `events` file for each service",
        )),
        Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK | Errno::INVAL) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// An error that came before anything was written.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct NotWritten(io::Error);

/// An error after which some lines may be in the file.
#[derive(Debug, thiserror::Error)]
#[error("some lines are in the file and cannot be removed")]
struct LinesLeft(#[source] io::Error);

fn not_written(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), NotWritten(error))
}

/// Returns whether a write was refused by the file system, so that nothing of it is anywhere.
fn is_refused(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

/// Returns whether an append left nothing in the file and can be repeated: there is no space, the file
/// system is read-only, or the file cannot be opened after a rotation.
#[must_use]
pub fn is_repeatable(error: &io::Error) -> bool {
    is_full(error) || error.get_ref().is_some_and(|it| it.downcast_ref::<NotWritten>().is_some())
}

/// Returns whether there is no space.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
