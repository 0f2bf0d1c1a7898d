//! Returns the history page by page, and searches it in bounded time.

use std::collections::HashMap;

use super::{cause, time};
use crate::{
    ledger::{self, HistoryQuery, Ledger, PipelineDirs, PipelineId, Record, RecordId, State},
    observe::display_path,
    outcome::Outcome,
    protocol::outcome::listed,
};

/// Records that are read at once. A page examines at most `WINDOWS` such windows: a search that
/// finds little continues with the next page.
const WINDOW: u64 = 512;
const WINDOWS: u32 = 100;

/// The filters of a search. A record must match all that are given.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Text in the path, the output's path or the reason, in any case; or the code of the reason.
    pub text: Option<String>,
    pub state: Option<State>,
    pub pipeline: Option<String>,
    pub limit: usize,
    /// Only records older than this one.
    pub before: Option<RecordId>,
}

/// Matching records with their directories, newest first.
#[derive(Debug)]
pub struct Page {
    pub found: Vec<(Record, PipelineDirs)>,
    /// The `before` of the next page; `None` at the end.
    pub next_before: Option<RecordId>,
}

/// Returns one page.
pub fn page(ledger: &dyn Ledger, search: &Search) -> ledger::Result<Page> {
    let roots: HashMap<PipelineId, PipelineDirs> =
        ledger.pipelines()?.into_iter().map(|roots| (roots.id, roots)).collect();
    // The ledger finds quarantined records by an index; other states are filtered here, so that no
    // query reads more than a window.
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
            let Some(dirs) = roots.get(&record.pipeline) else { continue };
            if fits(search, &record, dirs) {
                page.found.push((record, dirs.clone()));
            }
        }
        if is_last {
            page.next_before = None;
            return Ok(page);
        }
    }
    Ok(page)
}

/// Checks whether a record matches the search, except for its age.
#[must_use]
pub fn fits(search: &Search, record: &Record, roots: &PipelineDirs) -> bool {
    let state = search.state.is_none_or(|state| record.state == state);
    let pipeline = search.pipeline.as_ref().is_none_or(|name| *name == roots.name);
    state && pipeline && search.text.as_ref().is_none_or(|text| mentions(record, text))
}

fn mentions(record: &Record, text: &str) -> bool {
    let text = text.to_lowercase();
    let contains = |field: String| field.to_lowercase().contains(&text);
    contains(display_path(&record.source).to_string())
        || record
            .output
            .as_ref()
            .is_some_and(|output| contains(display_path(&output.path).to_string()))
        || record
            .reason
            .as_ref()
            .is_some_and(|reason| reason.code.as_str() == text || contains(reason.text.clone()))
}

/// Returns the outcome of a record. The ledger has no number of attempts.
#[must_use]
pub fn outcome(record: &Record, roots: &PipelineDirs) -> Outcome {
    let cause = cause(record, roots).map(|cause| cause.text);
    Outcome { cause, ..listed(record, &roots.name, time(record)) }
}
