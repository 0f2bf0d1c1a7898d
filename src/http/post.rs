//! The requests that change something.

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use super::{App, problem::Problem, quarantine::WantedCause, state::Reloaded};
use crate::{
    config::Pipeline,
    ledger::{Ledger, RecordId},
    limits,
    observe::PauseReason,
    pipeline::NoSuchPipeline,
    queries::{
        cause,
        outcomes::{self, Search},
        quarantined::{self, Quarantined},
    },
    reason::ReasonCode,
};

/// The longest wait for a request's body.
const BODY: Duration = Duration::from_secs(10);

/// One pipeline, or all where none is named.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Selection {
    pipeline: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct EmptyBody {}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileSelection {
    ids: Vec<RecordId>,
    all: bool,
    /// These narrow `all`.
    pipeline: Option<String>,
    reason_code: Option<ReasonCode>,
    cause: Option<String>,
    search: Option<String>,
}

impl FileSelection {
    fn fits(&self, file: &Quarantined) -> bool {
        let search = Search {
            text: self.search.clone().filter(|text| !text.is_empty()),
            pipeline: self.pipeline.clone(),
            ..Search::default()
        };
        let wanted = WantedCause { reason_code: self.reason_code, cause: self.cause.clone() };
        outcomes::fits(&search, &file.record, &file.roots)
            && wanted.fits(cause(&file.record, &file.roots).as_ref())
    }
}

/// The pipelines that the operator has paused, after the request.
#[derive(Debug, Serialize)]
pub struct PauseState {
    paused: Vec<String>,
}

/// An answer without content.
#[derive(Debug, Serialize)]
pub struct Accepted {}

#[derive(Debug, Serialize)]
pub struct Requeued {
    requeued: usize,
    failed: Vec<NotRequeued>,
}

#[derive(Debug, Serialize)]
struct NotRequeued {
    id: RecordId,
    error: String,
}

/// Reads the body: small, in time, and without unknown keys.
async fn body<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > limits::BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let received = timeout(BODY, received(request.into_body())).await;
    let bytes = received.map_err(|_| {
        let detail = "the request's body did not come in time";
        Problem::new(StatusCode::REQUEST_TIMEOUT, "slow", detail)
    })??;
    // An object: serde would accept a list for a struct, too.
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes)
        .and_then(|object| T::deserialize(serde_json::Value::Object(object)))
        .map_err(|error| Problem::malformed(format!("the body is not what is expected: {error}")))
}

async fn received(body: Body) -> Result<Vec<u8>, Problem> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| Problem::malformed(error.to_string()))?;
        if bytes.len() + chunk.len() > limits::BODY_BYTES_MAX {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn too_large() -> Problem {
    let detail = format!("a request's body has at most {} bytes", limits::BODY_BYTES_MAX);
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
}

fn no_such_pipeline(error: &NoSuchPipeline) -> Problem {
    Problem::not_found(format!("{error}: /api/v1/status names the pipelines"))
}

async fn set_paused(
    app: &App,
    request: Request,
    paused: bool,
) -> Result<Json<PauseState>, Problem> {
    let Selection { pipeline } = body(request).await?;
    let control = app.api_state.control()?;
    control.set_paused(pipeline.as_deref(), paused).map_err(|error| no_such_pipeline(&error))?;
    let pipelines = app.observer.status().pipelines.into_iter();
    let paused = pipelines.filter(|pipeline| pipeline.pause(PauseReason::Operator).is_some());
    Ok(Json(PauseState { paused: paused.map(|pipeline| pipeline.name).collect() }))
}

pub async fn pause(State(app): State<App>, request: Request) -> Result<Json<PauseState>, Problem> {
    set_paused(&app, request, true).await
}

pub async fn resume(State(app): State<App>, request: Request) -> Result<Json<PauseState>, Problem> {
    set_paused(&app, request, false).await
}

pub async fn drain(
    State(app): State<App>,
    request: Request,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let EmptyBody {} = body(request).await?;
    tracing::info!(event = "service.drain_requested", "drain requested by the operator");
    app.api_state.handle().request_stop();
    Ok((StatusCode::ACCEPTED, Json(Accepted {})))
}

pub async fn rescan(State(app): State<App>, request: Request) -> Result<Json<Accepted>, Problem> {
    let Selection { pipeline } = body(request).await?;
    let control = app.api_state.control()?;
    match pipeline {
        None => control.rescan(),
        Some(pipeline) => {
            control.rescan_one(&pipeline).map_err(|error| no_such_pipeline(&error))?;
        }
    }
    Ok(Json(Accepted {}))
}

pub async fn reload(State(app): State<App>, request: Request) -> Result<Json<Reloaded>, Problem> {
    let EmptyBody {} = body(request).await?;
    app.api_state.reload().await.map(Json)
}

pub async fn requeue(State(app): State<App>, request: Request) -> Result<Json<Requeued>, Problem> {
    let which: FileSelection = body(request).await?;
    let is_narrowed =
        which.reason_code.is_some() || which.cause.is_some() || which.search.is_some();
    if which.all != which.ids.is_empty() || (is_narrowed && !which.all) {
        let detail = "send either `{\"ids\": [1, 2]}` or `{\"all\": true}`";
        return Err(Problem::malformed(detail));
    }
    let control = app.api_state.control()?.clone();
    if let Some(pipeline) = &which.pipeline {
        let exists = app.observer.status().pipelines.iter().any(|one| one.name == *pipeline);
        if !exists {
            return Err(no_such_pipeline(&NoSuchPipeline(pipeline.clone())));
        }
    }
    let config = app.api_state.config();
    let requeue = move |ledger: &dyn Ledger| requeue_files(ledger, &which, &config.pipelines);
    let requeued = app.api_state.move_files(requeue).await;
    app.api_state.refresh_count();
    control.rescan();
    requeued.map(Json)
}

fn requeue_files(
    ledger: &dyn Ledger,
    which: &FileSelection,
    pipelines: &[Pipeline],
) -> Result<Requeued, Problem> {
    let mut answer = Requeued { requeued: 0, failed: Vec::new() };
    let mut put = |id: RecordId, found: Result<Quarantined, quarantined::Error>| match found
        .and_then(|file| quarantined::requeue(ledger, &file, pipelines))
    {
        Ok(()) => answer.requeued += 1,
        Err(error) => answer.failed.push(NotRequeued { id, error: describe(&error) }),
    };
    if which.all {
        let all = quarantined::all(ledger).map_err(|error| Problem::failed(&error))?;
        let fits = |file: &Quarantined| which.fits(file);
        all.into_iter().filter(fits).for_each(|file| put(file.record.id, Ok(file)));
    } else {
        which.ids.iter().for_each(|id| put(*id, quarantined::read(ledger, *id)));
    }
    Ok(answer)
}

fn describe(error: &quarantined::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
