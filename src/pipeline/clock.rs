//! The time that a stage works, without its waits, shown as it passes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{observe::PipelineMeter, stage::Stage};

/// Runs while the stage works, and stops while it waits for its neighbours or for permits.
#[derive(Debug)]
pub struct Clock {
    meter: Arc<PipelineMeter>,
    stage: Stage,
    /// Since when it runs; `None` while it waits.
    since: Option<Instant>,
    /// The working time before that.
    worked: Duration,
}

impl Clock {
    #[must_use]
    pub fn start(meter: &Arc<PipelineMeter>, stage: Stage) -> Self {
        let since = Some(meter.clock_started(stage));
        Self { meter: Arc::clone(meter), stage, since, worked: Duration::ZERO }
    }

    /// Makes a clock that counts nothing, for work that has other clocks.
    #[must_use]
    pub fn stopped(meter: &Arc<PipelineMeter>, stage: Stage) -> Self {
        Self { meter: Arc::clone(meter), stage, since: None, worked: Duration::ZERO }
    }

    /// Runs `wait` without counting its time as work of this stage.
    pub fn wait<T>(&mut self, wait: impl FnOnce() -> T) -> T {
        let was_running = self.since.is_some();
        self.pause();
        let result = wait();
        if was_running {
            self.since = Some(self.meter.clock_started(self.stage));
        }
        result
    }

    /// Stops it, and records that the stage finished this number of files; or with 0 a part of their work.
    pub fn stop(mut self, files: usize) {
        self.pause();
        self.meter.stage_done(self.stage, files, self.worked);
    }

    fn pause(&mut self) {
        if let Some(since) = self.since.take() {
            self.worked += self.meter.clock_stopped(self.stage, since);
        }
    }
}

/// Also a panic stops it.
impl Drop for Clock {
    fn drop(&mut self) {
        self.pause();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Observer;

    #[test]
    fn a_clock_that_runs_is_shown_and_one_that_was_dropped_is_kept() {
        let observer = Observer::new(&[Arc::from("main")], &[]);
        let meter = observer.pipeline(0).expect("the only one");
        let busy = || {
            let stages = observer.status().stages;
            let write = stages.iter().find(|stage| stage.stage == Stage::Write).expect("write");
            assert_eq!(write.files, 0);
            write.busy_seconds
        };
        let clock = Clock::start(&meter, Stage::Write);
        let first = busy();
        while busy() <= first {
            std::thread::yield_now();
        }
        drop(clock);
        let last = busy();
        assert!(last > first);
        drop(Clock::stopped(&meter, Stage::Write));
        assert!((busy() - last).abs() < f64::EPSILON);
    }

    #[test]
    fn a_wait_is_not_the_time_of_the_stage() {
        let observer = Observer::new(&[Arc::from("main")], &[]);
        let meter = observer.pipeline(0).expect("the only one");
        let mut clock = Clock::start(&meter, Stage::Claim);
        let wait = Duration::from_millis(300);
        let until = Instant::now() + wait;
        clock.wait(|| {
            while Instant::now() < until {
                std::thread::yield_now();
            }
        });
        clock.stop(3);
        let stages = observer.status().stages;
        let claim = stages.iter().find(|stage| stage.stage == Stage::Claim).expect("claim");
        assert_eq!(claim.files, 3);
        assert!(claim.busy_seconds < wait.as_secs_f64(), "{}", claim.busy_seconds);
    }
}
