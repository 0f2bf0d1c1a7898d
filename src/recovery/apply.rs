//! Does what the plan says, in an order that is safe at every instant.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use super::{Action, Error, Facts, Roots, Summary};
use crate::{
    config, failpoint,
    fs::{self, Dir, Instance, Replace},
    ledger::{Id, Ledger, Output, PipelineId, Record, State, When},
    observe::shown,
    pipeline::{
        acknowledge,
        context::SharedEvents,
        publish::dispose::{
            finish_source,
            source::{self, Take},
        },
    },
    policy::OnSuccess,
};

/// What recovery works with.
#[derive(Debug)]
pub struct Means<'a> {
    pub ledger: &'a dyn Ledger,
    pub events: &'a SharedEvents,
    pub roots: &'a HashMap<PipelineId, Roots>,
    /// The pipelines of this start; those of unfinished records may be among them no more.
    pub pipelines: &'a [config::Pipeline],
}

type Marks = Vec<(Id, State, Option<String>)>;

/// Carries out the plan of every record: all names first, then one sync of each directory, then
/// the acknowledgements, then the sources.
pub fn apply(means: &Means<'_>, plans: Vec<(Facts, Action)>) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    let mut marks = Marks::new();
    let mut named = Vec::new();
    let mut acknowledged = Vec::new();
    for (facts, action) in plans {
        let Some(roots) = means.roots.get(&facts.record.pipeline) else {
            continue;
        };
        match action {
            Action::Publish => name(roots, &facts.record, Replace::No)?,
            Action::Replace => name(roots, &facts.record, Replace::Yes)?,
            Action::FinishAndUnlink => unlink_temp(roots, &facts.record)?,
            Action::Finish | Action::Dispose => {}
            Action::Withdraw => {
                summary.withdrawn += 1;
                let reason = "its name was taken while the service was down".to_owned();
                marks.push((facts.record.id, State::Withdrawn, Some(reason)));
                continue;
            }
            Action::Quarantine => {
                summary.quarantined += 1;
                marks.push(unexplained(roots, &facts.record));
                continue;
            }
        }
        if action == Action::Dispose {
            acknowledged.push(facts.record);
        } else {
            named.push(facts.record);
        }
    }
    failpoint::pass("recovery::named");
    summary.published = named.len() as u64;
    sync(means, &named)?;
    let told: Vec<_> = named.iter().filter_map(|record| told(means, record)).collect();
    acknowledge::published(means.events, &told).map_err(Error::Events)?;
    failpoint::pass("recovery::acknowledged");
    marks.extend(named.iter().map(|record| (record.id, State::Published, None)));
    failpoint::barrier("barrier::recovered_mark", || means.ledger.mark(&marks, When::Now))?;
    failpoint::pass("recovery::marked");
    acknowledged.extend(named);
    summary.disposed = dispose(means, &acknowledged)?;
    Ok(summary)
}

fn told<'a>(means: &'a Means<'_>, record: &'a Record) -> Option<acknowledge::Published<'a>> {
    let roots = means.roots.get(&record.pipeline)?;
    Some(acknowledge::Published { pipeline: &roots.name, record, took: None })
}

fn unexplained(roots: &Roots, record: &Record) -> (Id, State, Option<String>) {
    let reason = "neither the output nor its temporary file is there: a consumer took it before it was acknowledged, or another hand removed it; the source stays, and is not processed again until it is requeued";
    tracing::warn!(pipeline = %roots.name, source = %shown(&record.source), reason, "quarantined in place");
    (record.id, State::Quarantined, Some(reason.to_owned()))
}

/// The directory of an output, and the output's part of the record.
fn directory<'a>(roots: &Roots, record: &'a Record) -> Result<(Dir, &'a Output), Error> {
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

fn name(roots: &Roots, record: &Record, replace: Replace) -> Result<(), Error> {
    let (dir, output) = directory(roots, record)?;
    let (_, name) = fs::split(&output.path);
    dir.rename(&output.temp, &dir, name, replace).map_err(|source| Error::Io {
        path: dir.path().join(name),
        action: "publish",
        source,
    })
}

fn unlink_temp(roots: &Roots, record: &Record) -> Result<(), Error> {
    let (dir, output) = directory(roots, record)?;
    dir.unlink(&output.temp).map_err(|source| Error::Io {
        path: dir.path().join(&output.temp),
        action: "remove",
        source,
    })
}

fn sync(means: &Means<'_>, records: &[Record]) -> Result<(), Error> {
    let mut synced: HashSet<(PipelineId, PathBuf)> = HashSet::new();
    for record in records {
        let Some(roots) = means.roots.get(&record.pipeline) else {
            continue;
        };
        let Some(output) = &record.output else {
            continue;
        };
        let (parent, _) = fs::split(&output.path);
        if synced.insert((record.pipeline, parent.to_path_buf())) {
            let (dir, _) = directory(roots, record)?;
            failpoint::barrier("barrier::recovered_directory", || dir.sync()).map_err(
                |source| Error::Io {
                    path: dir.path().to_path_buf(),
                    action: "make durable",
                    source,
                },
            )?;
        }
    }
    Ok(())
}

/// The sources of published outputs. One that cannot be disposed of is met again by the intake.
fn dispose(means: &Means<'_>, records: &[Record]) -> Result<u64, Error> {
    let instance = Instance::new(means.ledger.instance());
    let mut marks = Marks::new();
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
                tracing::warn!(pipeline = %roots.name, source = %shown(&record.source), %error, "its output is published, and it cannot be disposed of: tried again");
            }
        }
    }
    means.ledger.mark(&marks, When::Later)?;
    Ok(marks.len() as u64)
}

fn marker<'a>(means: &Means<'a>, roots: &Roots) -> Option<&'a str> {
    let of = |pipeline: &&config::Pipeline| {
        pipeline.input == roots.input.path() && pipeline.output == roots.output.path()
    };
    means.pipelines.iter().find(of)?.marker.as_deref()
}

/// Whether it is disposed of; not where another file has its name, or someone writes it.
fn dispose_source(
    input: &Dir,
    record: &Record,
    (instance, marker): (&Instance, Option<&str>),
) -> std::io::Result<bool> {
    match source::take(input, &record.source, &record.identity, (instance, record.id))? {
        Take::Ours(taken) => finish_source(taken, record, marker).map(|()| true),
        Take::Gone => Ok(true),
        Take::Another | Take::Busy => Ok(false),
        Take::NotPutBack(_, error) => Err(error),
    }
}
