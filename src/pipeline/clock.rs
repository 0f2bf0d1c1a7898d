//! The time that a stage works, without its waits, recorded as it passes.

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
    /// The end of the time recorded so far.
    recorded_until: Instant,
    /// The recorded working time.
    worked: Duration,
}

impl Clock {
    #[must_use]
    pub fn start(meter: &Arc<PipelineMeter>, stage: Stage) -> Self {
        let (meter, recorded_until) = (Arc::clone(meter), Instant::now());
        Self { meter, stage, recorded_until, worked: Duration::ZERO }
    }

    /// Runs `wait` without counting its time as work of this stage.
    pub fn wait<T>(&mut self, wait: impl FnOnce() -> T) -> T {
        self.record();
        let result = wait();
        self.recorded_until = Instant::now();
        result
    }

    /// Records the time since the previous recording.
    pub fn record(&mut self) {
        let now = Instant::now();
        let worked = now.saturating_duration_since(self.recorded_until);
        self.recorded_until = now;
        self.worked += worked;
        self.meter.stage_busy(self.stage, worked);
    }

    /// Records that the stage finished this number of files.
    pub fn stop(mut self, files: usize) {
        self.record();
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
