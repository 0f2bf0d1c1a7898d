//! Collects the facts about the unfinished records.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
    sync::Arc,
};

use super::{
    Error, IntentFacts, OpenSink, OpenedDirs,
    mounts::{self, End, is_unmounted},
};
use crate::{
    error::chain,
    fs::NodeId,
    ledger::{Ledger, PipelineDirs, PipelineId, Record, RecordId, State},
    observe::{display_path, is_repeatable},
    patience,
    protocol::{SharedOutcomeLog, outcome},
    sink::{self, Remains, Sink},
    source::{self, Source},
};

/// The input of recovery: directories and facts.
#[derive(Debug)]
pub struct Gathered {
    pub roots: HashMap<PipelineId, OpenedDirs>,
    pub facts: Vec<IntentFacts>,
    /// Records that cannot be inspected, most often because a directory cannot be opened.
    pub deferred: u64,
}

/// Opens the two ends of every pipeline that has unfinished records, and inspects them. A
/// pipeline whose directories are missing is logged and kept as it is. `patience` is called while
/// the events file has no space.
pub fn gather(
    (ledger, open_sink): (&dyn Ledger, &OpenSink<'_>),
    events: &SharedOutcomeLog,
    patience: &dyn Fn(&io::Error) -> bool,
) -> Result<Gathered, Error> {
    let records = ledger.unfinished()?;
    let wanted: HashSet<PipelineId> = records.iter().map(|record| record.pipeline).collect();
    let roots = open_ends((ledger, open_sink), &wanted)?;
    let acknowledged = find_acknowledged(events, ledger.instance(), &records, patience)?;
    let mut deferred = 0;
    let mut facts = Vec::with_capacity(records.len());
    for record in records {
        let Some(roots) = roots.get(&record.pipeline) else {
            deferred += 1;
            continue;
        };
        let acknowledged = acknowledged.contains(&record.id);
        match inspect(&*roots.sink, record, acknowledged) {
            Ok(found) => facts.push(found),
            Err(error) => {
                log_deferred(roots, error);
                deferred += 1;
            }
        }
    }
    deferred += find_moved(&roots, &mut facts);
    Ok(Gathered { roots, facts, deferred })
}

fn log_deferred(roots: &OpenedDirs, error: sink::Error) {
    let error = Error::from(error);
    tracing::warn!(event = "recovery.deferred", pipeline = %roots.name, error = chain(&error), "recovery deferred a record to a later start");
}

/// Opens the two ends of these pipelines, without those where one cannot be opened or the output is not
/// mounted: neither a temp nor an output would be found there, as if a consumer had taken it.
fn open_ends(
    (ledger, open_sink): (&dyn Ledger, &OpenSink<'_>),
    wanted: &HashSet<PipelineId>,
) -> Result<HashMap<PipelineId, OpenedDirs>, Error> {
    let instance = NodeId::new(ledger.instance());
    let mut roots = HashMap::new();
    for pipeline in ledger.pipelines()?.into_iter().filter(|pipeline| wanted.contains(&pipeline.id))
    {
        let PipelineDirs { id, name, input, output } = &pipeline;
        match (open_input(input, &instance), open_sink(name, output)) {
            (Ok(_), Ok(sink)) if is_unmounted(ledger, *id, End::Output(&*sink))? => {
                tracing::warn!(event = "recovery.deferred", pipeline = name, output = %display_path(output), hint = mounts::HINT, "output replaced by an empty directory, unfinished work deferred");
            }
            (Ok(input), Ok(sink)) => {
                let (name, output) = (name.as_str().into(), output.clone());
                roots.insert(*id, OpenedDirs { name, input, output, sink });
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(event = "recovery.deferred", pipeline = name, input = %display_path(input), output = %display_path(output), %error, "cannot open a directory, its unfinished work is deferred");
            }
        }
    }
    Ok(roots)
}

/// Opens an input; one that does not answer holds up no other pipeline's work.
pub fn open_input(path: &Path, instance: &NodeId) -> io::Result<Arc<dyn Source>> {
    if patience::responds(path) {
        source::open(path, instance, Arc::default()).map_err(|error| error.source)
    } else {
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// Returns the largest record number of this ledger in the events file, or 0.
pub fn largest_id(ledger: &dyn Ledger, events: &SharedOutcomeLog) -> Result<RecordId, Error> {
    let events = events.lock();
    events
        .as_ref()
        .map_or(Ok(0), |events| events.largest_id(ledger.instance()).map_err(Error::Events))
}

fn find_acknowledged(
    events: &SharedOutcomeLog,
    instance: &str,
    records: &[Record],
    patience: &dyn Fn(&io::Error) -> bool,
) -> Result<HashSet<RecordId>, Error> {
    let proofs = records.iter().map(|record| outcome::proof(instance, record)).collect();
    loop {
        let mut file = events.lock();
        let found = file.as_mut().map_or_else(|| Ok(HashSet::new()), |file| file.recorded(&proofs));
        drop(file);
        match found {
            // The lines of the previous run are not durable yet.
            Err(error) if is_repeatable(&error) => {
                if !patience(&error) {
                    return Err(Error::EventsUnavailable(error));
                }
            }
            found => return found.map_err(Error::Events),
        }
    }
}

fn inspect(
    sink: &dyn Sink,
    record: Record,
    acknowledged: bool,
) -> Result<IntentFacts, sink::Error> {
    let remains = record.output.as_ref().map(|output| sink.inspect(output)).transpose()?;
    let Remains { staged: temp, published: output, same_content } = remains.unwrap_or_default();
    Ok(IntentFacts { record, temp, output, same_content, moved: false, acknowledged })
}

/// Searches for temps that are not in their directories. It may walk an entire tree, but only after a
/// kill of a service whose directories a consumer was moving at that time. Removes the facts of those
/// that may be where it cannot search, and returns their number.
fn find_moved(roots: &HashMap<PipelineId, OpenedDirs>, facts: &mut Vec<IntentFacts>) -> u64 {
    let is_missing = |facts: &IntentFacts| {
        let IntentFacts { record, temp, output, acknowledged, .. } = facts;
        record.state == State::Intent && !acknowledged && temp.is_none() && output.is_none()
    };
    let mut deferred = HashSet::new();
    for (id, roots) in roots {
        let missing = facts.iter_mut().filter(|facts| {
            facts.record.pipeline == *id && is_missing(facts) && facts.record.output.is_some()
        });
        let mut missing: Vec<_> = missing.collect();
        let outputs = missing.iter().filter_map(|facts| facts.record.output.clone());
        let outputs: Vec<_> = outputs.collect();
        if outputs.is_empty() {
            continue;
        }
        let moved = roots.sink.were_displaced(&outputs.iter().collect::<Vec<_>>());
        for (facts, moved) in missing.iter_mut().zip(moved) {
            match moved {
                Ok(moved) => facts.moved = moved,
                Err(error) => {
                    log_deferred(roots, error);
                    deferred.insert(facts.record.id);
                }
            }
        }
    }
    facts.retain(|facts| !deferred.contains(&facts.record.id));
    deferred.len() as u64
}
