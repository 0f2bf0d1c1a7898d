//! After an unclean stop: temps that no intent speaks for, and sources under their private name.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::{OsStr, OsString},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Error, Quarantines, Summary};
use crate::{
    config::{self, Pipeline},
    fingerprint::Fingerprint,
    fs::{self, Dir, Kind, NodeId, Walk},
    ledger::{Flush, Ledger, PipelineId, Record, State},
    observe::display_path,
    patience,
    pipeline::{
        outcome,
        publish::dispose::{
            finish_source,
            held_source::{self, HeldSource, TakeResult},
            quarantine::QuarantineEntry,
            quarantine_source,
        },
    },
    policy::OnSuccess,
    stage::Stage,
};

/// Why a source that lost content is not processed again.
const EARLIER: &str = "it lost content in a power loss, because its producer did not make it durable; the output of the whole content is published";

/// Walks the directories of the pipelines. A temp of this ledger is nobody's, unless an unfinished
/// record names it: that of a pipeline whose directories could not be opened, or that is configured no
/// more (C4). What cannot be looked at counts as left.
pub fn sweep(
    ledger: &dyn Ledger,
    quarantines: &Quarantines<'_>,
    pipelines: &[config::Pipeline],
    summary: &mut Summary,
) -> Result<(), Error> {
    let instance = NodeId::new(ledger.instance());
    let intended = intended(ledger)?;
    let temps: BTreeSet<(&Path, Root)> = pipelines
        .iter()
        .flat_map(|Pipeline { output, quarantine, on_success, .. }| {
            let archive = match on_success {
                OnSuccess::Archive(archive) => Some((archive, Root::Configured)),
                OnSuccess::Keep | OnSuccess::Delete => None,
            };
            let configured = [Some((output, Root::Configured)), archive].into_iter().flatten();
            let configured = configured.map(|(root, kind)| (root.as_path(), kind));
            configured.chain([quarantine_root(quarantine)])
        })
        .collect();
    let nobodys = |name: &OsStr| instance.is_temp(name) && !intended.contains(name);
    for root in temps {
        for path in ours(root, nobodys, summary) {
            match remove(root.0, &path) {
                Ok(()) => summary.temps_removed += 1,
                Err(error) => left_for_later(&error, summary),
            }
        }
    }
    let inputs: BTreeSet<&Path> =
        pipelines.iter().map(|pipeline| pipeline.input.as_path()).collect();
    for root in inputs {
        let asked = |name: &OsStr| nobodys(name) || instance.private_id(name).is_some();
        for path in ours((root, Root::Configured), asked, summary) {
            let (_, name) = fs::split(&path);
            // Only the probe of the start makes temps in an input.
            if instance.is_temp(name) {
                if let Err(error) = remove(root, &path) {
                    left_for_later(&error, summary);
                }
                continue;
            }
            let record = match instance.private_id(name) {
                Some(id) => ledger.record(id)?,
                None => None,
            };
            let means = SweepContext { ledger, quarantines, pipelines, instance: &instance };
            match resolve(means, (root, &path), record) {
                Ok(Resolved::Returned) => summary.sources_returned += 1,
                Ok(Resolved::SetAside) => summary.quarantined += 1,
                Ok(Resolved::Otherwise) => {}
                Err(error @ Error::Io { .. }) => left_for_later(&error, summary),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// One name that cannot be dealt with keeps no pipeline from starting.
fn left_for_later(error: &Error, summary: &mut Summary) {
    tracing::warn!(event = "recovery.deferred", %error, cause = error.cause(), "recovery deferred a file to a later start");
    summary.left += 1;
}

/// The temps that unfinished records name.
fn intended(ledger: &dyn Ledger) -> Result<HashSet<OsString>, Error> {
    let records = ledger.unfinished()?.into_iter();
    Ok(records.filter_map(|record| record.output).map(|output| output.temp).collect())
}

/// A directory that is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Root {
    Configured,
    /// Made when the first file comes into it.
    Quarantine,
    /// The nearest directory above a quarantine that is not made yet, in which the start tried what the
    /// file system can do; not what is below it.
    AboveQuarantine,
}

fn quarantine_root(quarantine: &Path) -> (&Path, Root) {
    if patience::responds(quarantine)
        && !quarantine.exists()
        && let Some(above) = quarantine.ancestors().skip(1).find(|above| above.exists())
    {
        return (above, Root::AboveQuarantine);
    }
    (quarantine, Root::Quarantine)
}

/// What the private names are resolved with.
#[derive(Clone, Copy)]
struct SweepContext<'a> {
    ledger: &'a dyn Ledger,
    quarantines: &'a Quarantines<'a>,
    pipelines: &'a [config::Pipeline],
    instance: &'a NodeId,
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

/// The files below a root whose name is one that is asked for. A quarantine that is made when a file
/// comes into it has none; every other directory that cannot be listed is left for a later start.
fn ours(
    (root, kind): (&Path, Root),
    wanted: impl Fn(&OsStr) -> bool,
    summary: &mut Summary,
) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut unlisted = |path: &Path, error: &std::io::Error| {
        tracing::warn!(event = "recovery.deferred", path = %display_path(path), %error, "cannot search a directory, deferred to a later start");
        summary.left += 1;
    };
    if !patience::responds(root) {
        unlisted(root, &ErrorKind::TimedOut.into());
        return found;
    }
    let dir = match Dir::open(root) {
        Ok(dir) => dir,
        Err(error) if kind == Root::Quarantine && error.kind() == ErrorKind::NotFound => {
            return found;
        }
        Err(error) => {
            unlisted(root, &error);
            return found;
        }
    };
    let mut walk = Walk::new(Arc::new(dir), PathBuf::new());
    while let Some(entry) = walk.next() {
        match entry {
            Ok(entry) if kind == Root::AboveQuarantine && entry.kind == Kind::Directory => {
                walk.pass_over();
            }
            Ok(entry) if entry.kind == Kind::File && wanted(fs::split(&entry.path).1) => {
                found.push(entry.path);
            }
            Ok(_) => {}
            // Nothing of ours is where we may not look: `lost+found`, another user's directory.
            Err((path, error)) if error.kind() == ErrorKind::PermissionDenied => {
                tracing::debug!(event = "recovery.not_searched", path = %display_path(&root.join(path)), %error, "is not searched");
            }
            Err((path, error)) => unlisted(&root.join(path), &error),
        }
    }
    found
}

fn failed(root: &Path, path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    let path = root.join(path);
    move |source| Error::Io { path, action, source }
}

fn remove(root: &Path, path: &Path) -> Result<(), Error> {
    let (parent, name) = fs::split(path);
    Dir::open(root)
        .and_then(|root| root.open_beneath(parent))
        .and_then(|dir| dir.unlink_own(name))
        .map_err(failed(root, path, "remove the temporary file"))
}

/// A source that was taken by its private name when the process ended: what the ledger says was
/// begun with it is finished where it is still the file that was read, otherwise it gets its name
/// back. One that lost content, and whose name is another file's by now, goes to quarantine.
fn resolve(
    means: SweepContext<'_>,
    (root, path): (&Path, &Path),
    record: Option<Record>,
) -> Result<Resolved, Error> {
    let SweepContext { ledger, instance, .. } = means;
    let Some(record) = record else {
        tracing::warn!(event = "recovery.stranded", path = %display_path(&root.join(path)), "source under an unknown private name, left for the operator");
        return Ok(Resolved::Otherwise);
    };
    // Its directory may have been renamed since, or the file before that.
    let named = fs::split(path).0.join(fs::split(&record.source).1);
    let taken = || {
        Dir::open(root)
            .and_then(|input| held_source::taken_before(&input, &named, (instance, record.id)))
            .map_err(failed(root, path, "open the directory of"))
    };
    let found = taken()?;
    let lost = match found.identity().map_err(failed(root, path, "look at"))? {
        Some(identity) => quarantine_earlier(ledger, identity, &record)?,
        None => None,
    };
    if let Some(lost) = &lost {
        ledger.append(std::slice::from_ref(lost), Flush::Now)?;
        report(means, lost)?;
    }
    let resolved = match (record.state, &record.moved_to) {
        (State::Published | State::Done | State::Changed, _) => {
            let config = config_of(means, record.pipeline)?;
            let marker = config.and_then(|config| config.marker.as_deref());
            finish(found, &record, |taken| finish_source(taken, &record, marker))
        }
        (State::Quarantined, Some(place)) => {
            let config = config_of(means, record.pipeline)?;
            let marker = config.and_then(|config| config.marker.as_deref());
            finish(found, &record, |taken| quarantine(taken, place, marker))
        }
        _ => found.put_back().map(|()| true).map_err(|(_, error)| error),
    };
    match resolved {
        Ok(is_returned) => Ok(is_returned.into()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let config = config_of(means, record.pipeline)?;
            if let (Some(lost), Some(config)) = (lost, config) {
                return set_aside(means, config, &lost, taken()?);
            }
            tracing::warn!(event = "recovery.stranded", path = %display_path(&root.join(path)), source = %display_path(&record.source), "original name taken, source kept under its private name");
            Ok(Resolved::Otherwise)
        }
        Err(error) => Err(failed(root, path, "dispose of")(error)),
    }
}

fn report(means: SweepContext<'_>, lost: &Record) -> Result<(), Error> {
    let roots = means.ledger.roots()?.into_iter().find(|roots| roots.id == lost.pipeline);
    let name = roots.map(|roots| roots.name).unwrap_or_default();
    means.quarantines.report(&name, lost).map_err(Error::Events)
}

fn config_of(means: SweepContext<'_>, id: PipelineId) -> Result<Option<&config::Pipeline>, Error> {
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
    means: SweepContext<'_>,
    config: &config::Pipeline,
    lost: &Record,
    taken: HeldSource,
) -> Result<Resolved, Error> {
    let case = QuarantineEntry {
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
    means.ledger.append(&[moved], Flush::Now)?;
    case.write_reason(&place, Some(&place.path())).map_err(failed("write the reason of"))?;
    let moved = taken.move_to(&place.dir, &place.name).map_err(|(_, error)| error);
    moved.map_err(failed("move to quarantine"))?;
    tracing::warn!(event = "recovery.quarantined", pipeline = %config.name, source = %display_path(&lost.source), place = %display_path(&place.path()), "original name taken, source moved to quarantine");
    Ok(Resolved::SetAside)
}

/// The record that keeps an earlier state of a source from being processed, durable before it gets
/// its name back: a power loss took the content that its producer never made durable, and the
/// output of the whole content is published. None where it is no earlier state.
///
/// The private name may be an earlier file's: the one that took its place was taken by it for a moment,
/// and the power loss came before it had its own name back.
fn quarantine_earlier(
    ledger: &dyn Ledger,
    found: Fingerprint,
    record: &Record,
) -> Result<Option<Record>, Error> {
    // It is what the name's record read, whoever had its inode before.
    if found.matches_content(&record.identity) {
        return Ok(None);
    }
    let published = ledger.latest_of_inode(record.pipeline, &record.source, found.inode)?;
    let Some(record) = published.filter(|published| {
        let read = &published.identity;
        !found.matches_content(read) && found.is_earlier_content_of(read)
    }) else {
        return Ok(None);
    };
    let reason = EARLIER.to_owned();
    tracing::warn!(event = "file.quarantined", source = %display_path(&record.source), reason, "quarantined in place");
    Ok(Some(Record {
        id: ledger.next_id(),
        identity: found.ignoring_ctime(),
        output: None,
        state: State::Quarantined,
        reason: Some(reason),
        moved_to: None,
        at_ns: outcome::now_ns(),
        ..record
    }))
}

fn finish(
    taken: HeldSource,
    record: &Record,
    dispose: impl FnOnce(HeldSource) -> std::io::Result<()>,
) -> std::io::Result<bool> {
    match held_source::compare_content(held_source::compare(taken, &record.identity)?, record)? {
        TakeResult::Taken(taken) => dispose(taken).map(|()| false),
        TakeResult::Gone => Ok(false),
        TakeResult::Replaced | TakeResult::Busy => Ok(true),
        TakeResult::Stranded(_, error) => Err(error),
    }
}

/// Its reason stands there already, beside the place that the record names. Where the place cannot
/// be had it gets its own name back, and goes through the intake again.
fn quarantine(taken: HeldSource, place: &Path, marker: Option<&str>) -> std::io::Result<()> {
    let (parent, name) = fs::split(place);
    let moved = match Dir::open(parent) {
        Ok(dir) => quarantine_source(taken, (&Arc::new(dir), name), marker),
        Err(error) => Err((taken, error)),
    };
    moved.or_else(|(taken, _)| taken.put_back().map_err(|(_, error)| error))
}
