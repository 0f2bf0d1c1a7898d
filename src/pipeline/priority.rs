//! The pipelines' shares of the processors (`priority`).
//!
//! Pipelines share no thread, channel or permit (P3): where one had to wait for another, a file system that
//! hangs would stop both. What they share are the processors, and the kernel divides these: the threads that
//! transform have a `nice(1)` value by the priority of their pipeline. It is weighted and starves nobody, and
//! what a pipeline does not use is left to the others.

use rustix::{
    process::{getpriority_process, setpriority_process},
    thread::gettid,
};

use crate::config::Config;

/// The difference of the `nice` values of the highest and the lowest priority. The kernel gives a thread 1.25
/// times the time of one that is nicer by 1: 14.6 times here, so that the lowest of two gets more than a
/// sixteenth.
const NICENESS_SPAN: u32 = 12;
/// The difference of these priorities.
const PRIORITY_SPAN: u32 = 20;
/// The highest `nice` value of the kernel.
const NICENESS_MAX: i32 = 19;

/// The pipelines among which the limits and the processors are divided.
#[derive(Clone, Copy, Debug)]
pub struct Peers {
    pub count: usize,
    /// The highest priority of them.
    pub highest: i32,
}

impl Peers {
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self { count: config.pipelines.len(), highest: highest(config) }
    }

    /// Returns the `nice` value of a pipeline's threads: 0 for those of the highest priority.
    #[must_use]
    pub const fn niceness(self, priority: i32) -> i32 {
        let below = self.highest.saturating_sub(priority);
        if below <= 0 {
            return 0;
        }
        // Rounded up: each step counts.
        (below.unsigned_abs() * NICENESS_SPAN).div_ceil(PRIORITY_SPAN).cast_signed()
    }
}

fn highest(config: &Config) -> i32 {
    config.pipelines.iter().map(|pipeline| pipeline.keys.priority).max().unwrap_or(0)
}

/// Adds to the `nice` value of the calling thread, which the threads inherit that it starts. Where that is
/// denied, it keeps the one that it has.
pub fn add_niceness(niceness: i32) {
    if niceness > 0 {
        let own = getpriority_process(Some(gettid())).unwrap_or(0);
        setpriority_process(Some(gettid()), (own + niceness).min(NICENESS_MAX)).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_priorities_change_nothing_and_each_step_counts() {
        for priority in [-10, 0, 10] {
            assert_eq!(Peers { count: 3, highest: priority }.niceness(priority), 0);
        }
        let peers = Peers { count: 2, highest: 10 };
        let all: Vec<i32> = (-10..=10).map(|priority| peers.niceness(priority)).collect();
        assert!(all.is_sorted_by(|lower, higher| lower >= higher), "{all:?}");
        assert_eq!((all.first(), all.last()), (Some(&12), Some(&0)));
        assert!(peers.niceness(9) > 0);
    }

    #[test]
    fn the_lowest_of_two_gets_a_sixteenth_at_least() {
        let peers = Peers { count: 2, highest: 10 };
        let weight = |priority| 1.25_f64.powi(-peers.niceness(priority));
        let share = weight(-10) / (weight(-10) + weight(10));
        assert!(share > 1.0 / 16.0, "{share}");
        assert!(share < 1.0 / 10.0, "{share}");
    }
}
