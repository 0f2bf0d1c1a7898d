//! Quarantines a failed file: its record, its reason file, and its move.

use std::{error::Error, io, path::PathBuf};

use crate::{
    failpoint,
    ledger::{Flush, Record, State},
    observe::display_path,
    pipeline::{failure::DisposeError, job::Job, outcome},
    policy::OnSuccess,
    protocol::{
        disposal::quarantine_source,
        held_source::{self, TakeResult},
        outcome::now_ns,
        quarantine::{QuarantineEntry, QuarantineSlot},
    },
    stage::Stage,
};

/// Quarantines a failed file: appends the ledger record, writes the reason file next to the slot,
/// then moves the source. Sources that are kept stay in place.
pub fn quarantine(job: &Job, stage: Stage, reason: &str) -> Result<(), DisposeError> {
    let failed = |source: Box<dyn Error + Send + Sync>| DisposeError::Quarantine {
        path: job.source_path(),
        source,
    };
    let entry = QuarantineEntry {
        config: &job.context.config,
        instance: &job.context.instance,
        path: &job.path,
        identity: job.metadata.identity,
        stage,
        reason,
        attempts: job.attempt,
    };
    let slot = entry.find_slot().map_err(|error| failed(error.into()))?;
    let moves = job.context.config.on_success != OnSuccess::Keep;
    let mut record = record(job, reason, moves.then(|| slot.path()));
    let append = |record: &Record| {
        failpoint::barrier("barrier::quarantine", || {
            job.context.ledger.append(std::slice::from_ref(record), Flush::Now)
        })
    };
    append(&record).map_err(|error| failed(error.into()))?;
    entry.write_reason(&slot, record.moved_to.as_deref()).map_err(|error| failed(error.into()))?;
    if moves && let Err(error) = move_source(job, &slot, &record) {
        tracing::warn!(event = "file.not_moved", pipeline = %job.context.name(), source = %display_path(&job.path), %error, "cannot move to quarantine, source left in place");
        record.moved_to = None;
        record.reason = Some(format!("{reason} (left in place: {error})"));
        append(&record).map_err(|error| failed(error.into()))?;
    }
    outcome::report_unpublished(job, &record).map_err(|error| failed(error.into()))
}

fn record(job: &Job, reason: &str, moved_to: Option<PathBuf>) -> Record {
    Record {
        id: job.context.ledger.next_id(),
        pipeline: job.context.id,
        source: job.path.clone(),
        identity: job.metadata.identity,
        output: None,
        on_success: job.context.config.on_success.clone(),
        state: State::Quarantined,
        reason: Some(reason.to_owned()),
        moved_to,
        at_ns: now_ns(),
    }
}

/// Moves the failed file, and no other, next to its reason file.
fn move_source(job: &Job, slot: &QuarantineSlot, record: &Record) -> io::Result<()> {
    let owner = (&job.context.instance, record.id);
    match held_source::take(&job.input, &job.path, &record.identity, owner)? {
        TakeResult::Taken(held) => {
            let (held, to) = (held.watched_by(&job.context.meter), (&slot.dir, &*slot.name));
            quarantine_source(held, to, job.context.config.marker.as_deref())
                .map_err(|(held, error)| held.put_back().err().map_or(error, |(_, second)| second))
        }
        TakeResult::Gone => Err(io::Error::new(io::ErrorKind::NotFound, "the source is gone")),
        TakeResult::Replaced => Err(io::Error::other("the source changed and is processed again")),
        TakeResult::Busy => {
            Err(io::Error::other("the source is being written and is processed again"))
        }
        TakeResult::Stranded(private, error) => Err(io::Error::new(
            error.kind(),
            format!("the source is now {}: {error}", display_path(&private)),
        )),
    }
}
