//! An entry of the table: a path that waits, or whose file is in flight.

use std::time::{Duration, Instant};

use super::finish::Finish;
use crate::{
    fingerprint::Fingerprint,
    limits,
    pipeline::job::{Arrival, DeferReason, Observation},
};

#[derive(Debug)]
pub(super) enum Pending {
    Waiting(Waiting),
    InFlight(InFlight),
}

impl Pending {
    pub(super) fn closed(&self) -> Option<Instant> {
        let (Self::Waiting(Waiting { finish, .. }) | Self::InFlight(InFlight { finish, .. })) =
            self;
        finish.closed()
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    /// The latest event since the file was sent.
    pub(super) observed_again: Option<Arrival>,
    /// See [`Waiting::waits`].
    pub(super) waits: u32,
    pub(super) finish: Finish,
    /// See [`Waiting::finished`].
    pub(super) finished: Fingerprint,
    pub(super) identity: Fingerprint,
    /// See [`Waiting::unchanged_since`].
    pub(super) unchanged_since: Instant,
    pub(super) was_replaced: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// The identity at the latest observation; [`Fingerprint::NONE`] before the first one.
    pub(super) identity: Fingerprint,
    /// The time of the first observation, or of the latest outcome.
    pub(super) since: Instant,
    /// The time of its last change, as far as this process saw it, on its own clock; before the first
    /// observation by the wall clock, which may be set meanwhile.
    pub(super) unchanged_since: Instant,
    /// The earliest time of the next look.
    pub(super) until: Instant,
    pub(super) attempt: u32,
    /// Whether another file took its name during a job.
    pub(super) was_replaced: bool,
    pub(super) finish: Finish,
    /// Its identity when the latest evidence that it is finished was seen.
    pub(super) finished: Fingerprint,
    /// How often it was deferred because it was not finished; each doubles the wait.
    pub(super) waits: u32,
    /// Its identity at its latest job.
    pub(super) earlier: Fingerprint,
    /// Whether an earlier attempt failed or met unavailable storage.
    pub(super) was_attempted: bool,
    /// The reason of its latest deferral, if any.
    pub(super) cause: Option<DeferReason>,
}

impl Waiting {
    /// Returns the quiet time that its latest job asked for.
    pub(super) const fn needed_quiet(&self) -> Duration {
        match (self.cause, self.finish) {
            (Some(DeferReason::Unsure), _) | (Some(DeferReason::Unseen), Finish::Closed(_)) => {
                limits::QUIET_TIME
            }
            (Some(DeferReason::Unseen), Finish::Unknown) => limits::UNSEEN_QUIET_TIME,
            _ => Duration::ZERO,
        }
    }

    /// Returns the entry after an observation's event.
    pub(super) fn after(self, observation: &Observation, now: Instant) -> Self {
        let Observation { arrival, .. } = *observation;
        let is_evidence = arrival != Arrival::Unknown;
        let identity = observation.metadata.identity;
        let finished = if is_evidence { identity } else { self.finished };
        Self { finish: self.finish.after(arrival, now), finished, ..self }
    }

    /// Returns the time of the last change of a file that has this identity and age now.
    pub(super) fn unchanged_since_at(
        &self,
        found: &Fingerprint,
        age: Duration,
        now: Instant,
    ) -> Instant {
        let is_seen = self.identity != Fingerprint::NONE;
        let known = if is_seen { &self.identity } else { &self.earlier };
        if *known == Fingerprint::NONE {
            now.checked_sub(age).unwrap_or(now)
        } else if known.has_equal_times(found) {
            self.unchanged_since
        } else {
            now
        }
    }

    /// Returns the entry of a file at its first observation.
    pub(super) fn first(identity: Fingerprint, age: Duration, now: Instant) -> Self {
        let unchanged_since = now.checked_sub(age).unwrap_or(now);
        Self { unchanged_since, ..Self::new(identity, now) }
    }

    pub(super) fn new(identity: Fingerprint, now: Instant) -> Self {
        Self {
            identity,
            since: now,
            unchanged_since: now,
            until: now,
            attempt: 1,
            was_replaced: false,
            finish: Finish::Unknown,
            finished: Fingerprint::NONE,
            waits: 0,
            earlier: Fingerprint::NONE,
            was_attempted: false,
            cause: None,
        }
    }
}
