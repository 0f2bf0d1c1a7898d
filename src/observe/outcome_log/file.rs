//! The file itself: opened by one service at a time, appended to, searched from its end.

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
use crate::{failpoint, observe::OutcomeKind};

/// How far back the file is searched for lines that a crash may have left unmarked in the ledger.
const TAIL_BYTES: u64 = 64 * 1024 * 1024;
/// How far back for the largest number of a record, and for what one append wrote: records that were in
/// flight together have neighbouring numbers, and these are tens of thousands of lines.
const NUMBERS_BYTES: u64 = 8 * 1024 * 1024;
/// Longer than any line of ours.
const BLOCK_BYTES: u64 = 1024 * 1024;
/// How every line of ours begins: the first field of [`OutcomeLine`](super::Event).
const BEGIN: &[u8] = b"{\"time\":\"";

/// The open file, locked. Dropping it closes and unlocks it.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    /// The file's length in bytes before the last append.
    before: u64,
    /// What the file has may not be on the disk, though it can be read: a sync of the last run, or of
    /// this one, may have failed.
    unsure: bool,
}

impl Log {
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut log = Self { path: path.to_path_buf(), file: open(path)?, before: 0, unsure: true };
        log.repair_tail()?;
        Ok(log)
    }

    /// Makes what was appended durable.
    pub fn sync(&self) -> io::Result<()> {
        failpoint::hit("events::sync")?;
        self.file.sync_data()
    }

    fn repair_tail(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let from = length.saturating_sub(BLOCK_BYTES);
        let mut block = vec![0; usize::try_from(length - from).unwrap_or(0)];
        self.file.read_exact_at(&mut block, from)?;
        let newline = block.iter().rposition(|byte| *byte == b'\n');
        let start = newline.map_or(0, |newline| newline + 1);
        let line = block.get(start..).unwrap_or_default();
        // One that is longer than a block is none of ours.
        let is_whole = newline.is_some() || from == 0;
        if line.is_empty() {
            Ok(())
        } else if is_whole && line.iter().zip(BEGIN).all(|(byte, ours)| byte == ours) {
            self.file.set_len(from + start as u64)
        } else {
            self.file.write_all(b"\n")
        }
    }

    pub fn append(&mut self, lines: &[String]) -> io::Result<()> {
        self.follow_rotation()?;
        let mut text = lines.join("\n");
        if !lines.is_empty() {
            text.push('\n');
        }
        self.before = self.file.metadata()?.len();
        failpoint::hit("events::append")
            .and_then(|()| self.file.write_all(text.as_bytes()))
            .inspect_err(|_| self.take_back())
    }

    /// Takes the last append back. Where this fails too, the next start mends the torn line.
    pub fn take_back(&self) {
        drop(self.file.set_len(self.before));
    }

    /// A log rotation renamed the file: the path is opened anew.
    fn follow_rotation(&mut self) -> io::Result<()> {
        let ours = self.file.metadata()?;
        let same =
            |named: &std::fs::Metadata| (named.dev(), named.ino()) == (ours.dev(), ours.ino());
        match std::fs::metadata(&self.path) {
            Ok(named) if same(&named) => Ok(()),
            Ok(_) => self.reopen(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.reopen(),
            Err(error) => Err(error),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        self.repair_tail()
    }

    pub fn recorded(&mut self, records: &HashSet<Proof>) -> io::Result<HashSet<i64>> {
        // The process may have ended between a line and its sync.
        if self.unsure {
            self.rewrite()?;
        }
        self.unsure = true;
        self.sync()?;
        self.unsure = false;
        let mut recorded = HashSet::new();
        self.search(TAIL_BYTES, |line| {
            if line.outcome == OutcomeKind::Published.as_str() && records.contains(&line.proof) {
                recorded.insert(line.proof.id);
            }
        })?;
        Ok(recorded)
    }

    /// Writes the last bytes again as they are: those of the last append are among them, and all before
    /// it was durable. A sync that failed leaves them in memory only, and the next one, be it another
    /// process's, finds nothing to write there.
    fn rewrite(&self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let flags = rustix::fs::fcntl_getfl(&self.file)?;
        match rustix::fs::fcntl_setfl(&self.file, flags - OFlags::APPEND) {
            // Append-only (`chattr +a`): what is there cannot be written again.
            Err(Errno::PERM) => return Ok(()),
            cleared => cleared?,
        }
        let mut block = Vec::new();
        let mut at = length.saturating_sub(NUMBERS_BYTES);
        let mut rewritten = Ok(());
        while at < length && rewritten.is_ok() {
            block.resize(usize::try_from(BLOCK_BYTES.min(length - at)).unwrap_or(0), 0);
            rewritten = self
                .file
                .read_exact_at(&mut block, at)
                .and_then(|()| self.file.write_all_at(&block, at));
            at += block.len() as u64;
        }
        rustix::fs::fcntl_setfl(&self.file, flags)?;
        rewritten
    }

    pub fn largest_id(&self, ledger: &str) -> io::Result<i64> {
        let mut largest = 0;
        self.search(NUMBERS_BYTES, |line| {
            if line.proof.ledger == ledger {
                largest = largest.max(line.proof.id);
            }
        })?;
        Ok(largest)
    }

    /// Reads every line of ours in the last bytes of the file.
    fn search(&self, last: u64, mut found: impl FnMut(Line)) -> io::Result<()> {
        let mut file = &self.file;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(last)))?;
        let mut lines = BufReader::new(file.take(last));
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

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let is_new = !path.exists();
    let file = options.read(true).append(true).create(true).mode(0o644).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    lock(&file)?;
    if is_new && let Some(parent) = path.parent() {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    Ok(file)
}

/// A failed append of one service cuts the file back to where it was: the lines of another would go.
/// File systems without locks are taken as they are.
fn lock(file: &File) -> io::Result<()> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another process holds it; hint: give each service an events file of its own (`events = …`)",
        )),
        Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK | Errno::INVAL) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether an append failed because there is no space: nothing of it is left in the file, and it can
/// be repeated.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
