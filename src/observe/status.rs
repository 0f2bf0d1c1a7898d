//! The service at one moment, as `/api/v1/status` tells it.

use serde::Serialize;

/// The whole service.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub version: &'static str,
    pub phase: &'static str,
    pub uptime_seconds: f64,
    pub pipelines: Vec<PipelineStatus>,
    pub channels: Vec<ChannelStatus>,
    /// What pipelines counted that a reload has removed.
    #[serde(skip)]
    pub(super) removed: Vec<PipelineStatus>,
}

/// One pipeline. Counts are since the start of the process.
#[derive(Clone, Debug, Serialize)]
pub struct PipelineStatus {
    pub name: String,
    pub published: u64,
    pub skipped: u64,
    pub quarantined: u64,
    pub deferred: u64,
    pub retries: u64,
    pub source_bytes: u64,
    pub output_bytes: u64,
    pub overflows: u64,
    pub rescan_finds: u64,
    pub pending: u64,
    pub oldest_pending_seconds: f64,
    pub in_work: u64,
    pub in_work_bytes: u64,
    pub oldest_in_work_seconds: f64,
    /// Why the intake pauses, if it does.
    pub paused: Option<String>,
}

/// One channel between two stages.
#[derive(Clone, Debug, Serialize)]
pub struct ChannelStatus {
    pub name: &'static str,
    pub capacity: usize,
    pub queued: u64,
    pub entered: u64,
    pub waited_seconds: f64,
}

/// All pipelines together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub published: u64,
    pub skipped: u64,
    pub quarantined: u64,
    /// Jobs that had an outcome, of whatever kind.
    pub ended: u64,
    pub in_work: u64,
    pub in_work_bytes: u64,
    pub source_bytes: u64,
    pub output_bytes: u64,
}

impl Status {
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.pipelines.iter().chain(&self.removed).fold(Totals::default(), |sum, pipeline| Totals {
            published: sum.published + pipeline.published,
            skipped: sum.skipped + pipeline.skipped,
            quarantined: sum.quarantined + pipeline.quarantined,
            ended: sum.ended
                + pipeline.published
                + pipeline.skipped
                + pipeline.quarantined
                + pipeline.deferred,
            in_work: sum.in_work + pipeline.in_work,
            in_work_bytes: sum.in_work_bytes + pipeline.in_work_bytes,
            source_bytes: sum.source_bytes + pipeline.source_bytes,
            output_bytes: sum.output_bytes + pipeline.output_bytes,
        })
    }

    /// Why it is not ready, if so: a phase other than READY, or a paused pipeline.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        if self.phase != "READY" {
            return Some(format!("phase {}", self.phase));
        }
        self.pipelines.iter().find_map(|pipeline| {
            let reason = pipeline.paused.as_ref()?;
            Some(format!("pipeline {} pauses: {reason}", pipeline.name))
        })
    }
}
