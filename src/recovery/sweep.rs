//! Cleans up after an unclean stop: temps without an intent, and sources under their private names.

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
    policy::OnSuccess,
    protocol::{
        disposal::{finish_source, quarantine_source},
        held_source::{self, HeldSource, TakeResult},
        outcome,
        quarantine::QuarantineEntry,
    },
    stage::Stage,
};

/// The reason for which a source that lost content is not processed again.
const EARLIER: &str = "it lost content in a power loss, because its producer did not make it durable; the output of the complete content is published";

/// Walks the directories of the pipelines. Temps of this ledger that no unfinished record names are
/// removed. A record may belong to a pipeline whose directories could not be opened, or that is no
/// longer configured (C4). Files and directories that cannot be inspected count as deferred.
pub fn sweep(
    ledger: &dyn Ledger,
    quarantines: &Quarantines<'_>,
    pipelines: &[config::Pipeline],
    summary: &mut Summary,
) -> Result<(), Error> {
    let instance = NodeId::new(ledger.instance());
    let intended = intended_temps(ledger)?;
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
    let is_orphan = |name: &OsStr| instance.is_temp(name) && !intended.contains(name);
    for root in temps {
        for path in find_files(root, is_orphan, summary) {
            match remove(root.0, &path) {
                Ok(()) => summary.temps_removed += 1,
                Err(error) => defer(&error, summary),
            }
        }
    }
    let inputs: BTreeSet<&Path> =
        pipelines.iter().map(|pipeline| pipeline.input.as_path()).collect();
    for root in inputs {
        let is_wanted = |name: &OsStr| is_orphan(name) || instance.private_id(name).is_some();
        for path in find_files((root, Root::Configured), is_wanted, summary) {
            let (_, name) = fs::split(&path);
            // Only the probe at the start makes temps in an input.
            if instance.is_temp(name) {
                if let Err(error) = remove(root, &path) {
                    defer(&error, summary);
                }
                continue;
            }
            let record = match instance.private_id(name) {
                Some(id) => ledger.record(id)?,
                None => None,
            };
            let context = SweepContext { ledger, quarantines, pipelines, instance: &instance };
            match resolve(context, (root, &path), record) {
                Ok(SourceOutcome::Returned) => summary.sources_returned += 1,
                Ok(SourceOutcome::Quarantined) => summary.quarantined += 1,
                Ok(SourceOutcome::Kept) => {}
                Err(error @ Error::Io { .. }) => defer(&error, summary),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Defers a file to a later start: one name that cannot be handled holds up no pipeline's start.
fn defer(error: &Error, summary: &mut Summary) {
    tracing::warn!(event = "recovery.deferred", %error, cause = error.cause(), "recovery deferred a file to a later start");
    summary.deferred += 1;
}

/// Returns the temps that unfinished records name.
fn intended_temps(ledger: &dyn Ledger) -> Result<HashSet<OsString>, Error> {
    let records = ledger.unfinished()?.into_iter();
    Ok(records.filter_map(|record| record.output).map(|output| output.temp).collect())
}

/// The type of a searched directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Root {
    Configured,
    /// Created with the first file that is quarantined.
    Quarantine,
    /// The nearest directory above a quarantine that does not exist yet, where the start probed the
    /// file system. Its subdirectories are not searched.
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

/// The parts of the service that resolve private names.
#[derive(Clone, Copy)]
struct SweepContext<'a> {
    ledger: &'a dyn Ledger,
    quarantines: &'a Quarantines<'a>,
    pipelines: &'a [config::Pipeline],
    instance: &'a NodeId,
}

/// The result of resolving a private name.
enum SourceOutcome {
    /// The source has its original name again.
    Returned,
    /// The source is in quarantine, because another file has its name.
    Quarantined,
    /// The source was disposed of, is gone, or is kept for the operator.
    Kept,
}

impl From<bool> for SourceOutcome {
    fn from(is_returned: bool) -> Self {
        if is_returned { Self::Returned } else { Self::Kept }
    }
}

/// Returns the files below a root whose names match. A quarantine that does not exist yet has none;
/// any other directory that cannot be listed is deferred to a later start.
fn find_files(
    (root, kind): (&Path, Root),
    is_wanted: impl Fn(&OsStr) -> bool,
    summary: &mut Summary,
) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut defer_directory = |path: &Path, error: &std::io::Error| {
        tracing::warn!(event = "recovery.deferred", path = %display_path(path), %error, "cannot search a directory, deferred to a later start");
        summary.deferred += 1;
    };
    if !patience::responds(root) {
        defer_directory(root, &ErrorKind::TimedOut.into());
        return found;
    }
    let dir = match Dir::open(root) {
        Ok(dir) => dir,
        Err(error) if kind == Root::Quarantine && error.kind() == ErrorKind::NotFound => {
            return found;
        }
        Err(error) => {
            defer_directory(root, &error);
            return found;
        }
    };
    let mut walk = Walk::new(Arc::new(dir), PathBuf::new());
    while let Some(entry) = walk.next() {
        match entry {
            Ok(entry) if kind == Root::AboveQuarantine && entry.kind == Kind::Directory => {
                walk.skip_directory();
            }
            Ok(entry) if entry.kind == Kind::File && is_wanted(fs::split(&entry.path).1) => {
                found.push(entry.path);
            }
            Ok(_) => {}
            // A directory without access for this process holds none of its files: `lost+found`,
            // another user's.
            Err((path, error)) if error.kind() == ErrorKind::PermissionDenied => {
                tracing::debug!(event = "recovery.not_searched", path = %display_path(&root.join(path)), %error, "directory not searched");
            }
            Err((path, error)) => defer_directory(&root.join(path), &error),
        }
    }
    found
}

fn io_error(
    root: &Path,
    path: &Path,
    action: &'static str,
) -> impl FnOnce(std::io::Error) -> Error {
    let path = root.join(path);
    move |source| Error::Io { path, action, source }
}

fn remove(root: &Path, path: &Path) -> Result<(), Error> {
    let (parent, name) = fs::split(path);
    Dir::open(root)
        .and_then(|root| root.open_beneath(parent))
        .and_then(|dir| dir.unlink_own(name))
        .map_err(io_error(root, path, "remove the temporary file"))
}

/// Resolves a source that had its private name when the process ended. If it is still the file that
/// was read, the disposal that the ledger records is finished; otherwise it gets its name back. A
/// source that lost content, and whose name another file has by now, goes to quarantine.
fn resolve(
    context: SweepContext<'_>,
    (root, path): (&Path, &Path),
    record: Option<Record>,
) -> Result<SourceOutcome, Error> {
    let SweepContext { ledger, instance, .. } = context;
    let Some(record) = record else {
        tracing::warn!(event = "recovery.stranded", path = %display_path(&root.join(path)), "source under an unknown private name, left for the operator");
        return Ok(SourceOutcome::Kept);
    };
    // Its directory may have been renamed since, or the file before that.
    let named = fs::split(path).0.join(fs::split(&record.source).1);
    let reopen = || {
        Dir::open(root)
            .and_then(|input| held_source::reopen(&input, &named, (instance, record.id)))
            .map_err(io_error(root, path, "open the directory of"))
    };
    let held = reopen()?;
    let lost = match held.identity().map_err(io_error(root, path, "check"))? {
        Some(identity) => quarantine_earlier(ledger, identity, &record)?,
        None => None,
    };
    if let Some(lost) = &lost {
        ledger.append(std::slice::from_ref(lost), Flush::Now)?;
        report(context, lost)?;
    }
    let resolved = match (record.state, &record.moved_to) {
        (State::Published | State::Done | State::Changed, _) => {
            let config = config_of(context, record.pipeline)?;
            let marker = config.and_then(|config| config.marker.as_deref());
            finish(held, &record, |held| finish_source(held, &record, marker))
        }
        (State::Quarantined, Some(slot)) => {
            let config = config_of(context, record.pipeline)?;
            let marker = config.and_then(|config| config.marker.as_deref());
            finish(held, &record, |held| quarantine(held, slot, marker))
        }
        _ => held.put_back().map(|()| true).map_err(|(_, error)| error),
    };
    match resolved {
        Ok(is_returned) => Ok(is_returned.into()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let config = config_of(context, record.pipeline)?;
            if let (Some(lost), Some(config)) = (lost, config) {
                return quarantine_lost(context, config, &lost, reopen()?);
            }
            tracing::warn!(event = "recovery.stranded", path = %display_path(&root.join(path)), source = %display_path(&record.source), "original name taken, source kept under its private name");
            Ok(SourceOutcome::Kept)
        }
        Err(error) => Err(io_error(root, path, "dispose of")(error)),
    }
}

fn report(context: SweepContext<'_>, lost: &Record) -> Result<(), Error> {
    let roots = context.ledger.roots()?.into_iter().find(|roots| roots.id == lost.pipeline);
    let name = roots.map(|roots| roots.name).unwrap_or_default();
    context.quarantines.report(&name, lost).map_err(Error::Events)
}

fn config_of(
    context: SweepContext<'_>,
    id: PipelineId,
) -> Result<Option<&config::Pipeline>, Error> {
    let roots = context.ledger.roots()?.into_iter().find(|roots| roots.id == id);
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
    held: HeldSource,
) -> Result<SourceOutcome, Error> {
    let entry = QuarantineEntry {
        config,
        instance: context.instance,
        path: &lost.source,
        identity: lost.identity,
        stage: Stage::Dispose,
        reason: EARLIER,
        attempts: 0,
    };
    let io_error = |action| io_error(&config.input, &lost.source, action);
    let slot = entry.find_slot().map_err(io_error("find a quarantine slot for"))?;
    let moved = Record { moved_to: Some(slot.path()), ..lost.clone() };
    context.ledger.append(&[moved], Flush::Now)?;
    entry.write_reason(&slot, Some(&slot.path())).map_err(io_error("write the reason file of"))?;
    let moved = held.move_to(&slot.dir, &slot.name).map_err(|(_, error)| error);
    moved.map_err(io_error("move to quarantine"))?;
    tracing::warn!(event = "recovery.quarantined", pipeline = %config.name, source = %display_path(&lost.source), place = %display_path(&slot.path()), "original name taken, source moved to quarantine");
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

/// Finishes the recorded disposal; returns whether the source got its name back instead.
fn finish(
    held: HeldSource,
    record: &Record,
    dispose: impl FnOnce(HeldSource) -> std::io::Result<()>,
) -> std::io::Result<bool> {
    match held_source::compare_content(held_source::compare(held, &record.identity)?, record)? {
        TakeResult::Taken(held) => dispose(held).map(|()| false),
        TakeResult::Gone => Ok(false),
        TakeResult::Replaced | TakeResult::Busy => Ok(true),
        TakeResult::Stranded(_, error) => Err(error),
    }
}

/// Moves a source to its recorded slot, where the reason file exists already. If the slot cannot be
/// used, the source gets its own name back and goes through the intake again.
fn quarantine(held: HeldSource, slot: &Path, marker: Option<&str>) -> std::io::Result<()> {
    let (parent, name) = fs::split(slot);
    let moved = match Dir::open(parent) {
        Ok(dir) => quarantine_source(held, (&Arc::new(dir), name), marker),
        Err(error) => Err((held, error)),
    };
    moved.or_else(|(held, _)| held.put_back().map_err(|(_, error)| error))
}
