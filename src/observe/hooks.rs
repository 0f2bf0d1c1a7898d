//! The meter of one hook.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use metrics::Counter;

use super::prometheus as names;

crate::policy::words! {
    /// Outcome of a hook's run.
    HookEnd {
        Done = "done",
        Failed = "failed",
        TimedOut = "timed_out",
    }
}

/// The meter of one hook.
#[derive(Debug)]
pub struct HookMeter {
    name: &'static str,
    runs: [(HookEnd, Counter); 3],
    dropped: Counter,
    /// Failed or timed-out runs, and dropped notifications.
    plain: (AtomicU64, AtomicU64),
}

impl HookMeter {
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        let run = |end: HookEnd| {
            let counter =
                metrics::counter!(names::HOOK_RUNS, "hook" => name, "outcome" => end.as_str());
            counter.increment(0);
            (end, counter)
        };
        let dropped = metrics::counter!(names::HOOK_DROPPED, "hook" => name);
        dropped.increment(0);
        let runs = [HookEnd::Done, HookEnd::Failed, HookEnd::TimedOut].map(run);
        Self { name, runs, dropped, plain: Default::default() }
    }

    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub fn ran(&self, end: HookEnd) {
        for (_, counter) in self.runs.iter().filter(|(outcome, _)| *outcome == end) {
            counter.increment(1);
        }
        self.plain.0.fetch_add(u64::from(end != HookEnd::Done), Relaxed);
    }

    pub fn dropped(&self, notifications: u64) {
        self.dropped.increment(notifications);
        self.plain.1.fetch_add(notifications, Relaxed);
    }

    /// Returns the number of failed or timed-out runs, and of dropped notifications.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.plain.0.load(Relaxed), self.plain.1.load(Relaxed))
    }
}
