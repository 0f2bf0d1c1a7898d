//! The events file: one JSON line per outcome. The line is the acknowledgement. A listener receives a
//! line once it is durable.

mod file;
mod proof;

use std::{collections::HashSet, io, path::Path};

use file::Log;
pub use file::{is_full, is_repeatable};
pub use proof::Proof;

use crate::{
    limits,
    outcome::{Outcome, OutcomeKind},
};

/// Receives acknowledged outcomes. It must not wait.
pub trait Listener: Send + std::fmt::Debug {
    /// Receives a line without its line end, and its outcome.
    fn notify(&self, outcome: OutcomeKind, line: &str);

    /// Receives the line of a pipeline to which no file came in its expected time.
    fn notify_overdue(&self, _line: &str) {}
}

/// The open file and the listener, if configured. Dropping it closes the file; every appended line is
/// complete.
#[derive(Debug)]
pub struct OutcomeLog {
    log: Option<Log>,
    listener: Option<Box<dyn Listener>>,
    /// Lines appended and not durable, in order. [`Self::sync`] sends them to the listener.
    unsent: Vec<(OutcomeKind, String)>,
    /// Lines that could not be written yet, at most [`limits::EVENTS_DEFERRED_MAX`]. They are appended
    /// before the next ones.
    deferred: Vec<Outcome>,
}

impl OutcomeLog {
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
    pub fn append(&mut self, events: &[Outcome]) -> io::Result<()> {
        let events: Vec<&Outcome> = self.deferred.iter().chain(events).collect();
        let lines = events.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        if let Some(log) = &mut self.log {
            log.append(&lines)?;
        }
        if self.listener.is_some() {
            let of = |(event, line): (&&Outcome, String)| Some((event.outcome?, line));
            self.unsent.extend(events.iter().zip(lines).filter_map(of));
        }
        Ok(())
    }

    /// Makes the appended lines durable, and then sends them to the listener. On a full disk the append is
    /// undone, so that it can be repeated.
    pub fn sync(&mut self) -> io::Result<()> {
        if let Some(log) = &mut self.log {
            log.sync().map_err(|error| {
                if !is_full(&error) {
                    return error;
                }
                self.unsent.clear();
                log.undo_append(error)
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

    /// Defers a line that cannot be written now, to be appended before the next ones, and returns whether there was
    /// room in memory. Not for an acknowledgement: it may not depend on memory.
    #[must_use]
    pub fn defer(&mut self, event: Outcome) -> bool {
        let has_room = self.deferred.len() < limits::EVENTS_DEFERRED_MAX;
        if has_room {
            self.deferred.push(event);
        }
        has_room
    }

    /// Sends the listener the line of a pipeline that is overdue. It is no outcome: the file has no such line.
    pub fn notify_overdue(&self, line: &str) {
        if let Some(listener) = &self.listener {
            listener.notify_overdue(line);
        }
    }

    /// Returns the number of deferred lines.
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
