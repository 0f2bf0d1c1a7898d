//! Name, type, help and labels of every metric; the recorder and its text format.
//!
//! The labels `pipeline`, `outcome`, `stage`, `channel`, `hook`, `kind`, `program` and `reason` have few values: never a path.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::process::ProcessMetrics;

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MetricType {
    Counter,
    Gauge,
    Histogram,
}

/// One metric. Its unit is the last word of its name, except `_total`.
#[derive(Clone, Copy, Debug)]
struct Spec {
    name: &'static str,
    metric_type: MetricType,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare them with the rendered text"))]
    labels: &'static [&'static str],
    help: &'static str,
}

macro_rules! specs {
    ($($constant:ident = $kind:ident $name:literal $labels:tt $help:literal;)+) => {
        $(pub const $constant: &str = $name;)+
        /// All metrics of the service; `process.rs` has those of the process.
        const SPECS: &[Spec] = &[$(Spec { name: $name, metric_type: MetricType::$kind, labels: &$labels, help: $help }),+];
    };
}

specs! {
    FILES = Counter "tidemill_files_total" ["pipeline", "outcome"] "Files by outcome: published when the output is acknowledged, also by recovery, otherwise when the job ends; a file that re-enters the intake counts as deferred each time.";
    SOURCE_BYTES = Counter "tidemill_source_bytes_total" ["pipeline", "outcome"] "Source bytes of files by outcome, counted with them.";
    OUTPUT_BYTES = Counter "tidemill_output_bytes_total" ["pipeline"] "Bytes of published outputs.";
    STAGE_SECONDS = Histogram "tidemill_stage_seconds" ["pipeline", "stage"] "Time a stage spent on one file, without the wait for the next stage (settle: the wait for the file; commit: each of the three steps of a batch; discover: up to 256 names).";
    ENTERED = Counter "tidemill_channel_entered_total" ["channel"] "Items sent into the channel between two stages.";
    LEFT = Counter "tidemill_channel_left_total" ["channel"] "Items received from the channel between two stages.";
    CAPACITY = Gauge "tidemill_channel_capacity" ["channel"] "Items a channel holds before its sender waits.";
    BACKPRESSURE_SECONDS = Histogram "tidemill_backpressure_seconds" ["channel"] "Waits of senders for a full channel; the sum is the time lost to backpressure.";
    BATCH_FILES = Histogram "tidemill_commit_batch_files" ["pipeline"] "Files in one group commit.";
    SYNC_SECONDS = Histogram "tidemill_sync_seconds" ["pipeline", "kind"] "Duration of one call that makes data or names durable.";
    EVENTS = Counter "tidemill_events_total" ["pipeline"] "Paths reported by file system events, after events of the same file were merged.";
    OVERFLOWS = Counter "tidemill_overflows_total" ["pipeline"] "Times that file system events were lost and a full scan replaced them.";
    RESCAN_FINDS = Counter "tidemill_rescan_finds_total" ["pipeline"] "Files found by a periodic scan without an event.";
    QUARANTINED = Counter "tidemill_quarantined_files_total" ["pipeline", "reason"] "Files that went to quarantine, by the code of the reason.";
    RETRIES = Counter "tidemill_retries_total" ["pipeline"] "Failed attempts that are retried.";
    PENDING_FILES = Gauge "tidemill_pending_files" ["pipeline"] "Discovered files that are not in flight.";
    PENDING_SECONDS = Gauge "tidemill_oldest_pending_seconds" ["pipeline"] "Age of the oldest pending file, in seconds.";
    IN_FLIGHT = Gauge "tidemill_in_flight_files" ["pipeline"] "Files in flight, between settle and their outcome.";
    PAUSED = Gauge "tidemill_paused" ["pipeline", "reason"] "1 while the intake is paused: by the operator, because storage is unavailable, or outside its window.";
    OVERDUE = Gauge "tidemill_overdue" ["pipeline"] "1 while no file has come for as long as `expect` states.";
    LAST_PUBLISHED = Gauge "tidemill_last_published_timestamp_seconds" ["pipeline"] "Time of the last acknowledged output, in seconds since the epoch.";
    PROGRAM_RUNS = Counter "tidemill_program_runs_total" ["pipeline", "program", "outcome"] "Runs of a user's program (`exec`) by outcome.";
    EXPIRED_FILES = Counter "tidemill_expired_files_total" ["pipeline", "kind"] "Files that a retention removed, by place: archive or quarantine.";
    EXPIRED_BYTES = Counter "tidemill_expired_bytes_total" ["pipeline", "kind"] "Bytes of files that a retention removed, by place.";
    EXPIRED_RECORDS = Counter "tidemill_expired_records_total" [] "Records that a retention removed from the ledger.";
    HOOK_RUNS = Counter "tidemill_hook_runs_total" ["hook", "outcome"] "Runs of a user's hook by outcome.";
    HOOK_DROPPED = Counter "tidemill_hook_dropped_total" ["hook"] "Notifications dropped because the hook was too slow, its runner had exited, or it was still running at shutdown.";
    TRACES_DROPPED = Counter "tidemill_traces_dropped_total" [] "Files whose trace was not sent because the receiver was unavailable or too slow.";
    LOG_DROPPED = Counter "tidemill_log_lines_dropped_total" [] "Log lines dropped because standard error did not take them: its reader was too slow, or its disk full.";
    PHASE = Gauge "tidemill_phase" ["phase"] "1 for the current phase of the process.";
    BUILD = Gauge "tidemill_build_info" ["version"] "1, with the version as a label.";
}

/// Buckets in seconds, from 50 µs to 10 s: for small and large files on fast and slow disks.
const SECONDS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 10.0,
];
const FILES_IN_BATCH: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Renders the recorder's metrics. Clones share one recorder.
#[derive(Clone)]
pub struct Exporter {
    handle: PrometheusHandle,
    process: ProcessMetrics,
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").finish_non_exhaustive()
    }
}

impl Exporter {
    /// Renders the text format of Prometheus, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        self.process.collect();
        self.handle.render()
    }

    /// Aggregates recorded samples; without it histograms grow until the next scrape.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot install the recorder of the metrics: {0}")]
pub struct InstallError(String);

/// Installs the recorder of the process, or returns the installed one.
pub fn install() -> Result<Exporter, InstallError> {
    static INSTALLED: OnceLock<Exporter> = OnceLock::new();
    if let Some(exporter) = INSTALLED.get() {
        return Ok(exporter.clone());
    }
    let failed = |error: BuildError| InstallError(error.to_string());
    let handle = builder().and_then(PrometheusBuilder::install_recorder).map_err(failed)?;
    describe();
    let process = ProcessMetrics::describe();
    Ok(INSTALLED.get_or_init(|| Exporter { handle, process }).clone())
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    let batch = Matcher::Full(BATCH_FILES.to_owned());
    PrometheusBuilder::new().set_buckets(&SECONDS)?.set_buckets_for_metric(batch, &FILES_IN_BATCH)
}

/// Registers the descriptions and the constant metrics.
fn describe() {
    for spec in SPECS {
        match spec.metric_type {
            MetricType::Counter => metrics::describe_counter!(spec.name, spec.help),
            MetricType::Gauge => metrics::describe_gauge!(spec.name, spec.help),
            MetricType::Histogram => metrics::describe_histogram!(spec.name, spec.help),
        }
    }
    metrics::gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

#[cfg(test)]
mod tests;
