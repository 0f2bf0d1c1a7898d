//! The acknowledgement: what consumers may rely on, given only for what is durable.

use std::{
    io,
    sync::PoisonError,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    observe::{Event, shown},
    ledger::Record,
    pipeline::{context::SharedEvents, job::Job},
};

/// Nanoseconds since the epoch, for records.
#[must_use]
pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// An output that is durable under its final name.
#[derive(Clone, Copy, Debug)]
pub struct Published<'a> {
    pub pipeline: &'a str,
    pub record: &'a Record,
    /// From its settling to now; recovery does not know it.
    pub took: Option<Duration>,
}

/// Tells that these outputs are published: one line each in the events file, durable before this
/// returns, and in the log.
pub fn published(events: &SharedEvents, files: &[Published<'_>]) -> io::Result<()> {
    let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(events) = events.as_mut() {
        let lines: Vec<Event> = files.iter().map(published_event).collect();
        events.append(&lines)?;
        events.sync()?;
    }
    for Published { pipeline, record, .. } in files {
        let Some(output) = &record.output else { continue };
        tracing::info!(
            pipeline,
            source = %shown(&record.source),
            output = %shown(&output.path),
            bytes_in = record.identity.size,
            bytes_out = output.identity.size,
            "published"
        );
    }
    Ok(())
}

/// Tells how a job ended that published nothing.
pub fn ended(job: &Job, outcome: &'static str, reason: Option<&str>) -> io::Result<()> {
    let reason = reason.unwrap_or_default();
    tracing::warn!(pipeline = %job.context.name(), source = %shown(&job.path), reason, "{outcome}");
    let mut events = job.context.events.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(events) = events.as_mut() else { return Ok(()) };
    let mut event = event(job, outcome);
    event.reason = Some(reason.to_owned());
    events.append(&[event])?;
    events.sync()
}
