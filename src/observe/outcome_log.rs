//! The events file: one JSON line per outcome. The line is the acknowledgement. A listener receives a
//! line once it is durable.

mod file;
mod proof;

use std::{collections::HashSet, io, path::Path};

use file::Log;
pub use file::is_full;
pub use proof::Proof;
use serde::Serialize;

use super::OutcomeKind;
use crate::{
    limits,
    reason::{Reason, ReasonCode},
};

/// One outcome.
#[derive(Clone, Debug, Serialize)]
pub struct OutcomeLine {
    /// RFC 3339, UTC.
    pub time: String,
    /// Number of the record in the ledger.
    pub id: i64,
    /// Identity of the ledger. The number alone is ambiguous, because every ledger counts from 1.
    pub ledger: String,
    pub pipeline: String,
    #[serde(serialize_with = "serialize_outcome")]
    pub outcome: OutcomeKind,
    /// Relative to the input; `source_hex` holds the exact bytes of a name that is not UTF-8.
    pub source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_hex: Option<String>,
    pub source_bytes: u64,
    /// Relative to the output.
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
    /// Hash of the output that this one replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced_hash: Option<String>,
    /// Time from settle to this line; unknown after a recovery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<ReasonCode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl OutcomeLine {
    #[must_use]
    pub fn with_reason(self, reason: Option<&Reason>) -> Self {
        let reason_code = reason.map(|reason| reason.code);
        Self { reason_code, reason: reason.map(|reason| reason.text.clone()), ..self }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn serialize_outcome<S: serde::Serializer>(
    outcome: &OutcomeKind,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(outcome.as_str())
}

/// Receives acknowledged outcomes. It must not wait.
pub trait Listener: Send + std::fmt::Debug {
    /// Receives a line without its line end, and its outcome.
    fn notify(&self, outcome: OutcomeKind, line: &str);
}

/// The open file and the listener, if configured. Dropping it closes the file; every appended line is
/// complete.
#[derive(Debug)]
pub struct Events {
    log: Option<Log>,
    listener: Option<Box<dyn Listener>>,
    /// Lines appended and not durable, in order. [`Self::sync`] sends them to the listener.
    unsent: Vec<(OutcomeKind, String)>,
    /// Lines without space in the file, at most [`limits::EVENTS_DEFERRED_MAX`]. They are appended
    /// before the next ones.
    deferred: Vec<OutcomeLine>,
}

impl Events {
    /// Opens the file for appending, and creates it if needed. A torn last line of this program is cut
    /// off; another unfinished last line gets a line end.
    ///
    /// # Errors
    ///
    /// Another process has locked the file: one service at a time may use it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let with_path = |error: io::Error| {
            let path = super::display_path(path);
            io::Error::new(error.kind(), format!("cannot open the events file {path}: {error}"))
        };
        let log = Log::open(path).map_err(with_path)?;
        Ok(Self { log: Some(log), listener: None, unsent: Vec::new(), deferred: Vec::new() })
    }

    /// Opens the file, if configured, with a listener, if any; `None` without both.
    pub fn open_with(
        path: Option<&Path>,
        listener: Option<Box<dyn Listener>>,
    ) -> io::Result<Option<Self>> {
        let file = path.map(Self::open).transpose()?;
        if listener.is_none() {
            return Ok(file);
        }
        let log = file.and_then(|events| events.log);
        Ok(Some(Self { log, listener, unsent: Vec::new(), deferred: Vec::new() }))
    }

    /// Appends complete lines, after the deferred ones. A failure undoes the append.
    pub fn append(&mut self, events: &[OutcomeLine]) -> io::Result<()> {
        let events: Vec<&OutcomeLine> = self.deferred.iter().chain(events).collect();
        let lines = events.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        if let Some(log) = &mut self.log {
            log.append(&lines)?;
        }
        if self.listener.is_some() {
            self.unsent.extend(events.iter().map(|event| event.outcome).zip(lines));
        }
        Ok(())
    }

    /// Makes the appended lines durable, and then sends them to the listener. On a full disk the append is
    /// undone, so that it can be repeated.
    pub fn sync(&mut self) -> io::Result<()> {
        if let Some(log) = &mut self.log {
            log.sync().inspect_err(|error| {
                if is_full(error) {
                    log.undo_append();
                    self.unsent.clear();
                }
            })?;
        }
        self.deferred.clear();
        for (outcome, line) in self.unsent.drain(..) {
            if let Some(listener) = &self.listener {
                listener.notify(outcome, &line);
            }
        }
        Ok(())
    }

    /// Defers a line without space, to be appended before the next ones, and returns whether there was
    /// room in memory. Not for an acknowledgement: it may not depend on memory.
    #[must_use]
    pub fn defer(&mut self, event: OutcomeLine) -> bool {
        let has_room = self.deferred.len() < limits::EVENTS_DEFERRED_MAX;
        if has_room {
            self.deferred.push(event);
        }
        has_room
    }

    /// Returns the number of lines that wait for space.
    #[must_use]
    pub const fn deferred(&self) -> usize {
        self.deferred.len()
    }

    /// Returns which of these records have a line, now durable: they were acknowledged. A line counts
    /// only if ledger, source, output and content match. Searches the last 64 MiB; rotated lines are not
    /// found.
    pub fn recorded(&mut self, records: &HashSet<Proof>) -> io::Result<HashSet<i64>> {
        match &mut self.log {
            Some(log) if !records.is_empty() => log.recorded(records),
            _ => Ok(HashSet::new()),
        }
    }

    /// Returns the largest record number of this ledger near the end of the file, or 0. A ledger restored
    /// from a backup lacks it.
    pub fn largest_id(&self, ledger: &str) -> io::Result<i64> {
        self.log.as_ref().map_or(Ok(0), |log| log.largest_id(ledger))
    }
}

#[cfg(test)]
mod tests;
