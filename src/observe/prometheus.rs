//! Every metric's name, kind, help and labels; the recorder and its text.
//!
//! Labels are `pipeline`, `outcome`, `stage`, `channel`, `hook` and `kind`, whose values are few: never a path.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// One metric. Its unit is the last word of its name but for `_total`.
#[derive(Clone, Copy, Debug)]
struct Spec {
    name: &'static str,
    kind: Kind,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare them with what is rendered"))]
    labels: &'static [&'static str],
    help: &'static str,
}

macro_rules! specs {
    ($($constant:ident = $kind:ident $name:literal $labels:tt $help:literal;)+) => {
        $(pub const $constant: &str = $name;)+
        /// All metrics of the service; those of the process come from `metrics-process`.
        const SPECS: &[Spec] = &[$(Spec { name: $name, kind: Kind::$kind, labels: &$labels, help: $help }),+];
    };
}

specs! {
    FILES = Counter "tidemill_files_total" ["pipeline", "outcome"] "Files by how they ended; a file that goes through the intake again counts as deferred each time.";
    SOURCE_BYTES = Counter "tidemill_source_bytes_total" ["pipeline", "outcome"] "Bytes of these files.";
    OUTPUT_BYTES = Counter "tidemill_output_bytes_total" ["pipeline"] "Bytes of published outputs.";
    STAGE_SECONDS = Histogram "tidemill_stage_seconds" ["pipeline", "stage"] "Time that a stage worked on one file (settle: waited for it; commit: published one batch; discover: looked at up to 256 names), without waiting for the next stage.";
    ENTERED = Counter "tidemill_channel_entered_total" ["channel"] "Items put into a channel between two stages.";
    LEFT = Counter "tidemill_channel_left_total" ["channel"] "Items taken out of a channel between two stages.";
    CAPACITY = Gauge "tidemill_channel_capacity" ["channel"] "Items a channel holds before its sender waits.";
    BACKPRESSURE_SECONDS = Histogram "tidemill_backpressure_seconds" ["channel"] "Waits of senders because a channel was full; the sum is the time lost to backpressure.";
    BATCH_FILES = Histogram "tidemill_commit_batch_files" ["pipeline"] "Files in one group commit.";
    SYNC_SECONDS = Histogram "tidemill_sync_seconds" ["pipeline", "kind"] "Time of one call that makes something durable.";
    HINTS = Counter "tidemill_hints_total" ["pipeline"] "Paths that events named, after events of one file became one.";
    OVERFLOWS = Counter "tidemill_overflows_total" ["pipeline"] "Times that events were lost and a full scan took their place.";
    RESCAN_FINDS = Counter "tidemill_rescan_finds_total" ["pipeline"] "Files that no event told of and the scan from time to time found.";
    RETRIES = Counter "tidemill_retries_total" ["pipeline"] "Files that failed and are tried again.";
    PENDING_FILES = Gauge "tidemill_pending_files" ["pipeline"] "Files that were seen and are not in work yet.";
    PENDING_SECONDS = Gauge "tidemill_oldest_pending_seconds" ["pipeline"] "For how long the oldest of these has waited.";
    IN_WORK = Gauge "tidemill_in_work_files" ["pipeline"] "Files between settle and their outcome.";
    PAUSED = Gauge "tidemill_paused" ["pipeline"] "1 while the intake pauses because its place is sick.";
    HELD = Gauge "tidemill_held" ["pipeline"] "1 while an operator holds the intake.";
    LAST_PUBLISHED = Gauge "tidemill_last_published_timestamp_seconds" ["pipeline"] "When the last output was acknowledged, in seconds since the epoch.";
    HOOK_RUNS = Counter "tidemill_hook_runs_total" ["hook", "outcome"] "Runs of a user's hook by how they ended.";
    HOOK_DROPPED = Counter "tidemill_hook_dropped_total" ["hook"] "Notifications that were dropped, because a hook was too slow, had no runner any more, or was still at work at the end.";
    TRACES_DROPPED = Counter "tidemill_traces_dropped_total" [] "Files whose trace was not sent, because the receiver is away or too slow.";
    LOG_DROPPED = Counter "tidemill_log_lines_dropped_total" [] "Log lines that were dropped, because the reader of the standard error did not keep up.";
    PHASE = Gauge "tidemill_phase" ["phase"] "1 for the phase that the process is in.";
    BUILD = Gauge "tidemill_build_info" ["version"] "1, with the version as a label.";
}

/// From 50 microseconds to 10 seconds, and past it: small files to large ones, fast disks to slow.
const SECONDS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 10.0,
];
const FILES_IN_BATCH: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// The recorder's text side. Clones show the same.
#[derive(Clone)]
pub struct Exporter {
    handle: PrometheusHandle,
    process: metrics_process::Collector,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

impl Exporter {
    /// The text format of Prometheus, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        self.process.collect();
        self.handle.render()
    }

    /// Moves what was recorded on; without it histograms grow while nobody scrapes.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot install the metrics' recorder: {0}")]
pub struct InstallError(String);

/// Installs the process's one recorder, or gives the one that is installed.
pub fn install() -> Result<Exporter, InstallError> {
    static INSTALLED: OnceLock<Exporter> = OnceLock::new();
    if let Some(exporter) = INSTALLED.get() {
        return Ok(exporter.clone());
    }
    let failed = |error: BuildError| InstallError(error.to_string());
    let handle = builder().and_then(PrometheusBuilder::install_recorder).map_err(failed)?;
    describe();
    let process = metrics_process::Collector::default();
    process.describe();
    Ok(INSTALLED.get_or_init(|| Exporter { handle, process }).clone())
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    let batch = Matcher::Full(BATCH_FILES.to_owned());
    PrometheusBuilder::new().set_buckets(&SECONDS)?.set_buckets_for_metric(batch, &FILES_IN_BATCH)
}

/// Gives the recorder the table, and what never changes.
fn describe() {
    for spec in SPECS {
        match spec.kind {
            Kind::Counter => metrics::describe_counter!(spec.name, spec.help),
            Kind::Gauge => metrics::describe_gauge!(spec.name, spec.help),
            Kind::Histogram => metrics::describe_histogram!(spec.name, spec.help),
        }
    }
    metrics::gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

#[cfg(test)]
mod tests;
