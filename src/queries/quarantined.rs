//! Lists quarantined files and returns them to the intake.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    ffi::OsStr,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;

use super::{config_of, pages};
use crate::{
    config::Pipeline,
    fingerprint::Fingerprint,
    fs::{self, Dir, NodeId, Overwrite, SecondName},
    ledger::{self, Flush, HistoryQuery, Ledger, PipelineDirs, Record, RecordId, State},
    observe::display_path,
    patience,
    protocol::prior_outcome::find_published,
    source::local::{marker, reason_name},
};

/// Limit for reading a reason file; this service writes shorter ones.
const REASON_BYTES_MAX: u64 = 64 * 1024;

/// A quarantined file that waits for the operator's decision.
#[derive(Clone, Debug)]
pub struct Quarantined {
    pub record: Record,
    pub roots: PipelineDirs,
}

/// The reason for which a file was not returned to the intake.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no quarantined file has this number")]
    Unknown,
    #[error("{what}")]
    Storage { what: String, source: std::io::Error },
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

/// The facts that the reason file next to a quarantined file adds to its record.
#[derive(Debug, Default, Deserialize)]
pub struct ReasonFacts {
    pub stage: Option<String>,
    pub attempts: Option<u32>,
}

impl Quarantined {
    /// Returns its original path.
    #[must_use]
    pub fn source(&self) -> PathBuf {
        self.roots.input.join(&self.record.source)
    }

    /// Returns its current path.
    #[must_use]
    pub fn kept_at(&self) -> PathBuf {
        self.record.moved_to.clone().unwrap_or_else(|| self.source())
    }

    /// Reads its reason file, as far as possible: any process may have changed that, and its file system
    /// may not respond.
    #[must_use]
    pub fn reason(&self, pipelines: &[Pipeline]) -> ReasonFacts {
        let slot = match &self.record.moved_to {
            Some(moved_to) => Some((quarantine_of(&self.record, moved_to), moved_to.clone())),
            None => config_of(pipelines, &self.roots).map(|pipeline| {
                (&*pipeline.quarantine, pipeline.quarantine.join(&self.record.source))
            }),
        };
        let read =
            |(root, path): (&Path, PathBuf)| patience::within(root, move || read_reason(&path));
        slot.and_then(read).flatten().unwrap_or_default()
    }
}

fn read_reason(quarantined: &Path) -> Option<ReasonFacts> {
    let (parent, name) = fs::split(quarantined);
    let file = Dir::open(parent).ok()?.open_file(Path::new(&reason_name(name))).ok()?;
    let mut text = Vec::new();
    file.take(REASON_BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Returns all quarantined files, newest first. A file that is gone is none; one that cannot be looked at
/// counts.
pub fn all(ledger: &dyn Ledger) -> ledger::Result<Vec<Quarantined>> {
    let roots = ledger.roots()?;
    let query = HistoryQuery { state: Some(State::Quarantined), ..HistoryQuery::default() };
    let mut found = Vec::new();
    // A move that a power loss undid has several records, and one file.
    let mut slots = HashSet::new();
    for records in pages(ledger, query) {
        for record in records? {
            let is_first = record.moved_to.clone().is_none_or(|slot| slots.insert(slot));
            let dirs = roots.iter().find(|roots| roots.id == record.pipeline);
            if is_first && let Some(roots) = dirs.cloned() {
                let is_newest = is_newest(ledger, &record)?;
                found.push((Quarantined { record, roots }, is_newest));
            }
        }
    }
    let gone = gone(&found);
    let exists = |path: &Path| !gone.contains(path);
    found.retain(|(file, is_newest)| {
        file.record.moved_to.as_deref().is_some_and(exists) || *is_newest && exists(&file.source())
    });
    Ok(found.into_iter().map(|(file, _)| file).collect())
}

/// Returns the quarantine in which the file of this record is.
fn quarantine_of<'a>(record: &Record, moved_to: &'a Path) -> &'a Path {
    moved_to.ancestors().nth(record.source.components().count()).unwrap_or(moved_to)
}

/// Returns those paths of these files where no file is. A directory that does not respond is asked once.
fn gone(files: &[(Quarantined, bool)]) -> HashSet<PathBuf> {
    let mut paths: HashMap<PathBuf, Vec<PathBuf>> = HashMap::new();
    for (file, _) in files {
        paths.entry(file.roots.input.clone()).or_default().push(file.source());
        if let Some(moved_to) = &file.record.moved_to {
            let root = quarantine_of(&file.record, moved_to);
            paths.entry(root.to_path_buf()).or_default().push(moved_to.clone());
        }
    }
    let is_gone = |path: &PathBuf| {
        let kind = path.symlink_metadata().err().map(|error| error.kind());
        matches!(kind, Some(io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
    };
    let gone = paths.into_iter().filter_map(|(root, paths)| {
        patience::within(&root, move || paths.into_iter().filter(is_gone).collect::<Vec<_>>())
    });
    gone.flatten().collect()
}

/// Returns the quarantined file of this record.
pub fn read(ledger: &dyn Ledger, id: RecordId) -> Result<Quarantined, Error> {
    let record = ledger.record(id)?.filter(|record| record.state == State::Quarantined);
    let record = record.ok_or(Error::Unknown)?;
    if !is_quarantined(ledger, &record)? {
        return Err(Error::Unknown);
    }
    let roots = ledger.roots()?.into_iter().find(|roots| roots.id == record.pipeline);
    roots.map(|roots| Quarantined { record, roots }).ok_or(Error::Unknown)
}

/// Checks whether a record is the newest of its source, or its file is in quarantine. A file that
/// was moved there stays, whatever has come under its name since.
fn is_quarantined(ledger: &dyn Ledger, record: &Record) -> ledger::Result<bool> {
    let exists = |path: &PathBuf| {
        let quarantined = path.clone();
        patience::within(quarantine_of(record, path), move || quarantined.exists()).unwrap_or(true)
    };
    Ok(is_newest(ledger, record)? || record.moved_to.as_ref().is_some_and(exists))
}

fn is_newest(ledger: &dyn Ledger, record: &Record) -> ledger::Result<bool> {
    let newest = ledger.latest(record.pipeline, &record.source)?;
    Ok(newest.is_some_and(|newest| newest.id == record.id))
}

/// Returns a file to the intake, which the caller requests to scan, with its marker if its pipeline, of
/// these, needs one. If its output is published, only its disposal is repeated.
pub fn requeue(
    ledger: &dyn Ledger,
    file: &Quarantined,
    pipelines: &[Pipeline],
) -> Result<(), Error> {
    // Another request may have returned it since it was listed.
    let record = ledger.record(file.record.id)?.filter(|it| it.state == State::Quarantined);
    let record = &record.ok_or(Error::Unknown)?;
    let published = find_published(ledger, record)?;
    let records: Vec<&Record> = published.iter().chain([record]).collect();
    // Before the file is back: another source of its name may have a newer record. A copy has another
    // identity, and its rename moves its change time.
    let follow = |copy: Option<Fingerprint>| {
        let followed = |of: &&Record| {
            let identity = copy.map_or(of.identity, Fingerprint::without_ctime);
            let is_published = of.id != record.id;
            let state = if is_published { State::Changed } else { of.state };
            Record { state, identity, reason: record.reason.clone(), ..(*of).clone() }
        };
        ledger.append(&records.iter().map(followed).collect::<Vec<_>>(), Flush::Now)
    };
    let directories = open_directories(record, &file.roots)?;
    if let Some(directories) = &directories
        && was_published_since(ledger, record, directories)?
    {
        finish_move(record, directories, Dir::unlink)?;
        return Ok(ledger.mark(&[(record.id, State::Requeued, None)], Flush::Now)?);
    }
    if published.is_some() {
        follow(None)?;
    }
    let is_back = Cell::new(directories.is_none());
    let moved = directories.as_ref().map_or(Ok(()), |directories| {
        let instance = NodeId::new(ledger.instance());
        move_back(record, directories, &instance, (&follow, &is_back))
    });
    if !is_back.get() {
        let original: Vec<Record> = records.into_iter().cloned().collect();
        let restored = ledger.append(&original, Flush::Now);
        return moved.and(restored.map_err(Error::from));
    }
    let config = config_of(pipelines, &file.roots);
    let marker = config.and_then(|config| config.keys.marker.as_deref()).zip(directories.as_ref());
    let restored = marker.map_or(Ok(()), |(suffix, of)| restore_marker(record, suffix, of));
    ledger.mark(&[(record.id, State::Requeued, None)], Flush::Now)?;
    moved.and(restored)
}

/// The directory in the quarantine, and the one in the input.
type Directories = (Dir, Arc<Dir>);

/// Makes the records follow a copy with this identity.
type Follow<'a> = &'a dyn Fn(Option<Fingerprint>) -> ledger::Result<()>;

/// Opens the directories of a moved file; `None` if it stayed in place.
fn open_directories(record: &Record, roots: &PipelineDirs) -> Result<Option<Directories>, Error> {
    let Some(moved_to) = &record.moved_to else {
        return Ok(None);
    };
    let failed = |what: String| move |source| Error::Storage { what, source };
    let (parent, _) = fs::split(moved_to);
    let (source_parent, _) = fs::split(&record.source);
    let from =
        Dir::open(parent).map_err(failed(format!("cannot open {}", display_path(parent))))?;
    let input = Dir::open(&roots.input)
        .map_err(failed(format!("cannot open the input {}", display_path(&roots.input))))?;
    let to = input
        .make_beneath(source_parent, fs::SHARED_DIR_MODE)
        .map_err(failed("cannot create its directory in the input".to_owned()))?;
    Ok(Some((from, Arc::new(to))))
}

fn restore_marker(record: &Record, suffix: &str, (from, to): &Directories) -> Result<(), Error> {
    let kept_name = record.moved_to.as_deref().map_or(OsStr::new(""), |path| fs::split(path).1);
    let kept = marker::name_of(kept_name, suffix);
    let own = marker::name_of(fs::split(&record.source).1, suffix);
    let restored = marker::restore((from, &kept), (to, &own)).and_then(|()| to.sync());
    restored.map_err(|source| {
        let what = format!("cannot restore its marker {}", display_path(Path::new(&own)));
        Error::Storage { what, source }
    })
}

/// Restores the original name of a moved file. `is_back` is set once the file has it, also if this fails
/// after that.
fn move_back(
    record: &Record,
    directories: &Directories,
    instance: &NodeId,
    (follow, is_back): (Follow<'_>, &Cell<bool>),
) -> Result<(), Error> {
    let (from, to) = directories;
    let moved_to = record.moved_to.as_deref().unwrap_or(Path::new(""));
    let (_, name) = fs::split(moved_to);
    let (_, source_name) = fs::split(&record.source);
    let moved = match from.rename(name, to, source_name, Overwrite::Never) {
        // An interrupted request moved it.
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_back_already(record, to) => {
            is_back.set(true);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            copy_back((from, name), (to, source_name), instance, (follow, is_back))
        }
        moved => moved.inspect(|()| is_back.set(true)),
    };
    finish_move(record, directories, |_, _| moved)
}

/// Makes a move durable that `act` makes, or finishes, in this directory and under this name.
fn finish_move(
    record: &Record,
    (from, to): &Directories,
    act: impl FnOnce(&Dir, &OsStr) -> io::Result<()>,
) -> Result<(), Error> {
    let moved_to = record.moved_to.as_deref().unwrap_or(Path::new(""));
    let failed = |what: String| move |source| Error::Storage { what, source };
    let (_, name) = fs::split(moved_to);
    act(from, name)
        .map_err(failed(format!("cannot move it back from {}", display_path(moved_to))))?;
    // The history has the reason as well; a missing reason file is no loss.
    drop(from.unlink(&reason_name(name)));
    to.sync().and_then(|()| from.sync()).map_err(failed("cannot make the move durable".to_owned()))
}

/// Checks whether the input has the file of this record, under its own name.
fn is_back_already(record: &Record, to: &Dir) -> bool {
    let (_, name) = fs::split(&record.source);
    let found = to.stat_fresh(name).ok().flatten();
    found.is_some_and(|found| found.identity.matches_content(&record.identity))
}

/// Checks whether this file was published since: a request that was interrupted had given it its name in the
/// input, and not removed it here.
fn was_published_since(
    ledger: &dyn Ledger,
    record: &Record,
    (from, to): &Directories,
) -> Result<bool, Error> {
    let name = record.moved_to.as_deref().map_or(OsStr::new(""), |path| fs::split(path).1);
    let since = ledger.latest_published(record.pipeline, &record.source)?;
    let Some(since) = since.filter(|since| since.id > record.id) else { return Ok(false) };
    let (_, source) = fs::split(&record.source);
    let found = |dir: &Dir, name: &OsStr| dir.stat_fresh(name).ok().flatten();
    let is_it = found(from, name).is_some_and(|found| {
        found.identity.device == since.identity.device
            && found.identity.inode == since.identity.inode
            || since.identity.matches_content(&record.identity)
    });
    let hash = since.output.map(|output| output.source_hash);
    let is_published = || fs::content_hash(from, name).is_ok_and(|found| Some(found) == hash);
    // Where it still has its name in the input, the move is only finished.
    Ok(is_it && found(to, source).is_none() && is_published())
}

/// Moves a file from another file system: the copy is durable before the file is removed, and its records
/// follow it before it is visible.
fn copy_back(
    (from, name): (&Dir, &OsStr),
    (to, source_name): (&Arc<Dir>, &OsStr),
    instance: &NodeId,
    (follow, is_back): (Follow<'_>, &Cell<bool>),
) -> io::Result<()> {
    let copy = fs::copy((from, name), to, instance, || ())?;
    follow(Some(copy.identity()?)).map_err(io::Error::other)?;
    let second_name = copy.publish(source_name, Overwrite::Never).map_err(|(_, error)| error)?;
    is_back.set(true);
    to.sync()?;
    second_name.as_ref().map_or(Ok(()), SecondName::remove)?;
    from.unlink(name)
}
