//! Observability: metrics, status, logs, the events file, traces and progress.

mod channel;
mod histogram;
mod hooks;
mod in_flight;
mod liveness;
mod logging;
mod meters;
mod observer;
mod outcome_log;
mod outcome_stream;
mod outcomes;
mod pauses;
mod pending;
mod pipelines;
mod process;
mod programs;
mod progress;
mod prometheus;
mod retention;
mod stage_meter;
mod status;
mod stderr;
mod sync_kind;
mod time_series;
mod trace;
pub mod units;

pub use crate::display_path::{display_path, escaped, shell_quoted};

pub use channel::ChannelMeter;
pub use hooks::{HookEnd, HookMeter};
pub use in_flight::{InFlightView, JobMeter};
pub use liveness::Liveness;
pub use logging::{init as init_logs, is_coloured, log_seconds, report_panic};
pub use meters::PipelineMeter;
pub use observer::Observer;
pub use outcome_log::{Listener, OutcomeLog, Proof, is_full, is_repeatable};
pub use outcome_stream::OutcomeStream;
pub use pauses::Pause;
pub use pending::OldestPending;
pub use progress::{OnceOutcome, print_summary, run as progress};
pub use prometheus::{Exporter, InstallError, install as install_exporter};
pub use retention::expired_records;
pub use status::{
    ChannelStatus, DrainStatus, PauseReason, PauseStatus, PipelineStatus, StageStatus, Status,
    Totals,
};
pub use stderr::{
    flush as flush_logs, start_thread as detach_logs, wait as wait_for_logs, write_lines,
    write_message,
};
pub use sync_kind::SyncKind;
pub use time_series::Point;
#[cfg(feature = "otlp")]
pub use trace::TraceSender;
pub use trace::{Trace, Tracer};

use crate::stage::Stage;

/// The stages in the order of the flow.
const STAGES: [Stage; 8] = [
    Stage::Discover,
    Stage::Settle,
    Stage::Claim,
    Stage::Read,
    Stage::Transform,
    Stage::Write,
    Stage::Commit,
    Stage::Dispose,
];

/// Counts the open descriptors of this process, except the one used for counting.
#[must_use]
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1))
}
