//! Marks processed sources that still exist to be processed again.

use std::{collections::HashMap, path::Path, sync::Arc};

use super::{config_of, configured_first, open_input, pages};
use crate::{
    config::Pipeline,
    fs::Kind,
    ledger::{self, Flush, HistoryQuery, Ledger, PipelineDirs, Record, State},
    policy::OnSuccess,
    source::Source,
};

/// The sources that are processed again, if no paths are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    All,
    /// Processed since this time, in nanoseconds since the epoch.
    Since(i64),
    /// Made by other transforms than the pipeline has now.
    ChangedTransforms,
}

/// The result of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub marked: u64,
    /// Records whose sources are gone: removed, archived, or moved by their producers.
    pub gone: u64,
}

/// The result for one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Marked,
    Gone,
    InQuarantine,
    /// It has no record of being processed, or it waits already.
    NotProcessed,
}

/// Marks the source of this absolute path; the caller requests the intake to scan.
pub fn path(ledger: &dyn Ledger, pipelines: &[Pipeline], path: &Path) -> ledger::Result<Answer> {
    for roots in configured_first(ledger, pipelines)? {
        let Ok(source) = path.strip_prefix(&roots.input) else { continue };
        let Some(record) = ledger.latest(roots.id, source)? else {
            // It waits, whatever its input was processed for before.
            if config_of(pipelines, &roots).is_some() {
                break;
            }
            continue;
        };
        if record.state == State::Quarantined {
            return Ok(Answer::InQuarantine);
        }
        if !is_processed(&record) {
            return Ok(Answer::NotProcessed);
        }
        if !exists(open(&roots).as_deref(), &record) {
            return Ok(Answer::Gone);
        }
        ledger.set_states(&[(record.id, State::Requeued, None)], Flush::Now)?;
        return Ok(Answer::Marked);
    }
    Ok(Answer::NotProcessed)
}

/// Marks all requested sources, window by window, so that a large ledger costs no memory.
pub fn all(ledger: &dyn Ledger, pipelines: &[Pipeline], which: Which) -> ledger::Result<Summary> {
    let roots = ledger.pipelines()?;
    let since_ns = if let Which::Since(since_ns) = which { Some(since_ns) } else { None };
    let mut summary = Summary::default();
    let mut inputs = HashMap::new();
    for records in pages(ledger, HistoryQuery { since_ns, ..HistoryQuery::default() }) {
        let records = records?;
        let mut updates = Vec::new();
        for record in records.iter().filter(|record| is_processed(record)) {
            let Some(roots) = roots.iter().find(|roots| roots.id == record.pipeline) else {
                continue;
            };
            if which == Which::ChangedTransforms
                && !has_other_transforms(record, config_of(pipelines, roots))
            {
                continue;
            }
            let newest = ledger.latest(record.pipeline, &record.source)?;
            if newest.is_none_or(|newest| newest.id != record.id) {
                continue;
            }
            let input = inputs.entry(roots.id).or_insert_with(|| open(roots));
            if exists(input.as_deref(), record) {
                updates.push((record.id, State::Requeued, None));
            } else {
                summary.gone += 1;
            }
        }
        summary.marked += updates.len() as u64;
        ledger.set_states(&updates, Flush::Now)?;
    }
    Ok(summary)
}

/// Checks whether a record's output was made by other transforms than the pipeline has now; false
/// for a record of an older ledger, which has none.
#[must_use]
pub fn has_other_transforms(record: &Record, pipeline: Option<&Pipeline>) -> bool {
    let made_by = record.output.as_ref().map_or("", |output| output.transforms.as_str());
    !made_by.is_empty()
        && pipeline.is_some_and(|pipeline| pipeline.transforms.recorded() != made_by)
}

fn is_processed(record: &Record) -> bool {
    matches!(record.state, State::Published | State::Done | State::Changed | State::Skipped)
}

/// Opens the input to look at it: nothing is taken, so the ledger's instance does not matter.
fn open(roots: &PipelineDirs) -> Option<Arc<dyn Source>> {
    open_input(&roots.input, "").ok()
}

/// Checks whether the source of a record exists. After its producer deleted a kept one, a file of its
/// name is another source.
fn exists(input: Option<&dyn Source>, record: &Record) -> bool {
    let found = input.map(|input| input.stat(&record.source));
    let Some(Ok(Some(found))) = found else { return false };
    let was_deleted = record.state == State::Changed && record.on_success == OnSuccess::Keep;
    found.kind == Kind::File && (!was_deleted || found.identity.matches_content(&record.identity))
}
