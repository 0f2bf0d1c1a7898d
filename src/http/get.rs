//! The answers that only tell.

use std::path::{Component, PathBuf};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use serde::{Deserialize, Serialize};

use super::{App, Transport, problem::Problem};
use crate::{
    ledger::{RecordId, State as RecordState},
    limits,
    observe::{
        ChannelStatus, DrainStatus, OutcomeRecord, PipelineStatus, Point, StageStatus, Status,
        display_path,
    },
    queries::{
        explain,
        outcomes::{self, Search},
        quarantined::{self, Quarantined},
        time,
    },
    stage::Stage,
};

/// What the query of a list holds; everything may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct QueryParams {
    search: String,
    state: String,
    pipeline: String,
    limit: Option<usize>,
    before: Option<RecordId>,
}

type QueryResult<T> = Result<Query<T>, QueryRejection>;

fn given<T>(query: QueryResult<T>) -> Result<T, Problem> {
    query.map(|Query(asked)| asked).map_err(|error| Problem::malformed(error.body_text()))
}

/// The status, with what only the configuration and the ledger know.
#[derive(Debug, Serialize)]
pub struct StatusAnswer {
    version: &'static str,
    phase: &'static str,
    uptime_seconds: f64,
    held: bool,
    drain: Option<DrainStatus>,
    can_change: bool,
    token_set: bool,
    pipelines: Vec<PipelineAnswer>,
    channels: Vec<ChannelStatus>,
    stages: Vec<StageStatus>,
}

#[derive(Debug, Serialize)]
struct PipelineAnswer {
    #[serde(flatten)]
    status: PipelineStatus,
    input: String,
    output: String,
    transforms: String,
    on_success: String,
    quarantine_size: u64,
}

pub async fn status_answer(app: &App) -> StatusAnswer {
    let status = app.observer.status();
    let entered = status.totals().quarantined;
    let sizes = app.desk.quarantine_sizes(entered).await;
    let config = app.desk.config();
    let Status { version, phase, uptime_seconds, held, drain, pipelines, channels, stages, .. } =
        status;
    let pipelines = pipelines.into_iter().map(|status| {
        let of = config.pipelines.iter().find(|pipeline| *pipeline.name == *status.name);
        let text = |text: &dyn Fn(&crate::config::Pipeline) -> String| of.map(text);
        PipelineAnswer {
            input: text(&|of| display_path(&of.input).to_string()).unwrap_or_default(),
            output: text(&|of| display_path(&of.output).to_string()).unwrap_or_default(),
            transforms: text(&|of| of.transforms.to_string()).unwrap_or_default(),
            on_success: text(&|of| of.on_success.to_string()).unwrap_or_default(),
            quarantine_size: sizes.get(&status.name).copied().unwrap_or(0),
            status,
        }
    });
    StatusAnswer {
        version,
        phase,
        uptime_seconds,
        held,
        drain,
        can_change: app.door == Transport::Socket,
        token_set: app.desk.token().is_some(),
        pipelines: pipelines.collect(),
        channels,
        stages,
    }
}

pub async fn status(State(app): State<App>) -> Json<StatusAnswer> {
    Json(status_answer(&app).await)
}

#[derive(Debug, Serialize)]
pub struct WorkAnswer {
    files: Vec<WorkFile>,
}

#[derive(Debug, Serialize)]
struct WorkFile {
    id: i64,
    pipeline: String,
    path: String,
    bytes: u64,
    done_bytes: u64,
    stage: Stage,
    seconds: f64,
}

pub fn work_answer(app: &App) -> WorkAnswer {
    let working = app.observer.in_flight(limits::IN_FLIGHT_ENTRIES_MAX).into_iter();
    let files = working.map(|(pipeline, job)| WorkFile {
        id: job.id,
        pipeline: pipeline.to_string(),
        path: display_path(&job.path).to_string(),
        bytes: job.bytes,
        done_bytes: job.done_bytes,
        stage: job.stage,
        seconds: job.since.elapsed().as_secs_f64(),
    });
    WorkAnswer { files: files.collect() }
}

pub async fn work(State(app): State<App>) -> Json<WorkAnswer> {
    Json(work_answer(&app))
}

#[derive(Debug, Serialize)]
pub struct SeriesAnswer {
    interval_seconds: u64,
    points: Vec<Point>,
}

pub async fn series(State(app): State<App>) -> Json<SeriesAnswer> {
    let interval_seconds = limits::SAMPLE_INTERVAL.as_secs();
    Json(SeriesAnswer { interval_seconds, points: app.observer.points() })
}

#[derive(Debug, Serialize)]
pub struct OutcomesAnswer {
    outcomes: Vec<OutcomeRecord>,
    next_before: Option<RecordId>,
}

fn search(asked: QueryParams) -> Result<Search, Problem> {
    let QueryParams { search, state, pipeline, limit, before } = asked;
    if search.len() > limits::SEARCH_BYTES_MAX {
        return Err(Problem::malformed(format!(
            "`search` has at most {} bytes",
            limits::SEARCH_BYTES_MAX
        )));
    }
    let state = (!state.is_empty()).then(|| state.parse::<RecordState>()).transpose();
    let limit = limit.unwrap_or(limits::PAGE_ENTRIES);
    if !(1..=limits::PAGE_ENTRIES_MAX).contains(&limit) {
        return Err(Problem::malformed(format!(
            "`limit` is from 1 to {}",
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
    asked: QueryResult<QueryParams>,
) -> Result<Json<OutcomesAnswer>, Problem> {
    let search = search(given(asked)?)?;
    let page = app.desk.query(move |ledger| outcomes::page(ledger, &search)).await?;
    let outcomes = page.found.iter().map(|(record, roots)| outcomes::notice(record, roots));
    Ok(Json(OutcomesAnswer { outcomes: outcomes.collect(), next_before: page.next_before }))
}

#[derive(Debug, Serialize)]
pub struct QuarantineAnswer {
    total: usize,
    files: Vec<QuarantineFile>,
    next_before: Option<RecordId>,
}

#[derive(Debug, Serialize)]
struct QuarantineFile {
    id: RecordId,
    pipeline: String,
    path: String,
    kept_at: String,
    at: String,
    /// Not known where nothing readable stands beside it.
    stage: Option<String>,
    reason: String,
    attempts: Option<u32>,
    bytes: u64,
}

pub async fn quarantine(
    State(app): State<App>,
    asked: QueryResult<QueryParams>,
) -> Result<Json<QuarantineAnswer>, Problem> {
    let search = search(given(asked)?)?;
    let config = app.desk.config();
    let answer = app.desk.query(move |ledger| {
        let all = quarantined::all(ledger)?;
        let wanted = |file: &&Quarantined| {
            outcomes::fits(&search, &file.record, &file.roots)
                && search.before.is_none_or(|before| file.record.id < before)
        };
        let mut files: Vec<_> = all.iter().filter(wanted).take(search.limit + 1).collect();
        let more = files.len() > search.limit;
        files.truncate(search.limit);
        let next_before = files.last().filter(|_| more).map(|file| file.record.id);
        let files = files.into_iter().map(|file| {
            let reason = file.reason(&config.pipelines);
            QuarantineFile {
                id: file.record.id,
                pipeline: file.roots.name.clone(),
                path: display_path(&file.record.source).to_string(),
                kept_at: display_path(&file.kept_at()).to_string(),
                at: time(&file.record),
                stage: reason.stage,
                reason: file.record.reason.clone().unwrap_or_default(),
                attempts: reason.attempts,
                bytes: file.record.identity.size,
            }
        });
        let files = files.collect();
        Ok(QuarantineAnswer { total: all.len(), files, next_before })
    });
    answer.await.map(Json)
}

#[derive(Debug, Deserialize)]
pub struct PathParam {
    path: PathBuf,
}

#[derive(Debug, Serialize)]
pub struct ExplainAnswer {
    text: String,
}

/// A path that is not absolute is meant below an input, as lists show it. Nothing is resolved or looked
/// at outside the pipelines' directories: who asks may not be allowed to know what is there.
pub async fn explain(
    State(app): State<App>,
    asked: QueryResult<PathParam>,
) -> Result<Json<ExplainAnswer>, Problem> {
    let PathParam { path } = given(asked)?;
    if path.as_os_str().is_empty() || path.as_os_str().len() > limits::PATH_BYTES_MAX {
        return Err(Problem::malformed("`path` is the absolute path of a file"));
    }
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(Problem::malformed("`path` has no `..` in it"));
    }
    let config = app.desk.config();
    let text = app.desk.look_at_file(move |ledger| {
        let path = explain::below_an_input(&config.pipelines, path);
        let text = explain::describe(ledger, &config.pipelines, &path)?;
        Ok(format!("{}: {text}", display_path(&path)))
    });
    Ok(Json(ExplainAnswer { text: text.await? }))
}
