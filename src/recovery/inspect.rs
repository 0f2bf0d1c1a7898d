//! Collects the facts about the unfinished records.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use super::{Error, IntentFacts, OpenedDirs};
use crate::{
    fs::{self, Dir, FileMetadata, Kind, NodeId, Walk},
    ledger::{Ledger, Output, PipelineId, Record, RecordId, State},
    observe::{display_path, is_full},
    patience,
    protocol::{SharedEvents, outcome},
};

/// The input of recovery: directories and facts.
#[derive(Debug)]
pub struct Gathered {
    pub roots: HashMap<PipelineId, OpenedDirs>,
    pub facts: Vec<IntentFacts>,
    /// Records that cannot be inspected, most often because a directory cannot be opened.
    pub deferred: u64,
}

/// Opens the directories of every pipeline that has unfinished records, and inspects them. A
/// pipeline whose directories are missing is logged and kept as it is. `patience` is called while
/// the events file has no space.
pub fn gather(
    ledger: &dyn Ledger,
    events: &SharedEvents,
    patience: &dyn Fn(&io::Error) -> bool,
) -> Result<Gathered, Error> {
    let records = ledger.unfinished()?;
    let wanted: HashSet<PipelineId> = records.iter().map(|record| record.pipeline).collect();
    let mut roots = HashMap::new();
    for pipeline in ledger.roots()?.into_iter().filter(|pipeline| wanted.contains(&pipeline.id)) {
        match (open(&pipeline.input), open(&pipeline.output)) {
            (Ok(input), Ok(output)) => {
                let (input, output) = (Arc::new(input), Arc::new(output));
                roots.insert(pipeline.id, OpenedDirs { name: pipeline.name.into(), input, output });
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(event = "recovery.deferred", pipeline = pipeline.name, input = %display_path(&pipeline.input), output = %display_path(&pipeline.output), %error, "cannot open a directory with unfinished work, deferred to a later start");
            }
        }
    }
    let acknowledged = find_acknowledged(events, ledger.instance(), &records, patience)?;
    let mut deferred = 0;
    let mut facts = Vec::with_capacity(records.len());
    for record in records {
        let Some(roots) = roots.get(&record.pipeline) else {
            deferred += 1;
            continue;
        };
        let acknowledged = acknowledged.contains(&record.id);
        match inspect(&roots.output, record, acknowledged) {
            Ok(found) => facts.push(found),
            Err(error) => {
                tracing::warn!(event = "recovery.deferred", pipeline = %roots.name, %error, cause = error.cause(), "recovery deferred a record to a later start");
                deferred += 1;
            }
        }
    }
    find_moved(ledger, &roots, &mut facts);
    Ok(Gathered { roots, facts, deferred })
}

/// Opens a directory; one that does not answer holds up no other pipeline's work.
fn open(path: &Path) -> io::Result<Dir> {
    if patience::responds(path) { Dir::open(path) } else { Err(io::ErrorKind::TimedOut.into()) }
}

/// Returns the largest record number of this ledger in the events file, or 0.
pub fn largest_id(ledger: &dyn Ledger, events: &SharedEvents) -> Result<RecordId, Error> {
    let events = events.lock().unwrap_or_else(PoisonError::into_inner);
    events
        .as_ref()
        .map_or(Ok(0), |events| events.largest_id(ledger.instance()).map_err(Error::Events))
}

fn find_acknowledged(
    events: &SharedEvents,
    instance: &str,
    records: &[Record],
    patience: &dyn Fn(&io::Error) -> bool,
) -> Result<HashSet<RecordId>, Error> {
    let proofs = records.iter().map(|record| outcome::proof(instance, record)).collect();
    loop {
        let mut file = events.lock().unwrap_or_else(PoisonError::into_inner);
        let found = file.as_mut().map_or_else(|| Ok(HashSet::new()), |file| file.recorded(&proofs));
        drop(file);
        match found {
            // The lines of the previous run are not durable yet.
            Err(error) if is_full(&error) => {
                if !patience(&error) {
                    return Err(Error::NoSpace(error));
                }
            }
            found => return found.map_err(Error::Events),
        }
    }
}

fn inspect(root: &Dir, record: Record, acknowledged: bool) -> Result<IntentFacts, Error> {
    let no_files = |record| IntentFacts {
        record,
        temp: None,
        output: None,
        same_content: false,
        moved: false,
        acknowledged,
    };
    let Some(intended) = &record.output else {
        return Ok(no_files(record));
    };
    let (parent, name) = fs::split(&intended.path);
    let path = root.path().join(&intended.path);
    let failed = |source| Error::Io { path: path.clone(), action: "check", source };
    // Opened again: on a network file system only an open refreshes the names.
    let dir = match root.open_beneath(parent) {
        Err(error) if is_no_directory(&error) => return Ok(no_files(record)),
        dir => dir.map_err(failed)?,
    };
    let temp = dir.stat(Path::new(&intended.temp)).map_err(failed)?;
    let differs = |found: &FileMetadata| !found.identity.matches_content(&intended.identity);
    let temp = match temp {
        // Inode numbers may change with a mount; the temp's name is unique, and its content
        // decides.
        Some(found) if differs(&found) => {
            let is_ours = same_content(&dir, &intended.temp, intended, &found).map_err(failed)?;
            Some(if is_ours { intended.identity } else { found.identity })
        }
        temp => temp.map(|found| found.identity),
    };
    let output = dir.stat(Path::new(name)).map_err(failed)?;
    let same_content = match output {
        Some(found) if differs(&found) => {
            same_content(&dir, name, intended, &found).map_err(failed)?
        }
        _ => false,
    };
    let output = output.map(|found| found.identity);
    Ok(IntentFacts { temp, output, same_content, ..no_files(record) })
}

fn is_no_directory(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Searches for temps that are not in their directories. It walks an entire tree, but only after a
/// kill of a service whose directories a consumer was moving at that time.
fn find_moved(
    ledger: &dyn Ledger,
    roots: &HashMap<PipelineId, OpenedDirs>,
    facts: &mut [IntentFacts],
) {
    let is_missing = |facts: &IntentFacts| {
        let IntentFacts { record, temp, output, acknowledged, .. } = facts;
        record.state == State::Intent && !acknowledged && temp.is_none() && output.is_none()
    };
    let missing: HashSet<PipelineId> =
        facts.iter().filter(|facts| is_missing(facts)).map(|facts| facts.record.pipeline).collect();
    let instance = NodeId::new(ledger.instance());
    let mut found: HashMap<(PipelineId, OsString), PathBuf> = HashMap::new();
    for (id, roots) in roots.iter().filter(|(id, _)| missing.contains(id)) {
        let walk = Walk::new(Arc::clone(&roots.output), PathBuf::new()).filter_map(Result::ok);
        let paths =
            walk.filter(|entry| entry.path.file_name().is_some_and(|name| instance.is_temp(name)));
        let key = |path: &PathBuf| (*id, path.file_name().unwrap_or_default().to_owned());
        found.extend(paths.map(|entry| (key(&entry.path), entry.path)));
    }
    for facts in facts.iter_mut().filter(|facts| is_missing(facts)) {
        let pipeline = facts.record.pipeline;
        let (Some(output), Some(roots)) = (&facts.record.output, roots.get(&pipeline)) else {
            continue;
        };
        let temp = found.get(&(pipeline, output.temp.clone()));
        facts.moved = temp.is_some_and(|temp| !is_linked(&roots.output, temp, &output.path));
    }
}

/// Checks whether the output got its final name by a link before the directory was moved: a
/// consumer has it.
fn is_linked(root: &Dir, temp: &Path, output: &Path) -> bool {
    let inode = |path: &Path| root.stat(path).ok().flatten().map(|found| found.identity.inode);
    let (parent, _) = fs::split(temp);
    let (_, name) = fs::split(output);
    inode(temp).is_some_and(|temp| inode(&parent.join(name)) == Some(temp))
}

/// Checks whether the file with a name is the intended output, byte for byte.
fn same_content(
    dir: &Dir,
    name: &OsStr,
    intended: &Output,
    found: &FileMetadata,
) -> io::Result<bool> {
    if found.kind != Kind::File || found.identity.size != intended.identity.size {
        return Ok(false);
    }
    Ok(fs::hash_of(&dir.open_file(Path::new(name))?)? == intended.hash)
}
