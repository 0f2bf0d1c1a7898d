//! The events file: one JSON line for each outcome. The line is the acknowledgement.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// How far back the file is searched for lines that a crash may have left unmarked in the ledger.
const TAIL_BYTES: u64 = 64 * 1024 * 1024;
/// Longer than any line of ours.
const BLOCK_BYTES: u64 = 1024 * 1024;
/// How every line of ours begins: the first field of [`Event`].
const BEGIN: &[u8] = b"{\"time\":\"";

/// One outcome.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// RFC 3339, UTC.
    pub time: String,
    /// The ledger's number of the record.
    pub id: i64,
    pub pipeline: String,
    pub outcome: &'static str,
    /// Below the input; `source_hex` has the exact bytes of one that is not UTF-8.
    pub source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_hex: Option<String>,
    pub source_bytes: u64,
    /// Below the output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// BLAKE3, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_hash: Option<String>,
    /// From its settling to this line; unknown after a recovery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The open file. Dropping it closes it; every appended line is whole.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Opens the file to append, and makes it where there is none. A last line that a crash tore
    /// is cut off where it is one of ours, and ended where it is not.
    pub fn open(path: &Path) -> io::Result<Self> {
        let named = |error: io::Error| {
            let path = super::shown(path);
            io::Error::new(error.kind(), format!("cannot open the events file {path}: {error}"))
        };
        let mut events = Self { path: path.to_path_buf(), file: open(path).map_err(named)? };
        events.mend().map_err(named)?;
        Ok(events)
    }

    fn mend(&mut self) -> io::Result<()> {
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

    /// Appends whole lines. A failure takes back what was written of them.
    pub fn append(&mut self, events: &[Event]) -> io::Result<()> {
        self.follow_rotation()?;
        let mut lines = Vec::with_capacity(events.len() * 512);
        for event in events {
            serde_json::to_writer(&mut lines, event)?;
            lines.push(b'\n');
        }
        let before = self.file.metadata()?.len();
        self.file.write_all(&lines).inspect_err(|_| {
            // Where this fails too, the next start mends the torn line.
            drop(self.file.set_len(before));
        })
    }

    /// Makes what was appended durable.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
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
        self.mend()
    }

    /// Which of these records have a line, durable now: they were acknowledged. Looks back from the
    /// end, as far as 64 MiB; lines that a rotation took away are not seen.
    pub fn recorded(&self, ids: &HashSet<i64>) -> io::Result<HashSet<i64>> {
        #[derive(Deserialize)]
        struct Line {
            id: i64,
            outcome: String,
        }
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        // The process may have ended between a line and its sync.
        self.sync()?;
        let mut file = &self.file;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut lines = BufReader::new(file.take(TAIL_BYTES));
        let (mut recorded, mut line) = (HashSet::new(), Vec::new());
        while lines.read_until(b'\n', &mut line)? > 0 {
            if let Ok(Line { id, outcome }) = serde_json::from_slice(&line)
                && outcome == "published"
                && ids.contains(&id)
            {
                recorded.insert(id);
            }
            line.clear();
        }
        Ok(recorded)
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let is_new = !path.exists();
    let file = options.read(true).append(true).create(true).mode(0o644).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    if is_new && let Some(parent) = path.parent() {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
