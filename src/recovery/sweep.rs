//! After an unclean stop: temps that no intent speaks for, and sources under their private name.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Error, Summary};
use crate::{
    config,
    fs::{self, Dir, Instance, Kind, Walk},
    ledger::{Ledger, PipelineId, Record, State, When},
    observe::shown,
    pipeline::{
        acknowledge,
        publish::dispose::{
            finish_source,
            quarantine::Case,
            source::{self, Take, Taken},
        },
    },
    stages::Stage,
};

/// Why a source that lost content is not processed again.
const EARLIER: &str = "it lost content in a power loss, because its producer did not make it durable; the output of the whole content is published";

/// Walks the directories of the pipelines. Every intent was dealt with before, so a temp of this
/// ledger that is still there is nobody's.
pub fn sweep(
    ledger: &dyn Ledger,
    pipelines: &[config::Pipeline],
    summary: &mut Summary,
) -> Result<(), Error> {
    let instance = Instance::new(ledger.instance());
    let outputs: BTreeSet<&Path> = pipelines
        .iter()
        .flat_map(|pipeline| [pipeline.output.as_path(), pipeline.quarantine.as_path()])
        .collect();
    for root in outputs {
        for path in ours(root, |name| instance.is_temp(name)) {
            remove(root, &path)?;
            summary.temps_removed += 1;
        }
    }
    let inputs: BTreeSet<&Path> =
        pipelines.iter().map(|pipeline| pipeline.input.as_path()).collect();
    for root in inputs {
        for path in ours(root, |name| instance.private_id(name).is_some()) {
            let (_, name) = fs::split(&path);
            let record = match instance.private_id(name) {
                Some(id) => ledger.record(id)?,
                None => None,
            };
            let means = Means { ledger, pipelines, instance: &instance };
            match resolve(means, (root, &path), record)? {
                Resolved::Returned => summary.sources_returned += 1,
                Resolved::SetAside => summary.quarantined += 1,
                Resolved::Otherwise => {}
            }
        }
    }
    Ok(())
}

/// What the private names are resolved with.
#[derive(Clone, Copy)]
struct Means<'a> {
    ledger: &'a dyn Ledger,
    pipelines: &'a [config::Pipeline],
    instance: &'a Instance,
}

/// What came of a source under its private name.
enum Resolved {
    /// It has its name again.
    Returned,
    /// It is in quarantine, because another file has its name.
    SetAside,
    /// It was disposed of, is gone, or is left for a person.
    Otherwise,
}

impl From<bool> for Resolved {
    fn from(is_returned: bool) -> Self {
        if is_returned { Self::Returned } else { Self::Otherwise }
    }
}

/// The files below a root whose name is one that is asked for. A root that is not there has none.
fn ours(root: &Path, wanted: impl Fn(&std::ffi::OsStr) -> bool) -> Vec<PathBuf> {
    let Ok(dir) = Dir::open(root) else {
        return Vec::new();
    };
    Walk::new(Arc::new(dir), PathBuf::new())
        .filter_map(Result::ok)
        .filter(|found| found.kind == Kind::File && wanted(fs::split(&found.path).1))
        .map(|found| found.path)
        .collect()
}

fn failed(root: &Path, path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    let path = root.join(path);
    move |source| Error::Io { path, action, source }
}

fn remove(root: &Path, path: &Path) -> Result<(), Error> {
    let (parent, name) = fs::split(path);
    Dir::open(root)
        .and_then(|root| root.open_beneath(parent))
        .and_then(|dir| dir.unlink(name))
        .map_err(failed(root, path, "remove the temporary file"))
}

/// A source that was taken by its private name when the process ended: what the ledger says was
/// begun with it is finished where it is still the file that was read, otherwise it gets its name
/// back. One that lost content, and whose name is another file's by now, goes to quarantine.
fn resolve(
    means: Means<'_>,
    (root, path): (&Path, &Path),
    record: Option<Record>,
) -> Result<Resolved, Error> {
    let Means { ledger, instance, .. } = means;
    let Some(record) = record else {
        tracing::warn!(path = %shown(&root.join(path)), "is a source under a private name that the ledger does not know: left for a person");
        return Ok(Resolved::Otherwise);
    };
    let taken = || {
        Dir::open(root)
            .and_then(|input| source::taken_before(&input, &record.source, (instance, record.id)))
            .map_err(failed(root, path, "open the directory of"))
    };
    let found = taken()?;
    let mut lost = None;
    let resolved = match (record.state, &record.moved_to) {
        (State::Published | State::Done | State::Changed, _) => {
            lost = quarantine_earlier(ledger, &found, &record)
                .map_err(failed(root, path, "look at"))?;
            ledger.append(lost.as_slice(), When::Now)?;
            let config = config_of(means, record.pipeline)?;
            let marker = config.and_then(|config| config.marker.as_deref());
            finish(found, &record, |taken| finish_source(taken, &record, marker))
        }
        (State::Quarantined, Some(place)) => {
            finish(found, &record, |taken| quarantine(taken, place))
        }
        _ => found.put_back().map(|()| true).map_err(|(_, error)| error),
    };
    match resolved {
        Ok(is_returned) => Ok(is_returned.into()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let config = config_of(means, record.pipeline)?;
            if let (Some(lost), Some(config)) = (lost, config) {
                return set_aside(means, config, &lost, taken()?);
            }
            tracing::warn!(path = %shown(&root.join(path)), source = %shown(&record.source), "cannot get its name back, which another file has: left for a person");
            Ok(Resolved::Otherwise)
        }
        Err(error) => Err(failed(root, path, "dispose of")(error)),
    }
}

fn config_of(means: Means<'_>, id: PipelineId) -> Result<Option<&config::Pipeline>, Error> {
    let roots = means.ledger.roots()?.into_iter().find(|roots| roots.id == id);
    Ok(roots.and_then(|roots| {
        let of = |config: &&config::Pipeline| {
            config.input == roots.input && config.output == roots.output
        };
        means.pipelines.iter().find(of)
    }))
}

/// As every file goes to quarantine: the ledger knows its place, then its reason stands there, then
/// it moves. What ends in between is done again at the next start.
fn set_aside(
    means: Means<'_>,
    config: &config::Pipeline,
    lost: &Record,
    taken: Taken,
) -> Result<Resolved, Error> {
    let case = Case {
        config,
        instance: means.instance,
        path: &lost.source,
        identity: lost.identity,
        stage: Stage::Dispose,
        reason: EARLIER,
        attempts: 0,
    };
    let failed = |action| failed(&config.input, &lost.source, action);
    let place = case.place().map_err(failed("find a place in quarantine for"))?;
    let moved = Record { moved_to: Some(place.path()), ..lost.clone() };
    means.ledger.append(&[moved], When::Now)?;
    case.write_reason(&place, Some(&place.path())).map_err(failed("write the reason of"))?;
    let moved = taken.move_to(&place.dir, &place.name).map_err(|(_, error)| error);
    moved.map_err(failed("move to quarantine"))?;
    tracing::warn!(pipeline = %config.name, source = %shown(&lost.source), place = %shown(&place.path()), "another file has its name: moved to quarantine");
    Ok(Resolved::SetAside)
}

/// The record that keeps an earlier state of a source from being processed, durable before it gets
/// its name back: a power loss took the content that its producer never made durable, and the
/// output of the whole content is published. None where it is no earlier state.
fn quarantine_earlier(
    ledger: &dyn Ledger,
    taken: &Taken,
    record: &Record,
) -> std::io::Result<Option<Record>> {
    let Some(found) = taken.identity()? else { return Ok(None) };
    let read = &record.identity;
    if found.matches_content(read) || !found.is_earlier_content_of(read) {
        return Ok(None);
    }
    let reason = EARLIER.to_owned();
    tracing::warn!(source = %shown(&record.source), reason, "quarantined in place");
    Ok(Some(Record {
        id: ledger.next_id(),
        identity: found.whatever_its_change_time(),
        output: None,
        state: State::Quarantined,
        reason: Some(reason),
        moved_to: None,
        at_ns: acknowledge::now_ns(),
        ..record.clone()
    }))
}

fn finish(
    taken: Taken,
    record: &Record,
    dispose: impl FnOnce(Taken) -> std::io::Result<()>,
) -> std::io::Result<bool> {
    match source::compare(taken, &record.identity)? {
        Take::Ours(taken) => dispose(taken).map(|()| false),
        Take::Gone => Ok(false),
        Take::Another | Take::Busy => Ok(true),
        Take::NotPutBack(_, error) => Err(error),
    }
}

/// Its reason stands there already, beside the place that the record names. Where the place cannot
/// be had it gets its own name back, and goes through the intake again.
fn quarantine(taken: Taken, place: &Path) -> std::io::Result<()> {
    let (parent, name) = fs::split(place);
    let moved = match Dir::open(parent) {
        Ok(dir) => taken.move_to(&dir, name).map(drop),
        Err(error) => Err((taken, error)),
    };
    moved.or_else(|(taken, _)| taken.put_back().map_err(|(_, error)| error))
}
