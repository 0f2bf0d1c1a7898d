//! The history page by page, and a search in it that never takes long.

use std::collections::HashMap;

use super::time;
use crate::{
    ledger::{self, HistoryQuery, Ledger, PipelineDirs, PipelineId, Record, RecordId, State},
    observe::{OutcomeRecord, display_path},
};

/// Records that are read at once, and those that one page looks at: a search that finds little
/// goes on from there with the next page.
const WINDOW: u64 = 512;
const WINDOWS: u32 = 100;

/// What is looked for. Everything that is given must fit.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// In the path, the output's path or the reason, whatever the case.
    pub text: Option<String>,
    pub state: Option<State>,
    pub pipeline: Option<String>,
    pub limit: usize,
    /// Only records older than this one.
    pub before: Option<RecordId>,
}

/// Found records with their directories, newest first.
#[derive(Debug)]
pub struct Page {
    pub found: Vec<(Record, PipelineDirs)>,
    /// What to ask for next; none at the end.
    pub next_before: Option<RecordId>,
}

/// One page.
pub fn page(ledger: &dyn Ledger, search: &Search) -> ledger::Result<Page> {
    let roots: HashMap<PipelineId, PipelineDirs> =
        ledger.roots()?.into_iter().map(|roots| (roots.id, roots)).collect();
    // The ledger finds these by an index; others are told apart here, so that no question to it
    // reads more than a window.
    let state = search.state.filter(|state| *state == State::Quarantined);
    let mut page = Page { found: Vec::new(), next_before: search.before };
    for _ in 0..WINDOWS {
        let query = HistoryQuery {
            state,
            before: page.next_before,
            limit: Some(WINDOW),
            ..HistoryQuery::default()
        };
        let records = ledger.history(&query)?;
        let is_last = (records.len() as u64) < WINDOW;
        for record in records {
            if page.found.len() >= search.limit {
                return Ok(page);
            }
            page.next_before = Some(record.id);
            let Some(of) = roots.get(&record.pipeline) else { continue };
            if fits(search, &record, of) {
                page.found.push((record, of.clone()));
            }
        }
        if is_last {
            page.next_before = None;
            return Ok(page);
        }
    }
    Ok(page)
}

/// Whether it is looked for, its age left aside.
#[must_use]
pub fn fits(search: &Search, record: &Record, roots: &PipelineDirs) -> bool {
    let state = search.state.is_none_or(|state| record.state == state);
    let pipeline = search.pipeline.as_ref().is_none_or(|name| *name == roots.name);
    state && pipeline && search.text.as_ref().is_none_or(|text| mentions(record, text))
}

fn mentions(record: &Record, text: &str) -> bool {
    let text = text.to_lowercase();
    let has = |shown: String| shown.to_lowercase().contains(&text);
    has(display_path(&record.source).to_string())
        || record.output.as_ref().is_some_and(|output| has(display_path(&output.path).to_string()))
        || record.reason.clone().is_some_and(has)
}

/// A record as the outcome it stands for. Tries are not in the ledger.
#[must_use]
pub fn notice(record: &Record, roots: &PipelineDirs) -> OutcomeRecord {
    let output = record.output.as_ref().filter(|_| record.state != State::Skipped);
    OutcomeRecord {
        id: record.id,
        pipeline: roots.name.clone(),
        path: display_path(&record.source).to_string(),
        state: record.state.as_str(),
        at: time(record),
        output: output.map(|output| display_path(&output.path).to_string()),
        source_bytes: record.identity.size,
        output_bytes: output.map(|output| output.identity.size),
        reason: record.reason.clone(),
        attempts: None,
        seconds: None,
    }
}
