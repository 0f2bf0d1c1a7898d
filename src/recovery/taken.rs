//! Resolves the sources that were taken for their disposal when the process ended.

use std::{io::ErrorKind, path::Path};

use super::{Error, Quarantines};
use crate::{
    config,
    fingerprint::Fingerprint,
    ledger::{self, Flush, Ledger, PipelineId, Record, State},
    limits,
    observe::display_path,
    protocol::{
        disposal::{Undisposed, put_back, quarantine_source},
        outcome,
        quarantine::{QuarantineEntry, is_slot_taken},
    },
    reason::{Reason, ReasonCode},
    source::{self, Disposal, HeldSource, Source, SourceError, TakeRequest, TakeResult, Taken},
    stage::Stage,
};

/// The reason for which a source that lost content is not processed again.
fn lost_content() -> Reason {
    Reason::new(ReasonCode::RolledBack, EARLIER)
}

const EARLIER: &str = "it lost content in a power loss, because its producer did not make it durable; the output of the complete content is published";

/// The parts of the service that resolve private names.
#[derive(Clone, Copy)]
pub(super) struct SweepContext<'a> {
    pub(super) ledger: &'a dyn Ledger,
    pub(super) quarantines: &'a Quarantines<'a>,
    pub(super) pipelines: &'a [config::Pipeline],
    /// The input that is swept.
    pub(super) input: &'a dyn Source,
}

/// The result of resolving a private name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceOutcome {
    /// The source has its original name again.
    Returned,
    /// The source is in quarantine, because another file has its name.
    Quarantined,
    /// The source was disposed of, or is gone.
    Disposed,
    /// The source keeps its private name, for the operator.
    Kept,
}

impl From<bool> for SourceOutcome {
    fn from(is_returned: bool) -> Self {
        if is_returned { Self::Returned } else { Self::Disposed }
    }
}

/// Resolves a source that had its private name when the process ended. If it is still the file that
/// was read, the disposal that the ledger records is finished; otherwise it gets its name back. A
/// source that lost content, and whose name another file has by now, goes to quarantine.
pub(super) fn resolve(context: SweepContext<'_>, taken: &Taken) -> Result<SourceOutcome, Error> {
    let SweepContext { ledger, input, .. } = context;
    let path = input.path().join(&taken.path);
    let failed = |action| {
        let path = path.clone();
        move |SourceError { source, .. }| Error::Io { path, action, source }
    };
    let Some(record) = ledger.record(taken.id)? else {
        tracing::warn!(event = "recovery.stranded", source = %display_path(&path), "source under an unknown private name, left for the operator");
        return Ok(SourceOutcome::Kept);
    };
    let recover = || input.recover(taken, &record.source).map_err(failed("open the directory of"));
    let held = recover()?;
    let found = held.identity().map_err(failed("check"))?;
    let lost = match found {
        Some(identity) => quarantine_earlier(ledger, identity, &record)?,
        None => None,
    };
    if let Some(lost) = &lost {
        ledger.append(std::slice::from_ref(lost), Flush::Now)?;
        report(context, lost)?;
    }
    let marker = || {
        let config = config_of(context, record.pipeline)?;
        Ok::<_, Error>(config.and_then(|config| config.keys.marker.as_deref()))
    };
    // Its producer has not declared another file finished.
    let is_recorded = found.is_some_and(|found| found.is_copy_of(&record.identity));
    let put_back = held.finish_put_back(marker()?.filter(|_| is_recorded));
    let Some(held) = put_back.map_err(failed("restore the name of"))? else {
        return Ok(SourceOutcome::Returned);
    };
    let resolved = match (record.state, &record.moved_to) {
        (State::Published | State::Done | State::Changed, _) => {
            dispose(ledger, held, &record, marker()?)?
        }
        (State::Quarantined, Some(slot)) => {
            let marker = marker()?;
            // The run that took it ended before it reported it.
            report(context, &record)?;
            finish(held, (&record, marker), |held| quarantine(held, slot, marker))
        }
        _ => held.put_back().map(|()| true).map_err(|(_, error)| error),
    };
    match resolved {
        Ok(is_returned) => Ok(is_returned.into()),
        Err(error) if error.source.kind() == ErrorKind::AlreadyExists => {
            let config = config_of(context, record.pipeline)?;
            if let (Some(lost), Some(config)) = (lost, config) {
                return quarantine_lost(context, config, &lost, recover()?);
            }
            tracing::warn!(event = "recovery.stranded", path = %display_path(&path), source = %display_path(&record.source), "original name taken, source kept under its private name");
            Ok(SourceOutcome::Kept)
        }
        Err(error) => Err(failed("dispose of")(error)),
    }
}

fn report(context: SweepContext<'_>, lost: &Record) -> Result<(), Error> {
    let roots = context.ledger.pipelines()?.into_iter().find(|roots| roots.id == lost.pipeline);
    let name = roots.map(|roots| roots.name).unwrap_or_default();
    context.quarantines.report(&name, lost).map_err(Error::Events)
}

fn config_of(
    context: SweepContext<'_>,
    id: PipelineId,
) -> Result<Option<&config::Pipeline>, Error> {
    let roots = context.ledger.pipelines()?.into_iter().find(|roots| roots.id == id);
    Ok(roots.and_then(|roots| {
        let has_dirs = |config: &&config::Pipeline| {
            config.input == roots.input && config.output == roots.output
        };
        context.pipelines.iter().find(has_dirs)
    }))
}

/// Quarantines a source in the usual order: ledger record, reason file, move. An interruption is
/// repeated at the next start.
fn quarantine_lost(
    context: SweepContext<'_>,
    config: &config::Pipeline,
    lost: &Record,
    held: Box<dyn HeldSource>,
) -> Result<SourceOutcome, Error> {
    let entry = QuarantineEntry {
        config,
        path: &lost.source,
        identity: lost.identity,
        stage: Stage::Dispose,
        reason: &lost_content(),
        attempts: 0,
    };
    let failed = |action| {
        let path = config.input.join(&lost.source);
        move |SourceError { source, .. }| Error::Io { path, action, source }
    };
    let mut held = held;
    let mut others = limits::QUARANTINE_SLOTS_MAX;
    let slot = loop {
        let slot = entry.find_slot(context.input).map_err(failed("find a quarantine slot for"))?;
        let moved = Record { moved_to: Some(slot.clone()), ..lost.clone() };
        context.ledger.append(&[moved], Flush::Now)?;
        let can_retry = |error: &SourceError| others > 0 && is_slot_taken(&error.source);
        match entry.write_reason(context.input, &slot, Some(&slot)) {
            Ok(()) => match quarantine_source(held, &slot, None, &|| ()) {
                Ok(()) => break slot,
                Err((returned, error)) if can_retry(&error) => held = returned,
                Err((_, error)) => return Err(failed("move to quarantine")(error)),
            },
            Err(error) if can_retry(&error) => {}
            Err(error) => return Err(failed("write the reason file of")(error)),
        }
        others -= 1;
    };
    tracing::warn!(event = "recovery.quarantined", pipeline = %config.name, source = %display_path(&lost.source), moved_to = %display_path(&slot), "original name taken, source moved to quarantine");
    Ok(SourceOutcome::Quarantined)
}

/// Returns the record that keeps an earlier state of a source from being processed; it is made
/// durable before the source gets its name back. A power loss took the content that the producer
/// never made durable, and the output of the complete content is published. `None` if it is no
/// earlier state.
///
/// The private name may hold an earlier file: the file that replaced it had taken the name for a
/// moment, and the power loss came before it had its own name back.
fn quarantine_earlier(
    ledger: &dyn Ledger,
    found: Fingerprint,
    record: &Record,
) -> Result<Option<Record>, Error> {
    // It is the file that the record's job read, whichever file had its inode before.
    if found.matches_content(&record.identity) {
        return Ok(None);
    }
    let published = ledger.latest_of_inode(record.pipeline, &record.source, found.inode)?;
    let Some(record) = published.filter(|Record { id, identity: read, at_ns, .. }| {
        let was_power_lost = !ledger.session().is_of_this_boot(*id);
        !found.matches_content(read)
            && (found.is_earlier_content_of(read)
                || was_power_lost && found.may_be_earlier_content_of(read, *at_ns))
    }) else {
        return Ok(None);
    };
    let reason = lost_content();
    tracing::warn!(event = "file.quarantined", source = %display_path(&record.source), reason_code = %reason.code, reason = reason.text, "quarantined in place");
    Ok(Some(Record {
        id: ledger.session().next_id(),
        identity: found.ignoring_ctime(),
        output: None,
        state: State::Quarantined,
        reason: Some(reason),
        moved_to: None,
        at_ns: outcome::now_ns(),
        ..record
    }))
}

/// Removes or archives a source; returns whether it got its name back instead. A record that counts it as
/// disposed of states before that it is not: under its name it would be another source.
fn dispose(
    ledger: &dyn Ledger,
    held: Box<dyn HeldSource>,
    record: &Record,
    marker: Option<&str>,
) -> ledger::Result<source::Result<bool>> {
    let is_done = record.state == State::Done;
    let mark = |state, flush| {
        let update = is_done.then_some((record.id, state, None));
        update.map_or(Ok(()), |update| ledger.set_states(&[update], flush))
    };
    mark(State::Changed, Flush::Now)?;
    let is_returned = match held.check(&TakeRequest { marker, ..TakeRequest::resumed(record) }) {
        Ok(TakeResult::Taken(held)) => {
            let finished = held.finish(&Disposal::of(record, marker, &|| ()));
            match finished.map_err(put_back) {
                Ok(()) => false,
                Err(Undisposed { error, stranded }) => return Ok(Err(stranded.unwrap_or(error))),
            }
        }
        Ok(TakeResult::Gone) => false,
        Ok(TakeResult::Replaced) => true,
        Ok(TakeResult::Busy) => return Ok(Ok(true)),
        Ok(TakeResult::Stranded(_, error)) | Err(error) => return Ok(Err(error)),
    };
    mark(State::Done, Flush::Deferred)?;
    Ok(Ok(is_returned))
}

/// Finishes the recorded move to quarantine; returns whether the source got its name back instead.
fn finish(
    held: Box<dyn HeldSource>,
    (record, marker): (&Record, Option<&str>),
    dispose: impl FnOnce(Box<dyn HeldSource>) -> source::Result<()>,
) -> source::Result<bool> {
    match held.check(&TakeRequest { marker, ..TakeRequest::resumed(record) })? {
        TakeResult::Taken(held) => dispose(held).map(|()| false),
        TakeResult::Gone => Ok(false),
        TakeResult::Replaced | TakeResult::Busy => Ok(true),
        TakeResult::Stranded(_, error) => Err(error),
    }
}

/// Moves a source to its recorded slot, where the reason file exists already. If the slot cannot be
/// used, the source gets its own name back and goes through the intake again.
fn quarantine(held: Box<dyn HeldSource>, slot: &Path, marker: Option<&str>) -> source::Result<()> {
    quarantine_source(held, slot, marker, &|| ())
        .or_else(|(held, _)| held.put_back().map_err(|(_, error)| error))
}

#[cfg(test)]
mod tests;
