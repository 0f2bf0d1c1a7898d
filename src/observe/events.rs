//! The events file: one JSON line for each outcome. The line is the acknowledgement.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// How far back the file is searched for lines that a crash may have left unmarked in the ledger.
const TAIL_BYTES: u64 = 64 * 1024 * 1024;
const BLOCK_BYTES: u64 = 1024 * 1024;

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
        let Some((start, line)) = self.last_line(length)? else {
            return Ok(());
        };
        if line.ends_with(b"\n") || line.is_empty() {
            return Ok(());
        }
        if line.starts_with(b"{\"time\"") {
            self.file.set_len(start)
        } else {
            self.file.write_all(b"\n")
        }
    }

    /// The last line and where it starts, if it is at most a block long.
    fn last_line(&self, length: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
        let from = length.saturating_sub(BLOCK_BYTES);
        let block = self.block(from, length)?;
        let before_end = block.len().saturating_sub(1);
        let newline = block.iter().take(before_end).rposition(|byte| *byte == b'\n');
        let at = newline.map_or(0, |newline| newline + 1);
        if newline.is_none() && from > 0 {
            return Ok(None);
        }
        Ok(Some((from + at as u64, block.get(at..).unwrap_or_default().to_vec())))
    }

    fn block(&self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        let mut block = vec![0; usize::try_from(to - from).unwrap_or(0)];
        self.file.read_exact_at(&mut block, from)?;
        Ok(block)
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

    /// Which of these records have a line: they were acknowledged. Looks back from the end, as far
    /// as 64 MiB.
    pub fn recorded(&self, ids: &HashSet<i64>) -> io::Result<HashSet<i64>> {
        #[derive(Deserialize)]
        struct Line {
            id: i64,
            outcome: String,
        }
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let mut file = &self.file;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut text = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut text)?;
        let lines = text.split(|byte| *byte == b'\n');
        let recorded = lines
            .filter_map(|line| serde_json::from_slice::<Line>(line).ok())
            .filter(|line| line.outcome == "published" && ids.contains(&line.id))
            .map(|line| line.id);
        Ok(recorded.collect())
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let is_new = !path.exists();
    let file = options.read(true).append(true).create(true).mode(0o644).open(path)?;
    if is_new && let Some(parent) = path.parent() {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: i64) -> Event {
        Event {
            time: "2026-01-01T00:00:00Z".into(),
            id,
            pipeline: "main".into(),
            outcome: "published",
            source: "a".into(),
            source_hex: None,
            source_bytes: 1,
            output: Some("a.zst".into()),
            output_hex: None,
            output_bytes: Some(2),
            source_hash: None,
            output_hash: None,
            seconds: None,
            reason: None,
        }
    }

    fn path() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("events");
        (dir, path)
    }

    fn lines(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).expect("read");
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_that_a_crash_tore_is_cut_off_and_one_of_another_hand_is_ended() {
        let (_dir, path) = path();
        Events::open(&path).expect("open").append(&[event(1)]).expect("append");
        let whole = lines(&path);
        let torn = format!("{}\n{{\"time\":\"2026-", whole[0]);
        std::fs::write(&path, torn).expect("tear");
        let mut events = Events::open(&path).expect("open");
        assert_eq!(lines(&path), whole);
        events.append(&[event(2)]).expect("append");
        assert_eq!(lines(&path).len(), 2);
        std::fs::write(&path, "someone's note").expect("write");
        Events::open(&path).expect("open").append(&[event(3)]).expect("append");
        assert_eq!(lines(&path)[0], "someone's note");
        assert_eq!(lines(&path).len(), 2);
    }

    #[test]
    fn a_rotated_file_is_left_and_a_new_one_made() {
        let (dir, path) = path();
        let mut events = Events::open(&path).expect("open");
        events.append(&[event(1)]).expect("append");
        #[expect(clippy::disallowed_methods, reason = "the test rotates as logrotate does")]
        std::fs::rename(&path, dir.path().join("events.1")).expect("rotate");
        events.append(&[event(2)]).expect("append");
        assert!(lines(&path)[0].contains("\"id\":2"));
        assert!(lines(&dir.path().join("events.1"))[0].contains("\"id\":1"));
    }

    #[test]
    fn recovery_learns_which_records_were_acknowledged() {
        let (_dir, path) = path();
        let mut events = Events::open(&path).expect("open");
        events
            .append(&[event(1), event(2), Event { outcome: "quarantined", ..event(3) }])
            .expect("append");
        let recorded = events.recorded(&HashSet::from([2, 3, 4])).expect("read");
        assert_eq!(recorded, HashSet::from([2]));
    }
}
