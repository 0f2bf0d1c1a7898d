//! The facts of the unfinished records.

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use super::{Error, Facts, Roots};
use crate::{
    fs::{self, Dir, Instance, Walk},
    identity::Identity,
    ledger::{Id, Ledger, Output, PipelineId, Record, State},
    observe::shown,
    pipeline::{acknowledge, context::SharedEvents},
};

/// What recovery starts from.
#[derive(Debug)]
pub struct Gathered {
    pub roots: HashMap<PipelineId, Roots>,
    pub facts: Vec<Facts>,
    /// Records of pipelines whose directories cannot be opened.
    pub left: u64,
}

/// Opens the directories of every pipeline that has unfinished records, and looks at what is there.
/// A pipeline whose directories are gone is reported and left as it is.
pub fn gather(ledger: &dyn Ledger, events: &SharedEvents) -> Result<Gathered, Error> {
    let records = ledger.unfinished()?;
    let wanted: HashSet<PipelineId> = records.iter().map(|record| record.pipeline).collect();
    let mut roots = HashMap::new();
    for known in ledger.roots()?.into_iter().filter(|known| wanted.contains(&known.id)) {
        match (Dir::open(&known.input), Dir::open(&known.output)) {
            (Ok(input), Ok(output)) => {
                let (input, output) = (Arc::new(input), Arc::new(output));
                roots.insert(known.id, Roots { name: known.name.into(), input, output });
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(pipeline = known.name, input = %shown(&known.input), output = %shown(&known.output), %error, "has unfinished work, and a directory of it cannot be opened: it is left for a later start");
            }
        }
    }
    let acknowledged = acknowledged(events, ledger.instance(), &records)?;
    let mut left = 0;
    let mut facts = Vec::with_capacity(records.len());
    for record in records {
        let Some(roots) = roots.get(&record.pipeline) else {
            left += 1;
            continue;
        };
        let acknowledged = acknowledged.contains(&record.id);
        facts.push(look(&roots.output, record, acknowledged)?);
    }
    find_moved(ledger, &roots, &mut facts);
    Ok(Gathered { roots, facts, left })
}

/// The largest number that a record of this ledger has in the events file: 0 where there is none.
pub fn largest_id(ledger: &dyn Ledger, events: &SharedEvents) -> Result<Id, Error> {
    let events = events.lock().unwrap_or_else(PoisonError::into_inner);
    events
        .as_ref()
        .map_or(Ok(0), |events| events.largest_id(ledger.instance()).map_err(Error::Events))
}

fn acknowledged(
    events: &SharedEvents,
    instance: &str,
    records: &[Record],
) -> Result<HashSet<Id>, Error> {
    let events = events.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(events) = events.as_ref() else {
        return Ok(HashSet::new());
    };
    let proofs = records.iter().map(|record| acknowledge::proof(instance, record)).collect();
    events.recorded(&proofs).map_err(Error::Events)
}

fn look(root: &Dir, record: Record, acknowledged: bool) -> Result<Facts, Error> {
    let nothing = |record| Facts {
        record,
        temp: None,
        output: None,
        same_content: false,
        moved: false,
        acknowledged,
    };
    let Some(intended) = &record.output else {
        return Ok(nothing(record));
    };
    let (parent, _) = fs::split(&intended.path);
    let failed =
        |path: &Path, source| Error::Io { path: root.path().join(path), action: "look at", source };
    let temp = identity(root, &parent.join(&intended.temp));
    let temp = temp.map_err(|source| failed(&intended.path, source))?;
    let output = identity(root, &intended.path);
    let output = output.map_err(|source| failed(&intended.path, source))?;
    let another = output.filter(|found| !found.matches_content(&intended.identity));
    let same_content = match (temp, another) {
        (None, Some(found)) => {
            same_content(root, intended, &found).map_err(|source| failed(&intended.path, source))?
        }
        _ => false,
    };
    Ok(Facts { temp, output, same_content, ..nothing(record) })
}

/// Looks for the temps that are not in their place. A whole tree is walked, but only after a kill of a
/// service whose directories are taken at that time.
fn find_moved(ledger: &dyn Ledger, roots: &HashMap<PipelineId, Roots>, facts: &mut [Facts]) {
    let is_missing = |facts: &Facts| {
        let Facts { record, temp, output, acknowledged, .. } = facts;
        record.state == State::Intent && !acknowledged && temp.is_none() && output.is_none()
    };
    let missing: HashSet<PipelineId> =
        facts.iter().filter(|facts| is_missing(facts)).map(|facts| facts.record.pipeline).collect();
    let instance = Instance::new(ledger.instance());
    let mut found: HashSet<(PipelineId, OsString)> = HashSet::new();
    for (id, roots) in roots.iter().filter(|(id, _)| missing.contains(id)) {
        let walk = Walk::new(Arc::clone(&roots.output), PathBuf::new()).filter_map(Result::ok);
        let names = walk.filter_map(|entry| entry.path.file_name().map(OsStr::to_owned));
        found.extend(names.filter(|name| instance.is_temp(name)).map(|name| (*id, name)));
    }
    for facts in facts.iter_mut().filter(|facts| is_missing(facts)) {
        let temp = facts.record.output.as_ref().map(|output| output.temp.clone());
        facts.moved = temp.is_some_and(|temp| found.contains(&(facts.record.pipeline, temp)));
    }
}

fn identity(root: &Dir, path: &Path) -> io::Result<Option<Identity>> {
    Ok(root.look(path)?.map(|seen| seen.identity))
}

fn same_content(root: &Dir, intended: &Output, found: &Identity) -> io::Result<bool> {
    if found.size != intended.identity.size {
        return Ok(false);
    }
    let mut file = root.open_file(&intended.path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; crate::limits::CHUNK_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(*hasher.finalize().as_bytes() == intended.hash),
            count => {
                hasher.update(buffer.get(..count).unwrap_or_default());
            }
        }
    }
}
