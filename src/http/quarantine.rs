//! The quarantine as the API shows it: its files by page, and groups of them by cause.

use std::collections::HashMap;

use axum::{Json, extract::State};
use serde::Serialize;

use super::{
    App,
    get::{QueryParams, QueryResult, given, search},
    problem::Problem,
};
use crate::{
    config::Pipeline,
    ledger::RecordId,
    observe::display_path,
    protocol::cause::OutcomeCause,
    queries::{
        cause, outcomes,
        quarantined::{self, Quarantined},
        time,
    },
    reason::ReasonCode,
};

/// Groups of one answer; the largest come first.
const GROUPS_MAX: usize = 50;

#[derive(Debug, Serialize)]
pub struct QuarantineAnswer {
    /// Files in quarantine, whatever the query.
    total: usize,
    /// Files that fit the query.
    matching: usize,
    groups: Vec<Group>,
    files: Vec<QuarantineFile>,
    next_before: Option<RecordId>,
}

/// A part of a cause that narrows a list; all parts that are given must be equal.
#[derive(Debug)]
pub(super) struct WantedCause {
    pub reason_code: Option<ReasonCode>,
    pub cause: Option<String>,
}

impl WantedCause {
    pub fn fits(&self, cause: Option<&OutcomeCause>) -> bool {
        let text = cause.map_or("", |cause| &cause.text);
        self.reason_code.is_none_or(|code| cause.is_some_and(|cause| cause.code == code))
            && self.cause.as_ref().is_none_or(|wanted| wanted == text)
    }
}

fn code(word: &str) -> Result<Option<ReasonCode>, Problem> {
    let code = (!word.is_empty()).then(|| word.parse()).transpose();
    code.map_err(|error: String| Problem::malformed(format!("`reason_code`: {error}")))
}

/// The files that failed for one cause.
#[derive(Debug, Serialize)]
struct Group {
    reason_code: Option<ReasonCode>,
    cause: String,
    files: usize,
    /// Of its newest file.
    time: String,
    #[serde(skip)]
    newest: RecordId,
}

#[derive(Debug, Serialize)]
struct QuarantineFile {
    id: RecordId,
    pipeline: String,
    source: String,
    kept_at: String,
    time: String,
    /// Unknown where its record in the quarantine directory cannot be read.
    stage: Option<String>,
    reason_code: Option<ReasonCode>,
    reason: String,
    cause: String,
    attempts: Option<u32>,
    bytes: u64,
}

fn groups(files: &[(&Quarantined, Option<OutcomeCause>)]) -> Vec<Group> {
    let mut groups: HashMap<Option<&OutcomeCause>, Group> = HashMap::new();
    for (file, cause) in files {
        // The newest file comes first.
        let group = groups.entry(cause.as_ref()).or_insert_with(|| Group {
            reason_code: cause.as_ref().map(|cause| cause.code),
            cause: text(cause.clone()),
            files: 0,
            time: time(&file.record),
            newest: file.record.id,
        });
        group.files += 1;
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse((group.files, group.newest)));
    groups.truncate(GROUPS_MAX);
    groups
}

fn text(cause: Option<OutcomeCause>) -> String {
    cause.map_or_else(String::new, |cause| cause.text)
}

fn shown(
    file: &Quarantined,
    cause: Option<OutcomeCause>,
    pipelines: &[Pipeline],
) -> QuarantineFile {
    let reason = file.reason(pipelines);
    QuarantineFile {
        id: file.record.id,
        pipeline: file.roots.name.clone(),
        source: display_path(&file.record.source).to_string(),
        kept_at: display_path(&file.kept_at()).to_string(),
        time: time(&file.record),
        stage: reason.stage,
        reason_code: cause.as_ref().map(|cause| cause.code),
        reason: file.record.reason_text().unwrap_or_default().to_owned(),
        cause: text(cause),
        attempts: reason.attempts,
        bytes: file.record.identity.size,
    }
}

pub async fn quarantine(
    State(app): State<App>,
    query: QueryResult<QueryParams>,
) -> Result<Json<QuarantineAnswer>, Problem> {
    let mut params = given(query)?;
    let wanted = WantedCause {
        reason_code: code(&params.reason_code)?,
        cause: Some(std::mem::take(&mut params.cause)).filter(|cause| !cause.is_empty()),
    };
    let search = search(params)?;
    let config = app.api_state.config();
    let answer = app.api_state.query(move |ledger| {
        let all = quarantined::all(ledger)?;
        let matching: Vec<_> = all
            .iter()
            .filter(|file| outcomes::fits(&search, &file.record, &file.roots))
            .map(|file| (file, cause(&file.record, &file.roots)))
            .filter(|(_, cause)| wanted.fits(cause.as_ref()))
            .collect();
        let groups = groups(&matching);
        let is_older = |file: &Quarantined| search.before.is_none_or(|id| file.record.id < id);
        let count = matching.len();
        let mut files: Vec<_> = matching
            .into_iter()
            .filter(|(file, _)| is_older(file))
            .take(search.limit + 1)
            .collect();
        let more = files.len() > search.limit;
        files.truncate(search.limit);
        let next_before = files.last().filter(|_| more).map(|(file, _)| file.record.id);
        let files = files.into_iter().map(|(file, cause)| shown(file, cause, &config.pipelines));
        let files = files.collect();
        Ok(QuarantineAnswer { total: all.len(), matching: count, groups, files, next_before })
    });
    answer.await.map(Json)
}
