//! Process metrics from `/proc/self` (proc(5)), with the names that all Prometheus client libraries use
//! (prometheus.io/docs/instrumenting/writing_clientlibs, "Process metrics").

use std::fs;

use metrics::{counter, describe_counter, describe_gauge, gauge};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

const CPU_SECONDS: &str = "process_cpu_seconds_total";
const OPEN_FDS: &str = "process_open_fds";
const MAX_FDS: &str = "process_max_fds";
const VIRTUAL_BYTES: &str = "process_virtual_memory_bytes";
const VIRTUAL_BYTES_MAX: &str = "process_virtual_memory_max_bytes";
const RESIDENT_BYTES: &str = "process_resident_memory_bytes";
const START_SECONDS: &str = "process_start_time_seconds";
const THREADS: &str = "process_threads";

/// Collects the metrics of this process.
#[derive(Clone, Debug)]
pub struct ProcessMetrics {
    /// Seconds from the epoch to the machine's boot.
    boot_seconds: Option<u64>,
}

/// The fields of `/proc/self/stat` that are exported.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// User and system time, in clock ticks.
    cpu_ticks: u64,
    threads: u64,
    /// From the boot to the start of the process, in clock ticks.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field, the program's name, may have blanks and parentheses. The third comes next.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

impl ProcessMetrics {
    /// Registers the descriptions.
    pub fn describe() -> Self {
        describe_counter!(CPU_SECONDS, "User and system CPU time, in seconds.");
        describe_gauge!(OPEN_FDS, "Open file descriptors.");
        describe_gauge!(MAX_FDS, "Limit of open file descriptors.");
        describe_gauge!(VIRTUAL_BYTES, "Virtual memory size in bytes.");
        describe_gauge!(VIRTUAL_BYTES_MAX, "Limit of the virtual memory size in bytes.");
        describe_gauge!(RESIDENT_BYTES, "Resident memory size in bytes.");
        describe_gauge!(START_SECONDS, "Start time of the process, in seconds since the epoch.");
        describe_gauge!(THREADS, "Threads of the process.");
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime "));
        Self { boot_seconds: boot.and_then(|seconds| seconds.trim().parse().ok()) }
    }

    /// Sets the metrics. One that cannot be read keeps its value.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a floating-point number")]
    pub fn collect(&self) {
        gauge!(OPEN_FDS).set(super::open_descriptors() as f64);
        for (name, resource) in [(MAX_FDS, Resource::Nofile), (VIRTUAL_BYTES_MAX, Resource::As)] {
            gauge!(name).set(getrlimit(resource).current.unwrap_or(u64::MAX) as f64);
        }
        let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let Some(stat) = Stat::parse(&text) else { return };
        let ticks = clock_ticks_per_second().max(1);
        counter!(CPU_SECONDS).absolute(stat.cpu_ticks / ticks);
        gauge!(THREADS).set(stat.threads as f64);
        gauge!(VIRTUAL_BYTES).set(stat.virtual_bytes as f64);
        gauge!(RESIDENT_BYTES).set((stat.resident_pages * page_size() as u64) as f64);
        if let Some(boot) = self.boot_seconds {
            gauge!(START_SECONDS).set((boot + stat.start_ticks / ticks) as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_the_manual_whatever_the_programs_name() {
        let text = "7 (a ) b) S 1 7 7 0 -1 4194560 9 0 0 0 30 12 0 0 20 0 3 0 5000 8192 100 1 2 3";
        let stat = Stat::parse(text).expect("fields");
        let expected = Stat {
            cpu_ticks: 42,
            threads: 3,
            start_ticks: 5000,
            virtual_bytes: 8192,
            resident_pages: 100,
        };
        assert_eq!(stat, expected);
        assert_eq!(Stat::parse("7 (short) S 1"), None);
        let own = fs::read_to_string("/proc/self/stat").expect("proc");
        let own = Stat::parse(&own).expect("fields");
        assert!(own.threads >= 1 && own.resident_pages > 0, "{own:?}");
    }
}
