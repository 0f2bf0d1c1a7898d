//! Reports of outcomes to the events file and the log. The line of a published
//! output is its acknowledgement, on which consumers may rely: it is written only for durable outputs.

use std::{
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::SharedOutcomeLog;
use crate::{
    failpoint,
    ledger::{Output, Record, RecordId, State},
    observe::{self, Proof, display_path, log_seconds, units::size},
    outcome::{Outcome, OutcomeKind},
};

/// Returns the nanoseconds since the epoch, for records.
#[must_use]
pub fn now_ns() -> i64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// An output that is durable under its final name.
#[derive(Clone, Copy, Debug)]
pub struct Published<'a> {
    pub pipeline: &'a str,
    pub record: &'a Record,
    /// The time since the file settled; `None` in recovery.
    pub took: Option<Duration>,
    /// The attempts that it took; 1 in recovery.
    pub attempts: u32,
}

/// Reports these outputs as published: one line each in the events file, durable before this
/// returns, and in the log. `ledger` is the instance of the ledger that has their records.
pub fn report_published(
    events: &SharedOutcomeLog,
    ledger: &str,
    files: &[Published<'_>],
) -> io::Result<()> {
    append_published(events, ledger, files)?;
    for Published { pipeline, record, took, attempts } in files {
        let Some(output) = &record.output else {
            continue;
        };
        tracing::debug!(
            event = "file.published", pipeline,
            record = record.id,
            source = %display_path(&record.source),
            output = %display_path(&output.path),
            source_size = size(record.identity.size),
            output_size = size(output.identity.size),
            seconds = took.map(log_seconds),
            attempts = (*attempts > 1).then_some(attempts),
            "published"
        );
    }
    Ok(())
}

fn append_published(
    events: &SharedOutcomeLog,
    ledger: &str,
    files: &[Published<'_>],
) -> io::Result<()> {
    let mut events = events.lock();
    let Some(events) = events.as_mut() else {
        return Ok(());
    };
    let lines: Vec<Outcome> = files.iter().map(|file| published_line(ledger, file)).collect();
    events.append(&lines)?;
    failpoint::barrier("barrier::events", || events.sync())
}

/// Returns the content that a line must have to be the acknowledgement of this record.
#[must_use]
pub fn proof(ledger: &str, record: &Record) -> Proof {
    published_line(ledger, &Published { pipeline: "", record, took: None, attempts: 1 }).into()
}

/// Returns the outcome of an unpublished source, by its record.
pub const fn unpublished_outcome(record: &Record) -> OutcomeKind {
    match record.state {
        State::Quarantined => OutcomeKind::Quarantined,
        _ => OutcomeKind::Skipped,
    }
}

/// Reports the outcome of a record without an output and without a job: in recovery.
pub fn report_recovered(
    events: &SharedOutcomeLog,
    (ledger, pipeline): (&str, &str),
    record: &Record,
) -> io::Result<()> {
    let source = (record.id, record.source.as_path(), record.identity.size);
    let line = outcome_line((ledger, pipeline), unpublished_outcome(record), source);
    append_unpublished(events, line.with_reason(record.reason.as_ref()))
}

/// Appends a line that is not an acknowledgement. A full disk or a file that cannot be opened does not fail it: the ledger has the
/// outcome, and the line is written before the next one, unless too many wait.
pub fn append_unpublished(events: &SharedOutcomeLog, line: Outcome) -> io::Result<()> {
    let mut events = events.lock();
    let Some(events) = events.as_mut() else {
        return Ok(());
    };
    let result = events.append(std::slice::from_ref(&line)).and_then(|()| events.sync());
    match result {
        Err(error) if observe::is_repeatable(&error) => {
            let record = line.id;
            if events.defer(line) {
                tracing::warn!(event = "events.unavailable", %error, record, "cannot write the events file, line postponed");
            } else {
                tracing::warn!(event = "events.dropped", %error, record, "too many lines postponed, line dropped");
            }
            Ok(())
        }
        result => result,
    }
}

/// Appends the postponed lines, at the end; what still cannot be written is dropped.
pub fn finish(events: &SharedOutcomeLog) {
    let mut events = events.lock();
    let Some(events) = events.as_mut().filter(|events| events.deferred() > 0) else { return };
    let lines = events.deferred();
    if let Err(error) = events.append(&[]).and_then(|()| events.sync()) {
        tracing::warn!(event = "events.dropped", %error, lines, "cannot write the events file, lines dropped");
    }
}

fn published_line(ledger: &str, published: &Published<'_>) -> Outcome {
    let Published { pipeline, record, took, .. } = published;
    let source = (record.id, record.source.as_path(), record.identity.size);
    let line = outcome_line((ledger, pipeline), OutcomeKind::Published, source);
    let Some(output) = &record.output else {
        return line;
    };
    let (path, output_hex) = json_path(&output.path);
    let seconds = took.map(|took| took.as_secs_f64());
    with_output(Outcome { output: Some(path), output_hex, seconds, ..line }, output)
}

/// Creates a line without an output.
pub fn outcome_line(
    (ledger, pipeline): (&str, &str),
    outcome: OutcomeKind,
    (id, path, source_bytes): (RecordId, &Path, u64),
) -> Outcome {
    let (source, source_hex) = json_path(path);
    Outcome {
        time: jiff::Timestamp::now().to_string(),
        id,
        ledger: Some(ledger.to_owned()),
        pipeline: pipeline.to_owned(),
        outcome: Some(outcome),
        source,
        source_hex,
        source_bytes,
        ..Outcome::default()
    }
}

/// Returns the outcome of a record, with its state, and with paths for people: control characters are
/// escaped.
#[must_use]
pub fn recorded(record: &Record, pipeline: &str, time: String) -> Outcome {
    let output = record.output.as_ref();
    let shown = |path: &Path| display_path(path).to_string();
    let transforms = output.map(|output| output.transforms.clone());
    let outcome = Outcome {
        time,
        id: record.id,
        pipeline: pipeline.to_owned(),
        state: Some(record.state),
        source: shown(&record.source),
        source_bytes: record.identity.size,
        output: output.map(|output| shown(&output.path)),
        transforms: transforms.filter(|transforms| !transforms.is_empty()),
        moved_to: record.moved_to.as_deref().map(shown),
        ..Outcome::default()
    };
    let outcome = outcome.with_reason(record.reason.as_ref());
    match output {
        Some(output) => with_output(outcome, output),
        None => outcome,
    }
}

/// Returns the outcome of a record as [`recorded`] does, but of a skipped one without the output, which is
/// another file's.
#[must_use]
pub fn listed(record: &Record, pipeline: &str, time: String) -> Outcome {
    if record.state != State::Skipped {
        return recorded(record, pipeline, time);
    }
    recorded(&Record { output: None, ..record.clone() }, pipeline, time)
}

fn with_output(outcome: Outcome, output: &Output) -> Outcome {
    Outcome {
        output_bytes: Some(output.identity.size),
        source_hash: Some(hex(&output.source_hash)),
        output_hash: Some(hex(&output.hash)),
        replaced_hash: output.replaces.and_then(|replaced| replaced.hash).map(|hash| hex(&hash)),
        ..outcome
    }
}

/// Returns a path for JSON, which allows only UTF-8, and for any other path also its bytes in hex.
fn json_path(path: &Path) -> (String, Option<String>) {
    match path.to_str() {
        Some(text) => (text.to_owned(), None),
        None => (path.to_string_lossy().into_owned(), Some(hex(path.as_os_str().as_bytes()))),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(digit.into(), 16));
        }
    }
    text
}
