//! The status of the service, as in `/api/v1/status`.

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{phase::ProcessPhase, stage::Stage};

/// Status of the service.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub version: &'static str,
    pub phase: ProcessPhase,
    pub uptime_seconds: f64,
    /// Whether an operator paused all pipelines.
    pub paused_by_operator: bool,
    /// Progress of the drain, once it has started.
    pub drain: Option<DrainStatus>,
    pub pipelines: Vec<PipelineStatus>,
    pub channels: Vec<ChannelStatus>,
    pub stages: Vec<StageStatus>,
    /// Counts of pipelines that a reload removed.
    #[serde(skip)]
    pub(super) removed: Vec<PipelineStatus>,
}

/// One pipeline. Counts start with the process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
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
    /// Ended jobs. An output counts as published before its job ends.
    #[serde(skip)]
    pub ended: u64,
    /// Source bytes of these, except of skipped ones.
    #[serde(skip)]
    pub ended_bytes: u64,
    pub pending: u64,
    #[serde(skip)]
    pub pending_bytes: u64,
    pub oldest_pending_seconds: f64,
    /// The source of that file, below the input.
    pub oldest_pending: Option<String>,
    pub in_flight: u64,
    pub in_flight_bytes: u64,
    /// Bytes of these sources read so far.
    pub in_flight_done_bytes: u64,
    pub oldest_in_flight_seconds: f64,
    /// Files of `in_flight` on which no stage has begun.
    pub queued: u64,
    /// Lanes for large files that have one.
    pub lanes_busy: u64,
    /// The pauses in effect, at most one for each reason; empty while it takes files.
    pub paused: Vec<PauseStatus>,
}

/// A pause of one pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseStatus {
    pub reason: PauseReason,
    /// RFC 3339, UTC.
    pub since: String,
    /// The error, if storage is unavailable; when the next window opens, if all are closed.
    pub detail: Option<String>,
}

impl std::fmt::Display for PauseStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { reason, since, detail } = self;
        match reason {
            PauseReason::Operator => {
                write!(f, "paused by the operator since {since}: `tidemill resume` resumes it")
            }
            PauseReason::Storage => {
                write!(f, "paused by storage since {since}, resumes automatically")?;
                detail.iter().try_for_each(|detail| write!(f, ": {detail}"))
            }
            PauseReason::Window => {
                write!(f, "outside its window since {since}")?;
                detail.iter().try_for_each(|detail| write!(f, ": {detail}"))
            }
        }
    }
}

/// Who or what paused a pipeline: the label `reason` of `tidemill_paused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PauseReason {
    Operator,
    /// Storage is unavailable; the pipeline resumes automatically.
    Storage,
    /// Its windows are closed; it resumes when the next one opens.
    Window,
}

impl PauseReason {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Storage => "storage",
            Self::Window => "window",
        }
    }
}

impl PipelineStatus {
    #[must_use]
    pub fn pause(&self, reason: PauseReason) -> Option<&PauseStatus> {
        self.paused.iter().find(|pause| pause.reason == reason)
    }
}

/// One channel between two stages.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChannelStatus {
    pub name: Cow<'static, str>,
    pub capacity: usize,
    pub queued: u64,
    pub entered: u64,
    pub waited_seconds: f64,
}

/// One of the eight stages, for all pipelines.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageStatus {
    pub stage: Stage,
    /// Units of work: files, except for discover (a round of names).
    pub files: u64,
    pub busy_seconds: f64,
}

/// Progress of a drain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DrainStatus {
    pub unfinished_files: u64,
    /// Unread bytes of their sources.
    pub unfinished_bytes: u64,
    pub seconds: f64,
    pub deadline_left_seconds: f64,
    /// Estimate by the rate since the drain started; `None` before the first file or byte is finished.
    pub estimated_left_seconds: Option<f64>,
    /// The drain is over: `unfinished_files` is final.
    pub ended: bool,
}

impl DrainStatus {
    pub(super) fn of(took: Duration, deadline: Duration, before: &Totals, now: &Totals) -> Self {
        let unfinished_bytes = now.in_flight_bytes.saturating_sub(now.in_flight_done_bytes);
        let seconds = took.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
        let at_rate = |left: u64, done: u64| match (left, done) {
            (0, _) => Some(0.0),
            (_, 0) => None,
            (left, done) => Some(left as f64 * seconds / done as f64),
        };
        // Bytes unread at the start less bytes unread now: they include those of unfinished files.
        let before_bytes = before.in_flight_bytes.saturating_sub(before.in_flight_done_bytes);
        let by_files = at_rate(now.in_flight, now.ended.saturating_sub(before.ended));
        let by_bytes = at_rate(unfinished_bytes, before_bytes.saturating_sub(unfinished_bytes));
        Self {
            unfinished_files: now.in_flight,
            unfinished_bytes,
            seconds,
            deadline_left_seconds: deadline.saturating_sub(took).as_secs_f64(),
            ended: false,
            estimated_left_seconds: match (by_files, by_bytes) {
                (Some(files), Some(bytes)) => Some(files.max(bytes)),
                (files, bytes) => bytes.filter(|bytes| *bytes > 0.0).or(files),
            },
        }
    }
}

/// Totals of all pipelines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub published: u64,
    pub skipped: u64,
    pub quarantined: u64,
    /// Ended jobs.
    pub ended: u64,
    /// Source bytes of these, except of skipped ones.
    pub ended_bytes: u64,
    pub pending: u64,
    pub pending_bytes: u64,
    pub in_flight: u64,
    pub in_flight_bytes: u64,
    pub in_flight_done_bytes: u64,
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
            ended: sum.ended + pipeline.ended,
            ended_bytes: sum.ended_bytes + pipeline.ended_bytes,
            pending: sum.pending + pipeline.pending,
            pending_bytes: sum.pending_bytes + pipeline.pending_bytes,
            in_flight: sum.in_flight + pipeline.in_flight,
            in_flight_bytes: sum.in_flight_bytes + pipeline.in_flight_bytes,
            in_flight_done_bytes: sum.in_flight_done_bytes + pipeline.in_flight_done_bytes,
            source_bytes: sum.source_bytes + pipeline.source_bytes,
            output_bytes: sum.output_bytes + pipeline.output_bytes,
        })
    }

    /// Returns the reason if the service is not ready: a phase other than READY, or a paused pipeline. One
    /// outside its window does what its configuration asks for.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        if self.phase != ProcessPhase::Ready {
            return Some(format!("phase {}", self.phase));
        }
        if self.paused_by_operator {
            return Some("paused by the operator".to_owned());
        }
        self.pipelines.iter().find_map(|pipeline| {
            let name = &pipeline.name;
            pipeline.paused.iter().find_map(|pause| match pause.reason {
                PauseReason::Operator => Some(format!("pipeline {name}: paused by the operator")),
                PauseReason::Storage => {
                    let detail = pause.detail.as_deref().unwrap_or_default();
                    Some(format!("pipeline {name} pauses: {detail}"))
                }
                PauseReason::Window => None,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_estimated_by_the_slower_of_files_and_bytes() {
        let before = Totals { in_flight: 4, in_flight_bytes: 400, ended: 10, ..Totals::default() };
        let now = Totals { in_flight: 2, in_flight_bytes: 300, ended: 12, ..Totals::default() };
        let (took, deadline) = (Duration::from_secs(2), Duration::from_secs(25));
        let drain = DrainStatus::of(took, deadline, &before, &now);
        assert_eq!((drain.unfinished_files, drain.unfinished_bytes), (2, 300));
        assert_eq!(drain.estimated_left_seconds, Some(6.0));
        assert!((drain.deadline_left_seconds - 23.0).abs() < 1e-9);
        let nothing = DrainStatus::of(took, deadline, &before, &before);
        assert_eq!(nothing.estimated_left_seconds, None);
        let done = Totals { ended: 14, ..Totals::default() };
        assert_eq!(
            DrainStatus::of(took, deadline, &before, &done).estimated_left_seconds,
            Some(0.0)
        );
    }
}
