//! Carries out the plans, in an order that is safe at every instant.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use super::{
    Action, Error, IntentFacts, OpenedDirs, Quarantines, Summary, SweptInputs, Unconfirmed,
    mounts::{self, End, is_unmounted},
};
use crate::{
    config,
    error::chain,
    failpoint, fs,
    ledger::{Flush, Ledger, Output, PipelineId, Record, State, StateUpdate},
    observe::{display_path, is_repeatable},
    patience,
    policy::OnSuccess,
    protocol::{
        SharedOutcomeLog,
        disposal::finish_source,
        outcome,
        side_file::{self, Placement},
    },
    reason::{Reason, ReasonCode},
    sink::{self, Precondition},
    source::{self, Source, SourceError, TakeRequest, TakeResult},
};

/// The parts of the service that recovery works with.
#[expect(missing_debug_implementations, reason = "it holds closures")]
pub struct RecoveryContext<'a> {
    pub ledger: &'a dyn Ledger,
    pub events: &'a SharedOutcomeLog,
    pub roots: &'a HashMap<PipelineId, OpenedDirs>,
    pub patience: &'a Patience<'a>,
    pub quarantines: &'a Quarantines<'a>,
    /// Counts one acknowledged output for the pipeline of this name.
    pub count_published: &'a Count<'a>,
    /// The pipelines of this start; a pipeline with unfinished records may no longer be among them.
    pub pipelines: &'a [config::Pipeline],
}

/// Counts one record for the pipeline of this name.
pub type Count<'a> = dyn Fn(&str, &Record) + 'a;

/// Waits a while for space in the events file; returns false if recovery must not wait any longer.
pub type Patience<'a> = dyn Fn(&std::io::Error) -> bool + 'a;

type StateUpdates = Vec<StateUpdate>;

/// Carries out the plan of every record: all names first, then one sync of each directory, then the
/// acknowledgements, then the sources. Returns the disposals that the sweep confirms.
pub fn apply(
    context: &RecoveryContext<'_>,
    plans: Vec<(IntentFacts, Action)>,
) -> Result<(Summary, Vec<Unconfirmed>), Error> {
    let mut summary = Summary::default();
    let mut updates = StateUpdates::new();
    let mut named = Vec::new();
    let mut acknowledged = Vec::new();
    let mut unexplained = Vec::new();
    for (facts, action) in plans {
        let Some(roots) = context.roots.get(&facts.record.pipeline) else {
            continue;
        };
        let naming = match action {
            Action::Publish | Action::Replace => give_names(roots, &facts.record, action),
            Action::FinishAndUnlink => complete_side_file(roots, &facts.record)
                .and_then(|()| remove_staged_name(roots, &facts.record)),
            Action::Finish => complete_side_file(roots, &facts.record).map(|()| Naming::Done),
            Action::Dispose => Ok(Naming::Done),
            Action::Withdraw => Ok(Naming::Taken),
            Action::Quarantine => {
                summary.quarantined += 1;
                unexplained.push(quarantine_unexplained(roots, facts.record));
                continue;
            }
        };
        match naming {
            Ok(Naming::Done) if action == Action::Dispose => acknowledged.push(facts.record),
            Ok(Naming::Done) => named.push(facts.record),
            Ok(Naming::Taken) => match undo_side_file(context.ledger, roots, &facts.record) {
                Ok(()) => {
                    summary.withdrawn += 1;
                    updates.push(withdrawal_of(&facts));
                }
                Err(error) => defer(roots, &facts.record, &error, &mut summary),
            },
            Err(error) => defer(roots, &facts.record, &error, &mut summary),
        }
    }
    failpoint::pass("recovery::named");
    let named = sync(context, named, &mut summary);
    summary.published = named.len() as u64;
    acknowledge_all(context, &named)?;
    failpoint::pass("recovery::acknowledged");
    updates.extend(named.iter().map(|record| (record.id, State::Published, None)));
    // Before the mark: a start that is killed in between reports it again.
    for record in &unexplained {
        if let Some(roots) = context.roots.get(&record.pipeline) {
            context.quarantines.report(&roots.name, record).map_err(Error::Events)?;
        }
    }
    updates.extend(unexplained.iter().map(quarantine_of));
    // An attempt to dispose of a source moves its change time: by an intent it would be a new one.
    updates.extend(acknowledged.iter().map(|record| (record.id, State::Published, None)));
    failpoint::barrier("barrier::recovered_mark", || {
        context.ledger.set_states(&updates, Flush::Now)
    })?;
    failpoint::pass("recovery::marked");
    acknowledged.extend(named);
    let (disposable, unreachable): (Vec<_>, Vec<_>) = split_by_input(context, acknowledged)?;
    summary.deferred += unreachable.len() as u64;
    let unconfirmed = dispose(context, &disposable, &mut summary)?;
    failpoint::pass("recovery::disposed");
    Ok((summary, unconfirmed))
}

/// Defers an output that cannot be finished. It holds up no other output and no pipeline's start.
/// It is not acknowledged, so its record and its source stay as they are (V4).
fn defer(roots: &OpenedDirs, record: &Record, error: &Error, summary: &mut Summary) {
    tracing::warn!(event = "recovery.deferred", pipeline = %roots.name, source = %display_path(&record.source), error = chain(error), "recovery cannot finish an output, deferred to the next start");
    summary.deferred += 1;
}

fn publication<'a>(
    context: &'a RecoveryContext<'_>,
    record: &'a Record,
) -> Option<outcome::Published<'a>> {
    let roots = context.roots.get(&record.pipeline)?;
    Some(outcome::Published { pipeline: &roots.name, record, took: None, attempts: 1 })
}

/// Acknowledges the named outputs. If the events file cannot be written they wait for it: they have
/// their names, and no later start would publish them again.
fn acknowledge_all(context: &RecoveryContext<'_>, named: &[Record]) -> Result<(), Error> {
    let files: Vec<_> = named.iter().filter_map(|record| publication(context, record)).collect();
    // With nothing to write, a full disk is no reason to wait.
    if files.is_empty() {
        return Ok(());
    }
    loop {
        match outcome::report_published(context.events, context.ledger.instance(), &files) {
            Ok(()) => break,
            Err(error) if is_repeatable(&error) => {
                if !(context.patience)(&error) {
                    return Err(Error::EventsUnavailable(error));
                }
            }
            Err(error) => return Err(Error::Events(error)),
        }
    }
    for outcome::Published { pipeline, record, .. } in files {
        (context.count_published)(pipeline, record);
    }
    Ok(())
}

fn withdrawal_of(facts: &IntentFacts) -> StateUpdate {
    let reason = if facts.moved {
        Reason::new(ReasonCode::DirectoryMoved, "its directory was moved")
    } else {
        Reason::new(ReasonCode::NameTaken, "its name was taken while the service was down")
    };
    (facts.record.id, State::Withdrawn, Some(reason))
}

fn quarantine_of(record: &Record) -> StateUpdate {
    (record.id, State::Quarantined, record.reason.clone())
}

fn quarantine_unexplained(roots: &OpenedDirs, record: Record) -> Record {
    let code = ReasonCode::OutputMissing;
    let reason = "neither the output nor its temporary file exists: a consumer took it before it was acknowledged, or another process removed it; the source stays and is not processed again until it is requeued";
    tracing::warn!(event = "file.quarantined", pipeline = %roots.name, source = %display_path(&record.source), reason_code = %code, reason, "quarantined in place");
    Record { state: State::Quarantined, reason: Some(Reason::new(code, reason)), ..record }
}

/// Returns the output's part of the record.
fn output_of(record: &Record) -> Result<&Output, Error> {
    let missing = || Error::Io {
        path: record.source.clone(),
        action: "find the output of",
        source: std::io::ErrorKind::NotFound.into(),
    };
    record.output.as_ref().ok_or_else(missing)
}

/// The result of giving a temp its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    Done,
    /// Another file took the name since the inspection: the output of an earlier record, or a new
    /// file.
    Taken,
}

/// Gives the checksum file of an output its name, and then the output (C8).
fn give_names(roots: &OpenedDirs, record: &Record, action: Action) -> Result<Naming, Error> {
    match side_file::place(&*roots.sink, output_of(record)?)? {
        Placement::Placed => {}
        Placement::Taken => return Ok(Naming::Taken),
    }
    failpoint::pass("recovery::side_named");
    let named = give_name(roots, record, action)?;
    if named == Naming::Done {
        side_file::complete(&*roots.sink, output_of(record)?)?;
    }
    Ok(named)
}

fn complete_side_file(roots: &OpenedDirs, record: &Record) -> Result<(), Error> {
    Ok(side_file::complete(&*roots.sink, output_of(record)?)?)
}

/// Undoes the publication of a checksum file before its intent is withdrawn (C9).
fn undo_side_file(ledger: &dyn Ledger, roots: &OpenedDirs, record: &Record) -> Result<(), Error> {
    side_file::undo(&*roots.sink, output_of(record)?, |path| {
        Ok(ledger.latest_for_output(record.pipeline, path)?.is_some())
    })
}

fn give_name(roots: &OpenedDirs, record: &Record, action: Action) -> Result<Naming, Error> {
    let output = output_of(record)?;
    let is_replaced = action == Action::Replace;
    let precondition = if is_replaced { Precondition::of(output) } else { Precondition::Absent };
    let named = failpoint::hit("recovery::rename")
        .map_err(|error| sink::Error::of_publish(roots.output.join(&output.path), error))
        .and_then(|()| roots.sink.resume(output, precondition));
    match named {
        Ok(()) => Ok(Naming::Done),
        Err(error) if error.kind == sink::ErrorKind::Taken => Ok(Naming::Taken),
        Err(error) => Err(error.into()),
    }
}

fn remove_staged_name(roots: &OpenedDirs, record: &Record) -> Result<Naming, Error> {
    roots.sink.remove_staged_name(output_of(record)?)?;
    Ok(Naming::Done)
}

/// Syncs the directories and returns the records whose names are durable now. The others are
/// deferred: after a failed sync they are never acknowledged.
fn sync(context: &RecoveryContext<'_>, records: Vec<Record>, summary: &mut Summary) -> Vec<Record> {
    let mut synced: HashMap<(PipelineId, PathBuf), bool> = HashMap::new();
    let mut durable = Vec::with_capacity(records.len());
    for record in records {
        let Some(roots) = context.roots.get(&record.pipeline) else {
            continue;
        };
        let path = record.output.as_ref().map(|output| output.path.as_path());
        let (parent, _) = fs::split(path.unwrap_or_else(|| Path::new("")));
        let key = (record.pipeline, parent.to_path_buf());
        let is_durable = match synced.get(&key) {
            Some(false) => {
                summary.deferred += 1;
                false
            }
            Some(true) => true,
            None => {
                let synced_now =
                    output_of(&record).and_then(|output| Ok(roots.sink.sync_name(&output.path)?));
                if let Err(error) = &synced_now {
                    defer(roots, &record, error, summary);
                }
                synced.insert(key, synced_now.is_ok());
                synced_now.is_ok()
            }
        };
        if is_durable {
            durable.push(record);
        }
    }
    durable
}

/// Splits records into those whose sources can be found and those of an input that is not mounted, where
/// it is another directory than before, and empty, or of a directory that does not respond. A source that
/// is not found there may be under its private name in the real input.
fn split_by_input(
    context: &RecoveryContext<'_>,
    records: Vec<Record>,
) -> Result<(Vec<Record>, Vec<Record>), Error> {
    let mut unmounted = HashSet::new();
    for (id, roots) in context.roots {
        if is_unmounted(context.ledger, *id, End::Input(&*roots.input))? {
            unmounted.insert(*id);
            let input = roots.input.path();
            tracing::warn!(event = "recovery.deferred", pipeline = %roots.name, input = %display_path(input), hint = mounts::HINT, "input replaced by an empty directory, disposals deferred");
        }
    }
    let mut responding: HashMap<PathBuf, bool> = HashMap::new();
    let mut is_reachable = |record: &Record| {
        let Some(roots) = context.roots.get(&record.pipeline) else { return true };
        let (parent, _) = fs::split(&record.source);
        let directory = roots.input.path().join(parent);
        *responding.entry(directory).or_insert_with_key(|directory| {
            let responds = patience::responds(directory);
            if !responds {
                tracing::warn!(event = "recovery.deferred", pipeline = %roots.name, path = %display_path(directory), "directory does not respond, disposals deferred");
            }
            responds
        })
    };
    Ok(records.into_iter().partition(|record| {
        record.on_success == OnSuccess::Keep
            || !unmounted.contains(&record.pipeline) && is_reachable(record)
    }))
}

/// Disposes of the sources of published outputs. The intake finds a source again that cannot be
/// disposed of.
fn dispose(
    context: &RecoveryContext<'_>,
    records: &[Record],
    summary: &mut Summary,
) -> Result<Vec<Unconfirmed>, Error> {
    let mut updates = StateUpdates::new();
    let mut unconfirmed = Vec::new();
    for record in records {
        let Some(roots) = context.roots.get(&record.pipeline) else {
            continue;
        };
        let disposed = match record.on_success {
            OnSuccess::Keep => Ok(Disposed::Done),
            OnSuccess::Delete | OnSuccess::Archive(_) => {
                dispose_source(&*roots.input, record, marker_of(context, roots))
            }
        };
        match disposed {
            Ok(Disposed::Done) => updates.push((record.id, State::Done, None)),
            Ok(Disposed::Gone) => unconfirmed.push(Unconfirmed::new(record, State::Done)),
            // It is unknown whether it was removed before, or stayed: the intake handles the file
            // that exists.
            Ok(Disposed::Stays) => unconfirmed.push(Unconfirmed::new(record, State::Changed)),
            Err(SourceError { source: error, .. }) => {
                tracing::warn!(event = "recovery.dispose_failed", pipeline = %roots.name, source = %display_path(&record.source), %error, "cannot dispose of the source, retrying");
            }
        }
    }
    context.ledger.set_states(&updates, Flush::Deferred)?;
    summary.disposed += (updates.len() + unconfirmed.len()) as u64;
    Ok(unconfirmed)
}

/// Marks the disposals in the inputs that were searched completely.
pub fn confirm(
    context: &RecoveryContext<'_>,
    (unconfirmed, swept): (&[Unconfirmed], &SweptInputs),
) -> Result<(), Error> {
    let is_searched = |disposal: &&Unconfirmed| {
        let roots = context.roots.get(&disposal.pipeline);
        roots.is_some_and(|roots| swept.searched.contains(roots.input.path()))
    };
    let searched = unconfirmed.iter().filter(is_searched);
    let updates: Vec<_> = searched.filter_map(|disposal| disposal.update(swept)).collect();
    Ok(context.ledger.set_states(&updates, Flush::Deferred)?)
}

fn marker_of<'a>(context: &RecoveryContext<'a>, roots: &OpenedDirs) -> Option<&'a str> {
    let is_of_roots = |pipeline: &&config::Pipeline| {
        pipeline.input == roots.input.path() && pipeline.output == roots.output
    };
    context.pipelines.iter().find(is_of_roots)?.keys.marker.as_deref()
}

/// The end of a source in recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disposed {
    Done,
    /// No file has its name: it was removed before, or has its private name.
    Gone,
    /// Another file has its name, or a process writes it.
    Stays,
}

/// Disposes of a source.
fn dispose_source(
    input: &dyn Source,
    record: &Record,
    marker: Option<&str>,
) -> source::Result<Disposed> {
    let wanted = TakeRequest { marker, ..TakeRequest::resumed(record) };
    match input.take(&wanted)? {
        // Recovery is not watched for its progress.
        TakeResult::Taken(held) => finish_source(held, record, marker, &|| ())
            .map(|()| Disposed::Done)
            // The sweep that follows finds one that has its private name still.
            .map_err(|undisposed| undisposed.error),
        TakeResult::Gone => Ok(Disposed::Gone),
        TakeResult::Replaced | TakeResult::Busy => Ok(Disposed::Stays),
        TakeResult::Stranded(_, error) => Err(error),
    }
}
