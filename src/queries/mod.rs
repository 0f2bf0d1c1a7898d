//! Queries of the ledger's records, and requests that change them: for the command line and the HTTP API.

pub mod checksums;
pub mod delivered;
pub mod explain;
mod ignore_reason;
pub mod outcomes;
pub mod plan;
pub mod quarantined;
pub mod reprocess;
pub mod retention;

use std::{iter, path::Path, sync::Arc};

use jiff::Timestamp;

use crate::{
    config::Pipeline,
    fs::NodeId,
    ledger::{self, HistoryQuery, Ledger, PipelineDirs, Record},
    protocol::cause::OutcomeCause,
    source::{self, Source},
};

/// Records that are read at once.
const PAGE_RECORDS: u64 = 512;

/// Reads a history page by page, so that its length takes no memory; the newest record comes first.
pub fn pages(
    ledger: &dyn Ledger,
    mut query: HistoryQuery,
) -> impl Iterator<Item = ledger::Result<Vec<Record>>> {
    let mut left = query.limit.unwrap_or(u64::MAX);
    iter::from_fn(move || {
        query.limit = Some(left.min(PAGE_RECORDS)).filter(|limit| *limit > 0);
        query.limit?;
        let page = ledger.history(&query);
        match &page {
            Ok(records) => {
                query.before = Some(records.last()?.id);
                left = left.saturating_sub(records.len() as u64);
            }
            Err(_) => left = 0,
        }
        Some(page)
    })
}

/// Returns the pairs of directories in the ledger, those of the configuration first: a pipeline whose output
/// was changed left a pair with the same input.
pub fn configured_first(
    ledger: &dyn Ledger,
    pipelines: &[Pipeline],
) -> ledger::Result<Vec<PipelineDirs>> {
    let mut roots = ledger.pipelines()?;
    roots.sort_by_key(|roots| config_of(pipelines, roots).is_none());
    Ok(roots)
}

/// Returns the configuration of a pair of directories.
#[must_use]
pub fn config_of<'a>(pipelines: &'a [Pipeline], roots: &PipelineDirs) -> Option<&'a Pipeline> {
    let has_dirs =
        |pipeline: &&Pipeline| pipeline.input == roots.input && pipeline.output == roots.output;
    pipelines.iter().find(has_dirs)
}

/// Opens an input for this ledger's instance, which does not matter to those who only look.
fn open_input(input: &Path, instance: &str) -> source::Result<Arc<dyn Source>> {
    source::open(input, &NodeId::new(instance), Arc::default())
}

/// Formats the time of a record: RFC 3339, UTC.
#[must_use]
pub fn time(record: &Record) -> String {
    let time = Timestamp::from_nanosecond(record.at_ns.into());
    time.map_or_else(|_| record.at_ns.to_string(), |time| format!("{time:.3}"))
}

/// Returns the cause of a record in words that go next to the paths of its source and its output.
#[must_use]
pub fn cause(record: &Record, roots: &PipelineDirs) -> Option<OutcomeCause> {
    OutcomeCause::of(record, &roots.input, &roots.output)
}
