//! What can be seen of the service: metrics, status, logs, events, progress.

mod channel;
mod events;
mod hooks;
mod life;
mod logs;
mod meters;
mod metrics;
mod progress;
mod shown;
mod status;
mod work;

pub use channel::ChannelMeter;
pub use events::{Event, Events, Listener};
pub use hooks::{HookEnd, HookMeter};
pub use life::Signs;
pub use logs::init as init_logs;
pub use meters::{Observer, OutcomeKind, PipelineMeter, SyncKind};
pub use metrics::{Exporter, InstallError, install as install_exporter};
pub use progress::{print_summary, run as progress};
pub use shown::shown;
pub use status::{ChannelStatus, PipelineStatus, Status, Totals};

/// Descriptors this process has open, the one that counts them left out.
#[must_use]
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1))
}
