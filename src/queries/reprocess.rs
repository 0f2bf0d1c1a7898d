//! Sources that are there, were processed, and are to be processed again.

use std::path::Path;

use crate::{
    config::Pipeline,
    fs::{Dir, Kind},
    ledger::{self, Flush, HistoryQuery, Ledger, PipelineDirs, Record, RecordId, State},
};

/// Records that are read, and marked, at once.
const WINDOW: u64 = 512;

/// Which sources are processed again, but for those given by their paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    All,
    /// What was processed since then, in nanoseconds since the epoch.
    Since(i64),
    /// What was made by other transforms than its pipeline has.
    ChangedTransforms,
}

/// What a request came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub marked: u64,
    /// Their sources are gone: removed, archived, or taken away by their producer.
    pub gone: u64,
}

/// What became of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Marked,
    Gone,
    InQuarantine,
    /// No record says that it was processed, or it waits already.
    NotProcessed,
}

/// Marks the source of this path, which is absolute; the intake must be told to scan.
pub fn path(ledger: &dyn Ledger, path: &Path) -> ledger::Result<Answer> {
    for roots in ledger.roots()? {
        let Ok(source) = path.strip_prefix(&roots.input) else { continue };
        let Some(record) = ledger.latest(roots.id, source)? else { continue };
        if record.state == State::Quarantined {
            return Ok(Answer::InQuarantine);
        }
        if !is_processed(&record) {
            return Ok(Answer::NotProcessed);
        }
        if !is_there(&roots, &record) {
            return Ok(Answer::Gone);
        }
        ledger.mark(&[(record.id, State::Requeued, None)], Flush::Now)?;
        return Ok(Answer::Marked);
    }
    Ok(Answer::NotProcessed)
}

/// Marks all that are asked for, window by window, so that a large ledger costs no memory.
pub fn all(ledger: &dyn Ledger, pipelines: &[Pipeline], which: Which) -> ledger::Result<Summary> {
    let roots = ledger.roots()?;
    let since_ns = if let Which::Since(since_ns) = which { Some(since_ns) } else { None };
    let mut summary = Summary::default();
    let mut before: Option<RecordId> = None;
    loop {
        let query =
            HistoryQuery { since_ns, before, limit: Some(WINDOW), ..HistoryQuery::default() };
        let records = ledger.history(&query)?;
        let Some(last) = records.last() else { return Ok(summary) };
        before = Some(last.id);
        let mut marks = Vec::new();
        for record in records.iter().filter(|record| is_processed(record)) {
            let Some(roots) = roots.iter().find(|roots| roots.id == record.pipeline) else {
                continue;
            };
            if which == Which::ChangedTransforms
                && !has_other_transforms(record, of(pipelines, roots))
            {
                continue;
            }
            let newest = ledger.latest(record.pipeline, &record.source)?;
            if newest.is_none_or(|newest| newest.id != record.id) {
                continue;
            }
            if is_there(roots, record) {
                marks.push((record.id, State::Requeued, None));
            } else {
                summary.gone += 1;
            }
        }
        summary.marked += marks.len() as u64;
        ledger.mark(&marks, Flush::Now)?;
    }
}

/// The configuration of a pair of directories.
#[must_use]
pub fn of<'a>(pipelines: &'a [Pipeline], roots: &PipelineDirs) -> Option<&'a Pipeline> {
    let of =
        |pipeline: &&Pipeline| pipeline.input == roots.input && pipeline.output == roots.output;
    pipelines.iter().find(of)
}

/// Whether a record's output was made by other transforms than the pipeline has now. A record of an
/// older ledger does not say.
#[must_use]
pub fn has_other_transforms(record: &Record, pipeline: Option<&Pipeline>) -> bool {
    let made_by = record.output.as_ref().map_or("", |output| output.transforms.as_str());
    !made_by.is_empty()
        && pipeline.is_some_and(|pipeline| pipeline.transforms.to_string() != made_by)
}

fn is_processed(record: &Record) -> bool {
    matches!(record.state, State::Published | State::Done | State::Changed | State::Skipped)
}

fn is_there(roots: &PipelineDirs, record: &Record) -> bool {
    let found = Dir::open(&roots.input).and_then(|input| input.stat(&record.source));
    matches!(found, Ok(Some(seen)) if seen.kind == Kind::File)
}
