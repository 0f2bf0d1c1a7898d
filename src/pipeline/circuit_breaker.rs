//! Whether the place a pipeline writes to is well: a circuit breaker.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    limits,
    observe::{Pause, PipelineMeter, log_seconds},
};

/// Shared by the stages that find the place sick and the intake that pauses for it. Clones are the
/// same place.
#[derive(Clone, Debug)]
pub struct CircuitBreaker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Arc<str>,
    meter: Arc<PipelineMeter>,
    health: Mutex<BreakerState>,
}

/// The right to try whether a sick place is well again. There is one at a time; dropping it, in
/// whatever way its holder ends, lets the next one try.
#[derive(Debug)]
#[must_use = "dropping it ends the try"]
pub struct Probe(CircuitBreaker);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.probe_ended(Instant::now());
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BreakerState {
    Closed,
    /// Nothing is sent until then; then one file, to see.
    Open {
        since: Instant,
        until: Instant,
        wait: Duration,
    },
    /// One file is on its way to see whether the place is well again.
    Probing {
        since: Instant,
        wait: Duration,
    },
}

/// What the intake may send.
#[derive(Debug)]
pub enum Admission {
    Open,
    /// One file, and no other until the probe is dropped.
    One(Probe),
    /// None until then.
    Closed(Instant),
    /// None until the one on its way came back.
    Waiting,
}

impl CircuitBreaker {
    pub fn new(name: &Arc<str>, meter: Arc<PipelineMeter>) -> Self {
        let health = Mutex::new(BreakerState::Closed);
        Self(Arc::new(Inner { name: Arc::clone(name), meter, health }))
    }

    fn lock(&self) -> MutexGuard<'_, BreakerState> {
        self.0.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file was published, or a probe was written: the place is well.
    pub fn reset(&self, now: Instant) {
        let mut health = self.lock();
        if let BreakerState::Open { since, .. } | BreakerState::Probing { since, .. } = *health {
            let paused = now.saturating_duration_since(since);
            tracing::info!(event = "intake.resumed", pipeline = %self.0.name, paused_seconds = log_seconds(paused), "storage available, intake resumed");
            self.0.meter.paused(Pause::Output, None);
        }
        *health = BreakerState::Closed;
    }

    /// A file failed for a reason that is not its own.
    pub fn trip(&self, reason: &str, now: Instant) {
        let mut health = self.lock();
        let (since, wait) = match *health {
            BreakerState::Closed => {
                tracing::warn!(event = "intake.paused", pipeline = %self.0.name, reason, "storage unavailable, intake paused");
                self.0.meter.paused(Pause::Output, Some(reason));
                (now, limits::BACKOFF)
            }
            // Files that were under way when it fell sick say nothing new.
            BreakerState::Open { .. } => return,
            BreakerState::Probing { since, wait } => (since, (wait * 2).min(limits::BACKOFF_MAX)),
        };
        *health = BreakerState::Open { since, until: now + wait, wait };
    }

    /// What may be sent now.
    pub fn admit(&self, now: Instant) -> Admission {
        let mut health = self.lock();
        match *health {
            BreakerState::Closed => Admission::Open,
            BreakerState::Open { until, .. } if now < until => Admission::Closed(until),
            BreakerState::Open { since, wait, .. } => {
                *health = BreakerState::Probing { since, wait };
                Admission::One(Probe(self.clone()))
            }
            BreakerState::Probing { .. } => Admission::Waiting,
        }
    }

    /// The try ended; where it said nothing of the place, the next may come at once.
    fn probe_ended(&self, now: Instant) {
        let mut health = self.lock();
        if let BreakerState::Probing { since, wait } = *health {
            *health = BreakerState::Open { since, until: now, wait };
        }
    }

    /// For how long it has been sick.
    #[must_use]
    pub fn open_for(&self, now: Instant) -> Option<Duration> {
        match *self.lock() {
            BreakerState::Closed => None,
            BreakerState::Open { since, .. } | BreakerState::Probing { since, .. } => {
                Some(now.saturating_duration_since(since))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Observer;

    fn sick(now: Instant) -> CircuitBreaker {
        let name: Arc<str> = Arc::from("main");
        let observer = Observer::new(std::slice::from_ref(&name), &[]);
        let place = CircuitBreaker::new(&name, observer.pipeline(0).expect("its meter"));
        place.trip("No space left on device", now);
        place
    }

    #[test]
    fn a_probe_that_is_dropped_without_an_answer_lets_the_next_one_try() {
        let now = Instant::now();
        let place = sick(now);
        assert!(matches!(place.admit(now), Admission::Closed(_)));
        let later = now + limits::BACKOFF;
        let Admission::One(probe) = place.admit(later) else { panic!("one may try") };
        assert!(matches!(place.admit(later), Admission::Waiting));
        drop(probe);
        assert!(matches!(place.admit(Instant::now() + limits::BACKOFF), Admission::One(_)));
    }

    #[test]
    fn an_input_that_is_there_again_says_nothing_of_a_sick_output() {
        let name: Arc<str> = Arc::from("main");
        let observer = Observer::new(std::slice::from_ref(&name), &[]);
        let meter = observer.pipeline(0).expect("its meter");
        let place = CircuitBreaker::new(&name, Arc::clone(&meter));
        let reasons = || observer.status().pipelines.into_iter().find_map(|one| one.paused);
        place.trip("No space left on device", Instant::now());
        meter.paused(Pause::Input, Some("cannot open the input"));
        let both = reasons().expect("a reason");
        assert_eq!(both, "cannot open the input; No space left on device");
        meter.paused(Pause::Input, None);
        assert_eq!(reasons().as_deref(), Some("No space left on device"));
        place.reset(Instant::now());
        assert_eq!(reasons(), None);
    }

    #[test]
    fn a_probe_that_was_answered_changes_nothing_when_it_is_dropped() {
        let now = Instant::now();
        let place = sick(now);
        let later = now + limits::BACKOFF;
        let Admission::One(probe) = place.admit(later) else { panic!("one may try") };
        place.trip("No space left on device", later);
        drop(probe);
        assert!(matches!(place.admit(later + limits::BACKOFF), Admission::Closed(_)), "it doubled");
        let Admission::One(probe) = place.admit(later + 2 * limits::BACKOFF) else {
            panic!("one may try")
        };
        place.reset(later);
        drop(probe);
        assert!(matches!(place.admit(later), Admission::Open));
    }
}
