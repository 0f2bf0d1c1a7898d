//! The answers of the API that the command line reads too: the server writes them, the client reads them.
//!
//! A client may be newer or older than the service: a field that is missing in an answer has its default. A word
//! that the client does not know is an error.

use serde::{Deserialize, Serialize};

use crate::{
    ledger::RecordId,
    observe::{ChannelStatus, DrainStatus, PipelineStatus, Point, StageStatus},
    outcome::Outcome,
    phase::ProcessPhase,
    sandbox::SandboxState,
    stage::Stage,
};

/// The status, with facts of the machine, the configuration and the ledger.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusAnswer {
    pub version: String,
    pub host: String,
    pub pid: u32,
    /// Release of the kernel.
    pub kernel: String,
    pub sandbox: SandboxState,
    pub phase: ProcessPhase,
    pub uptime_seconds: f64,
    pub paused_by_operator: bool,
    pub drain: Option<DrainStatus>,
    pub can_change: bool,
    pub token_set: bool,
    pub pipelines: Vec<PipelineAnswer>,
    pub channels: Vec<ChannelStatus>,
    pub stages: Vec<StageStatus>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PipelineAnswer {
    #[serde(flatten)]
    pub status: PipelineStatus,
    pub input: String,
    pub output: String,
    pub transforms: String,
    pub on_success: String,
    /// Lanes for large files: each processes one at a time.
    pub lanes: u32,
    pub quarantine_files: u64,
}

/// The files in flight.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkAnswer {
    pub files: Vec<WorkFile>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkFile {
    pub id: i64,
    pub pipeline: String,
    pub source: String,
    pub bytes: u64,
    pub done_bytes: u64,
    pub stage: Stage,
    /// Whether no stage has begun yet.
    pub queued: bool,
    pub seconds: f64,
}

/// The last hour.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SeriesAnswer {
    pub interval_seconds: u64,
    pub points: Vec<Point>,
}

/// A page of outcomes, the newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OutcomesAnswer {
    pub outcomes: Vec<Outcome>,
    pub next_before: Option<RecordId>,
}
