//! The events file: one JSON line for each outcome. The line is the acknowledgement. Who listens is
//! told a line once it is durable.

mod file;
mod proof;

use std::{collections::HashSet, io, path::Path};

use file::Log;
pub use file::is_full;
pub use proof::Proof;
use serde::Serialize;

use super::OutcomeKind;

/// One outcome.
#[derive(Clone, Debug, Serialize)]
pub struct OutcomeLine {
    /// RFC 3339, UTC.
    pub time: String,
    /// The ledger's number of the record.
    pub id: i64,
    /// The ledger that the record is in: the number alone says nothing, because every ledger counts
    /// from 1.
    pub ledger: String,
    pub pipeline: String,
    #[serde(serialize_with = "word")]
    pub outcome: OutcomeKind,
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn word<S: serde::Serializer>(outcome: &OutcomeKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(outcome.as_str())
}

/// Hears what was acknowledged. It must not wait.
pub trait Listener: Send + std::fmt::Debug {
    /// A line without its end, and the outcome it tells of.
    fn notify(&self, outcome: OutcomeKind, line: &str);
}

/// The open file, if there is one, and who listens. Dropping it closes it; every appended line is
/// whole.
#[derive(Debug)]
pub struct Events {
    log: Option<Log>,
    listener: Option<Box<dyn Listener>>,
    /// Appended, and not durable yet.
    untold: Vec<(OutcomeKind, String)>,
    /// Found no space in the file; they go before the next ones.
    late: Vec<OutcomeLine>,
}

impl Events {
    /// Opens the file to append, and creates it where there is none. A last line that a crash tore
    /// is cut off where it is one of ours, and ended where it is not.
    ///
    /// # Errors
    ///
    /// Another process holds the file: it belongs to one service at a time.
    pub fn open(path: &Path) -> io::Result<Self> {
        let named = |error: io::Error| {
            let path = super::display_path(path);
            io::Error::new(error.kind(), format!("cannot open the events file {path}: {error}"))
        };
        let log = Log::open(path).map_err(named)?;
        Ok(Self { log: Some(log), listener: None, untold: Vec::new(), late: Vec::new() })
    }

    /// The file, if one is named, and a listener, if there is one; `None` where nobody is told.
    pub fn open_with(
        path: Option<&Path>,
        listener: Option<Box<dyn Listener>>,
    ) -> io::Result<Option<Self>> {
        let file = path.map(Self::open).transpose()?;
        if listener.is_none() {
            return Ok(file);
        }
        let log = file.and_then(|events| events.log);
        Ok(Some(Self { log, listener, untold: Vec::new(), late: Vec::new() }))
    }

    /// Appends whole lines, after those that are late. A failure takes back what was written of them.
    pub fn append(&mut self, events: &[OutcomeLine]) -> io::Result<()> {
        let events: Vec<&OutcomeLine> = self.late.iter().chain(events).collect();
        let lines = events.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        if let Some(log) = &mut self.log {
            log.append(&lines)?;
        }
        if self.listener.is_some() {
            self.untold.extend(events.iter().map(|event| event.outcome).zip(lines));
        }
        Ok(())
    }

    /// Makes what was appended durable, and then tells it to who listens. Where the disk is full it is
    /// taken back, so that it can be appended again.
    pub fn sync(&mut self) -> io::Result<()> {
        if let Some(log) = &mut self.log {
            log.sync().inspect_err(|error| {
                if is_full(error) {
                    log.take_back();
                    self.untold.clear();
                }
            })?;
        }
        self.late.clear();
        for (outcome, line) in self.untold.drain(..) {
            if let Some(listener) = &self.listener {
                listener.notify(outcome, &line);
            }
        }
        Ok(())
    }

    /// Keeps a line for which there is no space, to be appended before the next ones. Not for an
    /// acknowledgement: it may not depend on memory.
    pub fn keep(&mut self, event: OutcomeLine) {
        self.late.push(event);
    }

    /// Which of these records have a line, durable now: they were acknowledged. A line counts only if
    /// it is of the same ledger, source, output and content. Looks back from the end, as far as
    /// 64 MiB; lines that a rotation took away are not seen.
    pub fn recorded(&mut self, records: &HashSet<Proof>) -> io::Result<HashSet<i64>> {
        match &mut self.log {
            Some(log) if !records.is_empty() => log.recorded(records),
            _ => Ok(HashSet::new()),
        }
    }

    /// The largest number of a record of this ledger near the file's end; 0 where there is none. A
    /// ledger that was restored from a backup does not know it.
    pub fn largest_id(&self, ledger: &str) -> io::Result<i64> {
        self.log.as_ref().map_or(Ok(0), |log| log.largest_id(ledger))
    }
}

#[cfg(test)]
mod tests;
