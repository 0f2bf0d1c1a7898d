//! Does what the plan says, in an order that is safe at every instant.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Action, Error, IntentFacts, OpenedDirs, Quarantines, Summary};
use crate::{
    config, failpoint,
    fs::{self, Dir, NodeId, Overwrite, Walk},
    ledger::{Flush, Ledger, Output, PipelineId, Record, RecordId, State},
    observe::{display_path, is_full},
    pipeline::{
        context::SharedEvents,
        outcome,
        publish::dispose::{
            finish_source,
            held_source::{self, TakeResult},
        },
    },
    policy::OnSuccess,
};

/// What recovery works with.
#[expect(missing_debug_implementations, reason = "it holds closures")]
pub struct RecoveryContext<'a> {
    pub ledger: &'a dyn Ledger,
    pub events: &'a SharedEvents,
    pub roots: &'a HashMap<PipelineId, OpenedDirs>,
    pub patience: &'a Patience<'a>,
    pub quarantines: &'a Quarantines<'a>,
    /// The pipelines of this start; those of unfinished records may be among them no more.
    pub pipelines: &'a [config::Pipeline],
}

/// Waits a while where the events file has no space; false where it is not to wait any longer.
pub type Patience<'a> = dyn Fn(&std::io::Error) -> bool + 'a;

type StateUpdates = Vec<StateUpdate>;

/// Carries out the plan of every record: all names first, then one sync of each directory, then
/// the acknowledgements, then the sources.
pub fn apply(
    means: &RecoveryContext<'_>,
    plans: Vec<(IntentFacts, Action)>,
) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    let mut marks = StateUpdates::new();
    let mut named = Vec::new();
    let mut acknowledged = Vec::new();
    let mut unexplained_records = Vec::new();
    for (facts, action) in plans {
        let Some(roots) = means.roots.get(&facts.record.pipeline) else {
            continue;
        };
        let given = match action {
            Action::Publish | Action::Replace => name(roots, &facts.record, action),
            Action::FinishAndUnlink => unlink_temp(roots, &facts.record),
            Action::Finish | Action::Dispose => Ok(Named::Yes),
            Action::Withdraw => {
                summary.withdrawn += 1;
                marks.push(withdrawn(&facts));
                continue;
            }
            Action::Quarantine => {
                summary.quarantined += 1;
                unexplained_records.push(unexplained(roots, facts.record));
                continue;
            }
        };
        match given {
            Ok(Named::Yes) if action == Action::Dispose => acknowledged.push(facts.record),
            Ok(Named::Yes) => named.push(facts.record),
            Ok(Named::Taken) => {
                summary.withdrawn += 1;
                marks.push(withdrawn(&facts));
            }
            Err(error) => defer(roots, &facts.record, &error, &mut summary),
        }
    }
    failpoint::pass("recovery::named");
    let named = sync(means, named, &mut summary);
    summary.published = named.len() as u64;
    acknowledge_all(means, &named)?;
    failpoint::pass("recovery::acknowledged");
    marks.extend(named.iter().map(|record| (record.id, State::Published, None)));
    marks.extend(unexplained_records.iter().map(quarantined));
    failpoint::barrier("barrier::recovered_mark", || means.ledger.mark(&marks, Flush::Now))?;
    failpoint::pass("recovery::marked");
    for record in &unexplained_records {
        if let Some(roots) = means.roots.get(&record.pipeline) {
            means.quarantines.report(&roots.name, record).map_err(Error::Events)?;
        }
    }
    acknowledged.extend(named);
    let (there, away): (Vec<_>, Vec<_>) = with_input(means, acknowledged)?;
    summary.left += away.len() as u64;
    summary.disposed = dispose(means, &there)?;
    Ok(summary)
}

/// One output that cannot be finished keeps no other from it, and no pipeline from starting. It is
/// not acknowledged, so its record stays as it is, and its source too (V4).
fn defer(roots: &OpenedDirs, record: &Record, error: &Error, summary: &mut Summary) {
    tracing::warn!(event = "recovery.deferred", pipeline = %roots.name, source = %display_path(&record.source), %error, cause = error.cause(), "recovery cannot finish an output, deferred to the next start");
    summary.left += 1;
}

fn publication<'a>(
    means: &'a RecoveryContext<'_>,
    record: &'a Record,
) -> Option<outcome::Published<'a>> {
    let roots = means.roots.get(&record.pipeline)?;
    Some(outcome::Published { pipeline: &roots.name, record, took: None })
}

/// Where the events file has no space they wait for it: they have their names, and no later start
/// would publish them again.
fn acknowledge_all(means: &RecoveryContext<'_>, named: &[Record]) -> Result<(), Error> {
    let files: Vec<_> = named.iter().filter_map(|record| publication(means, record)).collect();
    // A full disk is no reason to wait where there is nothing to write.
    if files.is_empty() {
        return Ok(());
    }
    loop {
        match outcome::report_published(means.events, means.ledger.instance(), &files) {
            Err(error) if is_full(&error) => {
                if !(means.patience)(&error) {
                    return Err(Error::NoSpace(error));
                }
            }
            acknowledged => return acknowledged.map_err(Error::Events),
        }
    }
}

type StateUpdate = (RecordId, State, Option<String>);

fn withdrawn(facts: &IntentFacts) -> StateUpdate {
    let reason = if facts.moved {
        "its directory was moved"
    } else {
        "its name was taken while the service was down"
    };
    (facts.record.id, State::Withdrawn, Some(reason.to_owned()))
}

fn quarantined(record: &Record) -> StateUpdate {
    (record.id, State::Quarantined, record.reason.clone())
}

fn unexplained(roots: &OpenedDirs, record: Record) -> Record {
    let reason = "neither the output nor its temporary file is there: a consumer took it before it was acknowledged, or another hand removed it; the source stays, and is not processed again until it is requeued";
    tracing::warn!(event = "file.quarantined", pipeline = %roots.name, source = %display_path(&record.source), reason, "quarantined in place");
    Record { state: State::Quarantined, reason: Some(reason.to_owned()), ..record }
}

/// The directory of an output, and the output's part of the record.
fn directory<'a>(roots: &OpenedDirs, record: &'a Record) -> Result<(Dir, &'a Output), Error> {
    let output = record.output.as_ref();
    let path = output.map(|output| output.path.clone()).unwrap_or_default();
    let (parent, _) = fs::split(&path);
    let dir = roots.output.open_beneath(parent);
    match (dir, output) {
        (Ok(dir), Some(output)) => Ok((dir, output)),
        (dir, _) => Err(Error::Io {
            path: roots.output.path().join(path),
            action: "open the directory of",
            source: dir.err().unwrap_or_else(|| std::io::ErrorKind::NotFound.into()),
        }),
    }
}

/// Whether a temp got its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Yes,
    /// Another has it, since it was looked at: the output of a record before this one, or a file that
    /// came meanwhile.
    Taken,
}

fn name(roots: &OpenedDirs, record: &Record, action: Action) -> Result<Named, Error> {
    let (dir, output) = directory(roots, record)?;
    let (_, name) = fs::split(&output.path);
    let replace = if action == Action::Replace { Overwrite::Allow } else { Overwrite::Never };
    let renamed = failpoint::hit("recovery::rename")
        .and_then(|()| dir.rename(&output.temp, &dir, name, replace));
    match renamed {
        Ok(()) => Ok(Named::Yes),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(Named::Taken),
        Err(source) => Err(Error::Io { path: dir.path().join(name), action: "publish", source }),
    }
}

fn unlink_temp(roots: &OpenedDirs, record: &Record) -> Result<Named, Error> {
    let (dir, output) = directory(roots, record)?;
    let failed = |action, path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::Io { path, action, source }
    };
    // A power loss may take back a name that the last run gave, and must not find the other gone.
    dir.sync().map_err(failed("make durable", dir.path()))?;
    failpoint::hit("recovery::unlink")
        .and_then(|()| dir.unlink(&output.temp))
        .map(|()| Named::Yes)
        .map_err(failed("remove", &dir.path().join(&output.temp)))
}

/// Those whose names are durable now. The others are left: they are never acknowledged by a sync that
/// failed.
fn sync(means: &RecoveryContext<'_>, records: Vec<Record>, summary: &mut Summary) -> Vec<Record> {
    let mut synced: HashMap<(PipelineId, PathBuf), bool> = HashMap::new();
    let mut durable = Vec::with_capacity(records.len());
    for record in records {
        let Some(roots) = means.roots.get(&record.pipeline) else {
            continue;
        };
        let path = record.output.as_ref().map(|output| output.path.as_path());
        let (parent, _) = fs::split(path.unwrap_or_else(|| Path::new("")));
        let key = (record.pipeline, parent.to_path_buf());
        let is_durable = match synced.get(&key) {
            Some(false) => {
                summary.left += 1;
                false
            }
            Some(true) => true,
            None => {
                let done = sync_directory(roots, &record);
                if let Err(error) = &done {
                    defer(roots, &record, error, summary);
                }
                synced.insert(key, done.is_ok());
                done.is_ok()
            }
        };
        if is_durable {
            durable.push(record);
        }
    }
    durable
}

fn sync_directory(roots: &OpenedDirs, record: &Record) -> Result<(), Error> {
    let (dir, _) = directory(roots, record)?;
    failpoint::hit("recovery::directory")
        .and_then(|()| failpoint::barrier("barrier::recovered_directory", || dir.sync()))
        .map_err(|source| {
            let path = dir.path().to_path_buf();
            Error::Io { path, action: "make durable", source }
        })
}

/// The records whose sources can be looked for, and those whose input is not mounted: it is another
/// directory than it was, and there is nothing in it. A source that is not seen there may be under
/// its private name where the input is.
fn with_input(
    means: &RecoveryContext<'_>,
    records: Vec<Record>,
) -> Result<(Vec<Record>, Vec<Record>), Error> {
    let mut away = HashSet::new();
    for (id, roots) in means.roots {
        let noted = means.ledger.input_inode(*id)?;
        let is_another = fs::identity_of(&*roots.input)
            .is_ok_and(|now| noted.is_some_and(|inode| inode != now.inode));
        if is_another && Walk::new(Arc::clone(&roots.input), PathBuf::new()).next().is_none() {
            away.insert(*id);
        }
    }
    let kept = |record: &Record| record.on_success == OnSuccess::Keep;
    let (there, left): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|record| kept(record) || !away.contains(&record.pipeline));
    for roots in left.iter().filter_map(|record| means.roots.get(&record.pipeline)) {
        let input = roots.input.path();
        tracing::warn!(event = "recovery.deferred", pipeline = %roots.name, input = %display_path(input), "input is a different, empty directory, disposal deferred");
    }
    Ok((there, left))
}

/// The sources of published outputs. One that cannot be disposed of is met again by the intake.
fn dispose(means: &RecoveryContext<'_>, records: &[Record]) -> Result<u64, Error> {
    let instance = NodeId::new(means.ledger.instance());
    let mut marks = StateUpdates::new();
    for record in records {
        let Some(roots) = means.roots.get(&record.pipeline) else {
            continue;
        };
        let disposed = match record.on_success {
            OnSuccess::Keep => Ok(true),
            OnSuccess::Delete | OnSuccess::Archive(_) => {
                dispose_source(&roots.input, record, (&instance, marker(means, roots)))
            }
        };
        match disposed {
            Ok(true) => marks.push((record.id, State::Done, None)),
            // Nobody knows whether it was removed before, or stayed: the intake meets what is there.
            Ok(false) => marks.push((record.id, State::Changed, None)),
            Err(error) => {
                tracing::warn!(event = "recovery.dispose_failed", pipeline = %roots.name, source = %display_path(&record.source), %error, "cannot dispose of the source, retrying");
            }
        }
    }
    means.ledger.mark(&marks, Flush::Deferred)?;
    Ok(marks.len() as u64)
}

fn marker<'a>(means: &RecoveryContext<'a>, roots: &OpenedDirs) -> Option<&'a str> {
    let of = |pipeline: &&config::Pipeline| {
        pipeline.input == roots.input.path() && pipeline.output == roots.output.path()
    };
    means.pipelines.iter().find(of)?.marker.as_deref()
}

/// Whether it is disposed of; not where another file has its name, or someone writes it.
fn dispose_source(
    input: &Dir,
    record: &Record,
    (instance, marker): (&NodeId, Option<&str>),
) -> std::io::Result<bool> {
    let take = held_source::take(input, &record.source, &record.identity, (instance, record.id))?;
    match held_source::compare_content(take, record)? {
        TakeResult::Taken(taken) => finish_source(taken, record, marker).map(|()| true),
        TakeResult::Gone => Ok(true),
        TakeResult::Replaced | TakeResult::Busy => Ok(false),
        TakeResult::Stranded(_, error) => Err(error),
    }
}
