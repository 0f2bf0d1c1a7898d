//! The answers that change nothing.

use std::path::{Component, PathBuf};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use serde::{Deserialize, Serialize};

use super::{App, Transport, problem::Problem};
use crate::{
    api::{OutcomesAnswer, PipelineAnswer, SeriesAnswer, StatusAnswer, WorkAnswer, WorkFile},
    ledger::{RecordId, State as RecordState},
    limits,
    observe::{Status, display_path},
    phase::ProcessPhase,
    queries::{
        config_of, explain,
        outcomes::{self, Search},
    },
    stage::Stage,
};

/// The query of a list; every part is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct QueryParams {
    search: String,
    state: String,
    pipeline: String,
    limit: Option<usize>,
    before: Option<RecordId>,
    pub(super) cause: String,
    pub(super) reason_code: String,
}

pub(super) type QueryResult<T> = Result<Query<T>, QueryRejection>;

pub(super) fn given<T>(query: QueryResult<T>) -> Result<T, Problem> {
    query.map(|Query(params)| params).map_err(|error| Problem::malformed(error.body_text()))
}

pub async fn status_answer(app: &App) -> StatusAnswer {
    let status = app.observer.status();
    let entered = status.totals().quarantined;
    let sizes = app.api_state.quarantine_sizes(entered).await;
    let config = app.api_state.config();
    let Status {
        version,
        phase,
        uptime_seconds,
        paused_by_operator,
        drain,
        pipelines,
        channels,
        stages,
        ..
    } = status;
    let pipelines = pipelines.into_iter().map(|status| {
        let of = config.pipelines.iter().find(|pipeline| *pipeline.name == *status.name);
        let text = |text: &dyn Fn(&crate::config::Pipeline) -> String| of.map(text);
        PipelineAnswer {
            input: text(&|of| display_path(&of.input).to_string()).unwrap_or_default(),
            output: text(&|of| display_path(&of.output).to_string()).unwrap_or_default(),
            transforms: text(&|of| of.transforms.to_string()).unwrap_or_default(),
            on_success: text(&|of| of.on_success.to_string()).unwrap_or_default(),
            lanes: config.limits.workers.max(1),
            quarantine_files: sizes.get(&status.name).copied().unwrap_or(0),
            status,
        }
    });
    let machine = rustix::system::uname();
    StatusAnswer {
        version: version.to_owned(),
        host: machine.nodename().to_string_lossy().into_owned(),
        pid: std::process::id(),
        kernel: machine.release().to_string_lossy().into_owned(),
        sandbox: app.api_state.sandbox,
        phase,
        uptime_seconds,
        paused_by_operator,
        drain,
        can_change: app.transport == Transport::Socket,
        token_set: app.api_state.token().is_some(),
        pipelines: pipelines.collect(),
        channels,
        stages,
    }
}

pub async fn status(State(app): State<App>) -> Json<StatusAnswer> {
    Json(status_answer(&app).await)
}

pub fn work_answer(app: &App) -> WorkAnswer {
    let working = app.observer.in_flight(limits::IN_FLIGHT_ENTRIES_MAX).into_iter();
    let files = working.map(|(pipeline, job)| WorkFile {
        id: job.id,
        pipeline: pipeline.to_string(),
        source: display_path(&job.path).to_string(),
        bytes: job.bytes,
        done_bytes: job.done_bytes,
        stage: job.stage,
        queued: job.stage == Stage::Settle,
        seconds: job.since.elapsed().as_secs_f64(),
    });
    WorkAnswer { files: files.collect() }
}

pub async fn work(State(app): State<App>) -> Json<WorkAnswer> {
    Json(work_answer(&app))
}

pub async fn series(State(app): State<App>) -> Json<SeriesAnswer> {
    let interval_seconds = limits::SAMPLE_INTERVAL.as_secs();
    Json(SeriesAnswer { interval_seconds, points: app.observer.points() })
}

pub(super) fn search(params: QueryParams) -> Result<Search, Problem> {
    let QueryParams { search, state, pipeline, limit, before, .. } = params;
    if search.len() > limits::SEARCH_BYTES_MAX {
        return Err(Problem::malformed(format!(
            "`search` must have at most {} bytes",
            limits::SEARCH_BYTES_MAX
        )));
    }
    let state = (!state.is_empty()).then(|| state.parse::<RecordState>()).transpose();
    let limit = limit.unwrap_or(limits::PAGE_ENTRIES);
    if !(1..=limits::PAGE_ENTRIES_MAX).contains(&limit) {
        return Err(Problem::malformed(format!(
            "`limit` must be from 1 to {}",
            limits::PAGE_ENTRIES_MAX
        )));
    }
    Ok(Search {
        text: (!search.is_empty()).then_some(search),
        state: state.map_err(|error| Problem::malformed(format!("`state`: {error}")))?,
        pipeline: (!pipeline.is_empty()).then_some(pipeline),
        limit,
        before,
    })
}

pub async fn outcomes(
    State(app): State<App>,
    query: QueryResult<QueryParams>,
) -> Result<Json<OutcomesAnswer>, Problem> {
    let search = search(given(query)?)?;
    let page = app.api_state.query(move |ledger| outcomes::page(ledger, &search)).await?;
    let outcomes = page.found.iter().map(|(record, roots)| outcomes::outcome(record, roots));
    Ok(Json(OutcomesAnswer { outcomes: outcomes.collect(), next_before: page.next_before }))
}

#[derive(Debug, Deserialize)]
pub struct PathParam {
    path: PathBuf,
}

#[derive(Debug, Serialize)]
pub struct ExplainAnswer {
    text: String,
}

/// A relative path is below an input, as lists show it. Nothing outside the configured pipelines'
/// directories is resolved or examined: the client may have no permission to see it.
pub async fn explain(
    State(app): State<App>,
    query: QueryResult<PathParam>,
) -> Result<Json<ExplainAnswer>, Problem> {
    let PathParam { path } = given(query)?;
    if path.as_os_str().is_empty() || path.as_os_str().len() > limits::PATH_BYTES_MAX {
        return Err(Problem::malformed("`path` must be the path of a file"));
    }
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(Problem::malformed("`path` must not contain `..`"));
    }
    let config = app.api_state.config();
    let text = app.api_state.query_with_file(move |ledger| {
        let path = explain::below_an_input(&config.pipelines, path);
        // A removed pipeline's directories may be private by now, or unresponsive.
        let mut roots = ledger.pipelines()?;
        roots.retain(|roots| config_of(&config.pipelines, roots).is_some());
        let explanation = explain::describe(ledger, (&roots, &config.pipelines), &path)?;
        Ok((display_path(&path).to_string(), explanation))
    });
    let (path, mut explanation) = text.await?;
    if let Some(why) = explanation.waits_in.as_ref().and_then(|name| why_none_is_taken(&app, name))
    {
        explanation = explanation.with("service", why);
    }
    Ok(Json(ExplainAnswer { text: format!("{path}: {explanation}") }))
}

/// Returns why a pipeline takes no files now, if it takes none.
fn why_none_is_taken(app: &App, pipeline: &str) -> Option<String> {
    let status = app.observer.status();
    if status.phase != ProcessPhase::Ready {
        return Some(format!("{}: it takes no files", status.phase));
    }
    let status = status.pipelines.into_iter().find(|status| status.name == pipeline)?;
    status.paused.first().map(ToString::to_string)
}

#[derive(Debug, Serialize)]
pub struct ConfigAnswer {
    /// All keys, as `tidemill check --all` prints them.
    all: String,
    /// Only the keys that differ from their defaults.
    changed: String,
}

/// The configuration in force, without what may be secret.
pub async fn config(State(app): State<App>) -> Json<ConfigAnswer> {
    let (all, changed) = app.api_state.config().redacted();
    Json(ConfigAnswer { all, changed })
}
