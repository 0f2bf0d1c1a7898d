//! What can be seen of the service: metrics, status, logs, events, progress.

mod channel;
mod events;
mod feed;
mod hooks;
mod kinds;
mod latency;
mod life;
mod logs;
mod meters;
mod metrics;
mod observer;
mod pipelines;
mod progress;
mod series;
mod shown;
mod status;
mod stderr;
mod trace;
mod work;

pub use channel::ChannelMeter;
pub use events::{Event, Events, Listener, Proof, is_full};
pub use feed::{Feed, Notice};
pub use hooks::{HookEnd, HookMeter};
pub use kinds::{OutcomeKind, SyncKind};
pub use life::Signs;
pub use logs::{init as init_logs, report_panic};
pub use meters::{Pause, PipelineMeter};
pub use metrics::{Exporter, InstallError, install as install_exporter};
pub use observer::Observer;
pub use progress::{OnceEnds, print_summary, run as progress};
pub use series::Point;
pub use shown::{escaped, shell_quoted, shown};
pub use status::{ChannelStatus, DrainStatus, PipelineStatus, StageStatus, Status, Totals};
pub use stderr::{detach as detach_logs, flush as flush_logs, write_lines};
#[cfg(feature = "otlp")]
pub use trace::TraceSender;
pub use trace::{Trace, Tracer};
pub use work::{JobMeter, Working};

use crate::stages::Stage;

/// In the order of the flow.
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

/// Descriptors this process has open, the one that counts them left out.
#[must_use]
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1))
}
