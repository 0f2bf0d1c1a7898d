//! Whether the place a pipeline writes to is well: a circuit breaker.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{limits, observe::PipelineMeter};

/// Shared by the steps that find the place sick and the intake that pauses for it.
#[derive(Debug)]
pub struct Place {
    name: Arc<str>,
    meter: Arc<PipelineMeter>,
    health: Mutex<Health>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Well,
    /// Nothing is sent until then; then one file, to see.
    Sick {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Open,
    /// One file, and no other until it came back.
    One,
    /// None until then.
    Closed(Instant),
    /// None until the one on its way came back.
    Waiting,
}

impl Place {
    pub fn new(name: &Arc<str>, meter: Arc<PipelineMeter>) -> Self {
        Self { name: Arc::clone(name), meter, health: Mutex::new(Health::Well) }
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file was published, or the input answered: the place is well.
    pub fn found_well(&self, now: Instant) {
        let mut health = self.lock();
        if let Health::Sick { since, .. } | Health::Probing { since, .. } = *health {
            let paused = now.saturating_duration_since(since);
            tracing::info!(pipeline = %self.name, paused_seconds = paused.as_secs_f64(), "the place is well again: the intake resumes");
            self.meter.paused(None);
        }
        *health = Health::Well;
    }

    /// A file failed for a reason that is not its own.
    pub fn found_sick(&self, reason: &str, now: Instant) {
        let mut health = self.lock();
        let (since, wait) = match *health {
            Health::Well => {
                tracing::warn!(pipeline = %self.name, reason, "the place is sick: the intake pauses, every source stays");
                self.meter.paused(Some(reason));
                (now, limits::BACKOFF)
            }
            // Files that were under way when it fell sick say nothing new.
            Health::Sick { .. } => return,
            Health::Probing { since, wait } => (since, (wait * 2).min(limits::BACKOFF_MOST)),
        };
        *health = Health::Sick { since, until: now + wait, wait };
    }

    /// What may be sent now; [`Admission::One`] counts as sent.
    pub fn admit(&self, now: Instant) -> Admission {
        let mut health = self.lock();
        match *health {
            Health::Well => Admission::Open,
            Health::Sick { until, .. } if now < until => Admission::Closed(until),
            Health::Sick { since, wait, .. } => {
                *health = Health::Probing { since, wait };
                Admission::One
            }
            Health::Probing { .. } => Admission::Waiting,
        }
    }

    /// The file sent to see came back without an answer about the place.
    pub fn probe_returned(&self, now: Instant) {
        let mut health = self.lock();
        if let Health::Probing { since, wait } = *health {
            *health = Health::Sick { since, until: now, wait };
        }
    }

    /// For how long it has been sick.
    #[must_use]
    pub fn sick_for(&self, now: Instant) -> Option<Duration> {
        match *self.lock() {
            Health::Well => None,
            Health::Sick { since, .. } | Health::Probing { since, .. } => {
                Some(now.saturating_duration_since(since))
            }
        }
    }
}
