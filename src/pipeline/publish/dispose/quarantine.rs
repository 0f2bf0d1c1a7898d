//! Quarantines a failed file: its record, its reason file, and its move.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
};

use crate::{
    failpoint,
    fs::FileMetadata,
    ledger::{self, Flush, Record, State},
    limits,
    observe::display_path,
    pipeline::{failure::DisposeError, job::Job, outcome},
    policy::OnSuccess,
    protocol::{
        disposal::{Undisposed, put_back, quarantine_source, take_source},
        outcome::now_ns,
        quarantine::{QuarantineEntry, is_slot_taken},
    },
    reason::Reason,
    source::{SourceError, TakeRequest, TakeResult},
    stage::Stage,
};

/// Quarantines a failed file: appends the ledger record, writes the reason file next to the slot,
/// then moves the source. Sources that are kept stay in place.
pub fn quarantine(job: &Job, stage: Stage, reason: &Reason) -> Result<(), DisposeError> {
    let failed = |source: Box<dyn Error + Send + Sync>| DisposeError::Quarantine {
        path: job.source_path(),
        source,
    };
    let entry = QuarantineEntry {
        config: &job.context.config,
        path: &job.path,
        identity: job.metadata.identity,
        stage,
        reason,
        attempts: job.attempt,
    };
    let io_failed = |error: SourceError| failed(error.source.into());
    let mut slot = match find_interrupted_move(job).map_err(|error| failed(error.into()))? {
        Some(slot) => slot,
        None => entry.find_slot(&*job.input).map_err(io_failed)?,
    };
    let moves = job.context.config.on_success != OnSuccess::Keep;
    let mut record = record(job, reason);
    let mut others = limits::QUARANTINE_SLOTS_MAX;
    let (written, moved) = loop {
        record.moved_to = moves.then(|| slot.clone());
        append(job, &record)?;
        let written = entry.write_reason(&*job.input, &slot, record.moved_to.as_deref());
        let can_move = moves && written.is_ok();
        let moved = if can_move { move_source(job, &slot, &record) } else { Ok(()) };
        if moved.is_err() {
            update_identity(job, &mut record);
        }
        let written = written.map_err(|error| error.source);
        let error = written.as_ref().err().or(moved.as_ref().err());
        if others == 0 || !error.is_some_and(is_slot_taken) {
            break (written, moved);
        }
        others -= 1;
        slot = entry.find_slot(&*job.input).map_err(io_failed)?;
    };
    match written {
        // It stays where it is, and its record is durable: it does not come here again.
        Err(error) if !moves => {
            tracing::warn!(event = "file.reason_not_written", pipeline = %job.context.name(), source = %display_path(&job.path), %error, "cannot write the reason file");
        }
        written => written.map_err(|error| failed(error.into()))?,
    }
    if let Err(error) = moved {
        tracing::warn!(event = "file.not_moved", pipeline = %job.context.name(), source = %display_path(&job.path), %error, "cannot move to quarantine, source left in place");
        record.moved_to = None;
        let text = format!("{} (left in place: {error})", reason.text);
        record.reason = Some(Reason::new(reason.code, text));
        append(job, &record)?;
    }
    if record.moved_to.is_none() {
        note_if_lost(job, &record);
    }
    failpoint::hit("quarantine::report")
        .and_then(|()| outcome::report_unpublished(job, &record))
        .map_err(|source| DisposeError::Report { source })
}

/// Appends the record of a quarantined file, durably.
fn append(job: &Job, record: &Record) -> Result<(), DisposeError> {
    let append = || {
        failpoint::hit("quarantine::record").map_err(ledger::Error::injected)?;
        job.context.ledger.append(std::slice::from_ref(record), Flush::Now)
    };
    failpoint::barrier("barrier::quarantine", append)
        .map_err(|source| DisposeError::Record { path: job.source_path(), source })
}

/// Notes a source that was left in place and has its name no more.
fn note_if_lost(job: &Job, record: &Record) {
    let found = job.input.stat_fresh(&job.path);
    let is_it = |found: FileMetadata| found.identity.may_be_same_file(&record.identity);
    if !found.is_ok_and(|found| found.is_some_and(is_it)) {
        job.context.note_lost_name();
    }
}

/// Notes the change time that an attempt to move a source moved: it is the same file, and not a new
/// version.
fn update_identity(job: &Job, record: &mut Record) {
    if let Ok(Some(found)) = job.input.stat_fresh(&job.path)
        && found.identity.matches_content(&record.identity)
    {
        record.identity = found.identity;
    }
}

/// Returns the slot that has this source already: a power loss brought its name back, and nothing else.
fn find_interrupted_move(job: &Job) -> ledger::Result<Option<PathBuf>> {
    let latest = job.context.ledger.latest(job.context.id, &job.path)?;
    let quarantined = latest.filter(|record| {
        record.state == State::Quarantined
            && record.identity.matches_content(&job.metadata.identity)
    });
    let slot = quarantined.and_then(|record| record.moved_to);
    Ok(slot.filter(|slot| job.input.is_in_slot(&job.path, slot)))
}

fn record(job: &Job, reason: &Reason) -> Record {
    Record {
        id: job.context.ledger.session().next_id(),
        pipeline: job.context.id,
        source: job.path.clone(),
        identity: job.metadata.identity,
        output: None,
        on_success: job.context.config.on_success.clone(),
        state: State::Quarantined,
        reason: Some(reason.clone()),
        moved_to: None,
        at_ns: now_ns(),
    }
}

/// Moves the failed file, and no other, next to its reason file.
fn move_source(job: &Job, slot: &Path, record: &Record) -> io::Result<()> {
    let io_error = |error: SourceError| error.source;
    let marker = job.context.config.keys.marker.as_deref();
    let quiet_for = Some(job.quiet_now());
    let wanted = TakeRequest { quiet_for, marker, ..TakeRequest::resumed(record) };
    let session = job.context.ledger.session();
    match take_source(&*job.input, session, &wanted).map_err(io_error)? {
        TakeResult::Taken(held) => {
            quarantine_source(held, slot, marker, &|| job.context.meter.progressed()).map_err(
                |failed| {
                    let Undisposed { error, stranded } = put_back(failed);
                    if let Some(stranded) = stranded {
                        super::note_stranded(job, &stranded);
                    }
                    error.source
                },
            )
        }
        TakeResult::Gone => Err(io::Error::new(io::ErrorKind::NotFound, "the source is gone")),
        TakeResult::Replaced => Err(io::Error::other("the source changed and is processed again")),
        TakeResult::Busy => {
            Err(io::Error::other("the source is being written and is processed again"))
        }
        TakeResult::Stranded(private, SourceError { source: error, .. }) => {
            job.context.set_unfinished();
            let text = format!("the source is now {}: {error}", display_path(&private));
            Err(io::Error::new(error.kind(), text))
        }
    }
}
