//! After an unclean stop: temps that no intent speaks for, and sources under their private name.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Error, Summary};
use crate::{
    fs::{self, Dir, Instance, Kind, Walk},
    ledger::{Ledger, Record, State, When},
    observe::shown,
    pipeline::{
        acknowledge,
        publish::dispose::{
            finish_source,
            source::{self, Take, Taken},
        },
    },
};

/// Why a source that lost content is not processed again.
const EARLIER: &str = "it lost content in a power loss, because its producer did not make it durable; the output of the whole content is published";

/// Walks the directories of the pipelines. Every intent was dealt with before, so a temp of this
/// ledger that is still there is nobody's.
pub fn sweep(
    ledger: &dyn Ledger,
    outputs: &BTreeSet<PathBuf>,
    inputs: &BTreeSet<PathBuf>,
    summary: &mut Summary,
) -> Result<(), Error> {
    let instance = Instance::new(ledger.instance());
    for root in outputs {
        for path in ours(root, |name| instance.is_temp(name)) {
            remove(root, &path)?;
            summary.temps_removed += 1;
        }
    }
    for root in inputs {
        for path in ours(root, |name| instance.private_id(name).is_some()) {
            let (_, name) = fs::split(&path);
            let record = match instance.private_id(name) {
                Some(id) => ledger.record(id)?,
                None => None,
            };
            summary.sources_returned +=
                u64::from(resolve(ledger, (root, &path), record, &instance)?);
        }
    }
    Ok(())
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
/// back. Whether it got it back.
fn resolve(
    ledger: &dyn Ledger,
    (root, path): (&Path, &Path),
    record: Option<Record>,
    mark: &Instance,
) -> Result<bool, Error> {
    let Some(record) = record else {
        tracing::warn!(path = %shown(&root.join(path)), "is a source under a private name that the ledger does not know: left for a person");
        return Ok(false);
    };
    let taken = Dir::open(root)
        .and_then(|input| source::taken_before(&input, &record.source, (mark, record.id)))
        .map_err(failed(root, path, "open the directory of"))?;
    let resolved = match (record.state, &record.moved_to) {
        (State::Published | State::Done, _) => {
            quarantine_earlier(ledger, &taken, &record)
                .map_err(failed(root, path, "look at"))?
                .map_or(Ok(()), |quarantined| ledger.append(&[quarantined], When::Now))?;
            finish(taken, &record, |taken| finish_source(taken, &record))
        }
        (State::Quarantined, Some(place)) => {
            finish(taken, &record, |taken| quarantine(taken, place))
        }
        _ => taken.put_back().map(|()| true).map_err(|(_, error)| error),
    };
    resolved.or_else(|source| {
        if source.kind() == std::io::ErrorKind::AlreadyExists {
            tracing::warn!(path = %shown(&root.join(path)), source = %shown(&record.source), "cannot get its name back, which another file has: left for a person");
            return Ok(false);
        }
        Err(failed(root, path, "dispose of")(source))
    })
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
        Take::Another => Ok(true),
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
