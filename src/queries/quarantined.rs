//! Lists quarantined files and returns them to the intake.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{config_of, open_input, pages};
use crate::{
    config::Pipeline,
    fingerprint::Fingerprint,
    ledger::{self, Flush, HistoryQuery, Ledger, PipelineDirs, Record, RecordId, State},
    observe::display_path,
    patience,
    protocol::prior_outcome::find_published,
    source::{self, PutBack, QuarantinedSource, SourceError},
};

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

fn read_reason(slot: &Path) -> Option<ReasonFacts> {
    serde_json::from_slice(&source::read_reason(slot).ok()?).ok()
}

/// Returns all quarantined files, newest first. A file that is gone is none; one that cannot be looked at
/// counts.
pub fn all(ledger: &dyn Ledger) -> ledger::Result<Vec<Quarantined>> {
    let roots = ledger.pipelines()?;
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
    let is_gone = |path: &PathBuf| source::exists(path).is_ok_and(|exists| !exists);
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
    let roots = ledger.pipelines()?.into_iter().find(|roots| roots.id == record.pipeline);
    roots.map(|roots| Quarantined { record, roots }).ok_or(Error::Unknown)
}

/// Checks whether a record is the newest of its source, or its file is in quarantine. A file that
/// was moved there stays, whatever has come under its name since.
fn is_quarantined(ledger: &dyn Ledger, record: &Record) -> ledger::Result<bool> {
    let exists = |path: &PathBuf| {
        let (root, slot) = (quarantine_of(record, path), path.clone());
        let exists = move || source::exists(&slot).is_ok_and(|exists| exists);
        patience::within(root, exists).unwrap_or(true)
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
    let kept = open(ledger, record, &file.roots)?;
    if let Some(kept) = &kept
        && was_published_since(ledger, record, &**kept)?
    {
        kept.remove().map_err(not_moved(record))?;
        return Ok(ledger.set_states(&[(record.id, State::Requeued, None)], Flush::Now)?);
    }
    if published.is_some() {
        follow(None)?;
    }
    let follow_copy = |copy: &Fingerprint| follow(Some(*copy)).map_err(io::Error::other);
    let in_place = PutBack { is_back: true, result: Ok(()) };
    let PutBack { is_back, result } =
        kept.as_ref().map_or(in_place, |kept| kept.put_back(&record.identity, &follow_copy));
    let moved = result.map_err(not_moved(record));
    if !is_back {
        let original: Vec<Record> = records.into_iter().cloned().collect();
        let restored = ledger.append(&original, Flush::Now);
        return moved.and(restored.map_err(Error::from));
    }
    let config = config_of(pipelines, &file.roots);
    let marker = config.and_then(|config| config.keys.marker.as_deref()).zip(kept.as_ref());
    let restored = marker.map_or(Ok(()), |(suffix, kept)| kept.restore_marker(suffix));
    ledger.set_states(&[(record.id, State::Requeued, None)], Flush::Now)?;
    moved.and(restored.map_err(no_marker))
}

/// Opens the slot of a moved file; `None` if it stayed in place.
fn open(
    ledger: &dyn Ledger,
    record: &Record,
    roots: &PipelineDirs,
) -> Result<Option<Box<dyn QuarantinedSource>>, Error> {
    let Some(slot) = &record.moved_to else {
        return Ok(None);
    };
    let failed = |role: &str, SourceError { path, source }: SourceError| {
        let what = format!("cannot open {role}{}", display_path(&path));
        Error::Storage { what, source }
    };
    let input = open_input(&roots.input, ledger.instance());
    let input = input.map_err(|error| failed("the input ", error))?;
    input.quarantined(slot, &record.source).map(Some).map_err(|error| failed("", error))
}

fn not_moved(record: &Record) -> impl Fn(SourceError) -> Error {
    |SourceError { path, source }| {
        let what = if record.moved_to.as_ref() == Some(&path) {
            format!("cannot move it back from {}", display_path(&path))
        } else {
            "cannot make the move durable".to_owned()
        };
        Error::Storage { what, source }
    }
}

fn no_marker(SourceError { path, source }: SourceError) -> Error {
    Error::Storage { what: format!("cannot restore its marker {}", display_path(&path)), source }
}

/// Checks whether this file was published since: a request that was interrupted had given it its name in the
/// input, and not removed it here.
fn was_published_since(
    ledger: &dyn Ledger,
    record: &Record,
    kept: &dyn QuarantinedSource,
) -> Result<bool, Error> {
    let since = ledger.latest_published(record.pipeline, &record.source)?;
    let Some(since) = since.filter(|since| since.id > record.id) else { return Ok(false) };
    let is_it = kept.in_slot().ok().flatten().is_some_and(|found| {
        found.device == since.identity.device && found.inode == since.identity.inode
            || since.identity.matches_content(&record.identity)
    });
    let hash = since.output.map(|output| output.source_hash);
    let is_published = || kept.content_hash().is_ok_and(|found| Some(found) == hash);
    // Where it still has its name in the input, the move is only finished.
    let is_in_input = || kept.in_input().ok().flatten().is_some();
    Ok(is_it && !is_in_input() && is_published())
}
