//! The time that a stage works, without its waits, booked while it passes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{observe::PipelineMeter, stage::Stage};

/// Runs while the stage works, and stands while it waits for its neighbours or for permits.
#[derive(Debug)]
pub struct Clock {
    meter: Arc<PipelineMeter>,
    stage: Stage,
    since: Instant,
    worked: Duration,
}

impl Clock {
    #[must_use]
    pub fn start(meter: &Arc<PipelineMeter>, stage: Stage) -> Self {
        let (meter, since) = (Arc::clone(meter), Instant::now());
        Self { meter, stage, since, worked: Duration::ZERO }
    }

    /// Does something that is not this stage's work.
    pub fn wait<T>(&mut self, wait: impl FnOnce() -> T) -> T {
        self.book();
        let waited = wait();
        self.since = Instant::now();
        waited
    }

    /// Counts the time since it was counted last.
    pub fn book(&mut self) {
        let now = Instant::now();
        let worked = now.saturating_duration_since(self.since);
        self.since = now;
        self.worked += worked;
        self.meter.stage_busy(self.stage, worked);
    }

    /// The stage is through with so many files.
    pub fn stop(mut self, files: usize) {
        self.book();
        self.meter.stage_done(self.stage, files, self.worked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Observer;

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
