//! The circuit breaker of the storage that a pipeline writes to.

use std::{
    sync::{Arc, MutexGuard},
    time::{Duration, Instant},
};

use crate::{
    limits,
    observe::{Pause, PipelineMeter, log_seconds},
    sync::Mutex,
};

/// Shared by the stages, which detect unavailable storage, and the intake, which pauses for it. Clones
/// share one state.
#[derive(Clone, Debug)]
pub struct CircuitBreaker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Arc<str>,
    meter: Arc<PipelineMeter>,
    state: Mutex<BreakerState>,
}

/// The permission to test whether unavailable storage is available again. At most one exists at a time;
/// dropping it, whatever the outcome of its holder, allows the next one.
#[derive(Debug)]
#[must_use = "dropping it ends the probe"]
pub struct Probe(CircuitBreaker);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.probe_finished(Instant::now());
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BreakerState {
    Closed,
    /// The intake sends nothing until then; then one file as a probe.
    Open {
        since: Instant,
        until: Instant,
        wait: Duration,
    },
    /// One file is in flight as a probe.
    Probing {
        since: Instant,
        wait: Duration,
    },
}

/// The number of files that the intake may send.
#[derive(Debug)]
pub enum Admission {
    /// Any number.
    All,
    /// One file, and no other until the probe is dropped.
    One(Probe),
    /// None until then.
    NoneUntil(Instant),
    /// None until the probe in flight is dropped.
    NoneWhileProbing,
}

impl CircuitBreaker {
    pub fn new(name: &Arc<str>, meter: Arc<PipelineMeter>) -> Self {
        let state = Mutex::new(BreakerState::Closed);
        Self(Arc::new(Inner { name: Arc::clone(name), meter, state }))
    }

    fn lock(&self) -> MutexGuard<'_, BreakerState> {
        self.0.state.lock()
    }

    /// Closes the breaker: a file was published, or a probe file was written.
    pub fn reset(&self, now: Instant) {
        let mut state = self.lock();
        if let BreakerState::Open { since, .. } | BreakerState::Probing { since, .. } = *state {
            let paused = now.saturating_duration_since(since);
            tracing::info!(event = "intake.resumed", pipeline = %self.0.name, paused_seconds = log_seconds(paused), "storage available, intake resumed");
            self.0.meter.paused(Pause::Output, None);
        }
        *state = BreakerState::Closed;
    }

    /// Opens the breaker: a file failed because of the storage.
    pub fn trip(&self, reason: &str, now: Instant) {
        let mut state = self.lock();
        let (since, wait) = match *state {
            BreakerState::Closed => {
                tracing::warn!(event = "intake.paused", pipeline = %self.0.name, reason, "storage unavailable, intake paused");
                self.0.meter.paused(Pause::Output, Some(reason));
                (now, limits::BACKOFF)
            }
            // Files that were in flight when it opened add no information.
            BreakerState::Open { .. } => return,
            BreakerState::Probing { since, wait } => (since, (wait * 2).min(limits::BACKOFF_MAX)),
        };
        *state = BreakerState::Open { since, until: now + wait, wait };
    }

    /// Returns the number of files that may be sent now.
    pub fn admit(&self, now: Instant) -> Admission {
        let mut state = self.lock();
        match *state {
            BreakerState::Closed => Admission::All,
            BreakerState::Open { until, .. } if now < until => Admission::NoneUntil(until),
            BreakerState::Open { since, wait, .. } => {
                *state = BreakerState::Probing { since, wait };
                Admission::One(Probe(self.clone()))
            }
            BreakerState::Probing { .. } => Admission::NoneWhileProbing,
        }
    }

    /// Ends a probe; without a result for the storage the next probe may start at once.
    fn probe_finished(&self, now: Instant) {
        let mut state = self.lock();
        if let BreakerState::Probing { since, wait } = *state {
            *state = BreakerState::Open { since, until: now, wait };
        }
    }

    /// Returns the time for which storage has been unavailable.
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

    fn open_breaker(now: Instant) -> CircuitBreaker {
        let name: Arc<str> = Arc::from("main");
        let observer = Observer::new(std::slice::from_ref(&name), &[]);
        let breaker = CircuitBreaker::new(&name, observer.pipeline(0).expect("its meter"));
        breaker.trip("No space left on device", now);
        breaker
    }

    #[test]
    fn a_probe_that_is_dropped_without_a_result_allows_the_next_one() {
        let now = Instant::now();
        let breaker = open_breaker(now);
        assert!(matches!(breaker.admit(now), Admission::NoneUntil(_)));
        let later = now + limits::BACKOFF;
        let Admission::One(probe) = breaker.admit(later) else { panic!("no probe") };
        assert!(matches!(breaker.admit(later), Admission::NoneWhileProbing));
        drop(probe);
        assert!(matches!(breaker.admit(Instant::now() + limits::BACKOFF), Admission::One(_)));
    }

    #[test]
    fn an_available_input_does_not_end_the_pause_for_an_unavailable_output() {
        let name: Arc<str> = Arc::from("main");
        let observer = Observer::new(std::slice::from_ref(&name), &[]);
        let meter = observer.pipeline(0).expect("its meter");
        let breaker = CircuitBreaker::new(&name, Arc::clone(&meter));
        let pauses =
            || observer.status().pipelines.into_iter().flat_map(|pipeline| pipeline.paused);
        let reasons = || pauses().next().and_then(|pause| pause.detail);
        breaker.trip("No space left on device", Instant::now());
        meter.paused(Pause::Input, Some("cannot open the input"));
        let both = reasons().expect("a reason");
        assert_eq!(both, "cannot open the input; No space left on device");
        meter.paused(Pause::Input, None);
        assert_eq!(reasons().as_deref(), Some("No space left on device"));
        breaker.reset(Instant::now());
        assert_eq!(reasons(), None);
    }

    #[test]
    fn dropping_a_probe_after_its_result_changes_nothing() {
        let now = Instant::now();
        let breaker = open_breaker(now);
        let later = now + limits::BACKOFF;
        let Admission::One(probe) = breaker.admit(later) else { panic!("no probe") };
        breaker.trip("No space left on device", later);
        drop(probe);
        assert!(
            matches!(breaker.admit(later + limits::BACKOFF), Admission::NoneUntil(_)),
            "the wait doubled"
        );
        let Admission::One(probe) = breaker.admit(later + 2 * limits::BACKOFF) else {
            panic!("no probe")
        };
        breaker.reset(later);
        drop(probe);
        assert!(matches!(breaker.admit(later), Admission::All));
    }
}
