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
    queries::{
        outcomes,
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

/// The files that failed for one cause.
#[derive(Debug, Serialize)]
struct Group {
    /// Of its newest file.
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

/// The reason without the names of its file, so that files that failed alike have the same one.
pub(super) fn cause(file: &Quarantined) -> String {
    let Quarantined { record, roots } = file;
    let reason = record.reason_text().unwrap_or_default().to_owned();
    let output = record.output.as_ref().map(|output| &output.path);
    let names = [
        (Some(roots.input.join(&record.source)), "the file"),
        (output.map(|output| roots.output.join(output)), "the output"),
        (Some(record.source.clone()), "the file"),
        (output.cloned(), "the output"),
    ];
    names.into_iter().fold(reason, |reason, (path, word)| {
        let name = path.map(|path| display_path(&path).to_string()).unwrap_or_default();
        if name.is_empty() { reason } else { reason.replace(&name, word) }
    })
}

fn groups(files: &[(&Quarantined, String)]) -> Vec<Group> {
    let mut groups: HashMap<&str, Group> = HashMap::new();
    for (file, cause) in files {
        // The newest file comes first.
        let group = groups.entry(cause).or_insert_with(|| Group {
            reason_code: file.record.reason.as_ref().map(|reason| reason.code),
            cause: cause.clone(),
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

fn shown(file: &Quarantined, cause: String, pipelines: &[Pipeline]) -> QuarantineFile {
    let reason = file.reason(pipelines);
    QuarantineFile {
        id: file.record.id,
        pipeline: file.roots.name.clone(),
        source: display_path(&file.record.source).to_string(),
        kept_at: display_path(&file.kept_at()).to_string(),
        time: time(&file.record),
        stage: reason.stage,
        reason_code: file.record.reason.as_ref().map(|reason| reason.code),
        reason: file.record.reason_text().unwrap_or_default().to_owned(),
        cause,
        attempts: reason.attempts,
        bytes: file.record.identity.size,
    }
}

pub async fn quarantine(
    State(app): State<App>,
    query: QueryResult<QueryParams>,
) -> Result<Json<QuarantineAnswer>, Problem> {
    let mut params = given(query)?;
    let wanted_cause = std::mem::take(&mut params.cause);
    let search = search(params)?;
    let config = app.api_state.config();
    let answer = app.api_state.query(move |ledger| {
        let all = quarantined::all(ledger)?;
        let matching: Vec<_> = all
            .iter()
            .filter(|file| outcomes::fits(&search, &file.record, &file.roots))
            .map(|file| (file, cause(file)))
            .filter(|(_, cause)| wanted_cause.is_empty() || *cause == wanted_cause)
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
