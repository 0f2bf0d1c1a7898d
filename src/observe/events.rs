//! The events file: one JSON line for each outcome. The line is the acknowledgement. Who listens is
//! told a line once it is durable.

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
    /// Of the output that this one took the place of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced_hash: Option<String>,
    /// From its settling to this line; unknown after a recovery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Hears what was acknowledged. It must not wait.
pub trait Listener: Send + std::fmt::Debug {
    /// A line without its end, and the outcome it tells of.
    fn told(&self, outcome: &'static str, line: &str);
}

/// The open file, if there is one, and who listens. Dropping it closes it; every appended line is
/// whole.
#[derive(Debug)]
pub struct Events {
    log: Option<Log>,
    listener: Option<Box<dyn Listener>>,
    /// Appended, and not durable yet.
    untold: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Log {
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
        let mut log = Log { path: path.to_path_buf(), file: open(path).map_err(named)? };
        log.mend().map_err(named)?;
        Ok(Self { log: Some(log), listener: None, untold: Vec::new() })
    }

    /// The file, if one is named, and a listener, if there is one; `None` where nobody is told.
    pub fn of(
        path: Option<&Path>,
        listener: Option<Box<dyn Listener>>,
    ) -> io::Result<Option<Self>> {
        let file = path.map(Self::open).transpose()?;
        if listener.is_none() {
            return Ok(file);
        }
        let log = file.and_then(|events| events.log);
        Ok(Some(Self { log, listener, untold: Vec::new() }))
    }

    /// Appends whole lines. A failure takes back what was written of them.
    pub fn append(&mut self, events: &[Event]) -> io::Result<()> {
        let lines = events.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        if let Some(log) = &mut self.log {
            log.append(&lines)?;
        }
        if self.listener.is_some() {
            self.untold.extend(events.iter().map(|event| event.outcome).zip(lines));
        }
        Ok(())
    }

    /// Makes what was appended durable, and then tells it to who listens.
    pub fn sync(&mut self) -> io::Result<()> {
        if let Some(log) = &self.log {
            log.file.sync_data()?;
        }
        for (outcome, line) in self.untold.drain(..) {
            if let Some(listener) = &self.listener {
                listener.told(outcome, &line);
            }
        }
        Ok(())
    }

    /// Which of these records have a line, durable now: they were acknowledged. Looks back from the
    /// end, as far as 64 MiB; lines that a rotation took away are not seen.
    pub fn recorded(&self, ids: &HashSet<i64>) -> io::Result<HashSet<i64>> {
        match &self.log {
            Some(log) if !ids.is_empty() => log.recorded(ids),
            _ => Ok(HashSet::new()),
        }
    }
}

impl Log {
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

    fn append(&mut self, lines: &[String]) -> io::Result<()> {
        self.follow_rotation()?;
        let mut text = lines.join("\n");
        if !lines.is_empty() {
            text.push('\n');
        }
        let before = self.file.metadata()?.len();
        self.file.write_all(text.as_bytes()).inspect_err(|_| {
            // Where this fails too, the next start mends the torn line.
            drop(self.file.set_len(before));
        })
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

    fn recorded(&self, ids: &HashSet<i64>) -> io::Result<HashSet<i64>> {
        #[derive(Deserialize)]
        struct Line {
            id: i64,
            outcome: String,
        }
        // The process may have ended between a line and its sync.
        self.file.sync_data()?;
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
