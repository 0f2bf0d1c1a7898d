//! settle: decides when an observed file is ready to be taken. A pure table: it does not sleep, reads
//! no clock and opens nothing; its caller passes the time and the observations.
//!
//! T1: a path is in flight at most once at a time. If it is observed meanwhile, the intake looks at it
//! again after its outcome.
//! T2: a file is ready at once, or waits for a time at which the intake looks at it again; or it is
//! dropped until the next observation. It is never dropped while it is in flight.
//! T3: at most [`limits::PENDING_FILES_MAX`] new paths wait here. For a path without room the table
//! keeps a time at which all paths must be looked at again ([`SettleTable::look_again_at`]).

mod closed_quiet;
mod finish;
mod pending;
mod take_back;
mod wait_reason;

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    fingerprint::Fingerprint,
    limits,
    observe::{OldestPending, Trace},
    pipeline::job::{Arrival, DeferReason, Feedback, JobEnd, Observation, SettledFile},
    policy::Settle,
};

use closed_quiet::ClosedQuiet;
use finish::{Finish, latest};
use pending::{InFlight, Pending, Waiting};
pub use wait_reason::WaitReason;

/// The conditions under which a pipeline's file is ready.
#[derive(Clone, Copy, Debug)]
pub struct SettleRules {
    pub settle: Settle,
    pub min_age: Duration,
    /// The input is on a network file system, where the kernel cannot see all writers: every file must
    /// have its quiet time.
    pub network: bool,
}

/// The observed paths of one pipeline.
#[derive(Debug)]
pub struct SettleTable {
    rules: SettleRules,
    entries: HashMap<PathBuf, Pending>,
    /// The waiting paths by the time of their next look.
    due: BTreeSet<(Instant, PathBuf)>,
    /// The number of entries in flight.
    in_flight: usize,
    /// The earliest time at which a path without room is due.
    look_again_at: Option<Instant>,
    /// How often a waiting file lost its name.
    lost: u64,
    closed_quiet: ClosedQuiet,
}

impl SettleTable {
    #[must_use]
    pub fn new(rules: SettleRules) -> Self {
        Self {
            rules,
            entries: HashMap::new(),
            due: BTreeSet::new(),
            in_flight: 0,
            look_again_at: None,
            lost: 0,
            closed_quiet: ClosedQuiet::new(),
        }
    }

    /// Adds an observation; returns the file if it is ready, and then counts it as in flight.
    pub fn observe(
        &mut self,
        path: PathBuf,
        observation: &Observation,
        now: Instant,
    ) -> Option<SettledFile> {
        let identity = observation.metadata.identity;
        let is_new = !self.entries.contains_key(&path);
        let waiting = match self.entries.get_mut(&path) {
            Some(Pending::InFlight(file)) => {
                file.observed_again = Some(latest(file.observed_again, observation.arrival));
                if observation.arrival != Arrival::Unknown {
                    file.finished = identity;
                }
                return None;
            }
            Some(Pending::Waiting(waiting)) => {
                let unchanged_since = waiting.unchanged_since_at(&identity, observation.age, now);
                let is_unchanged = waiting.identity.has_equal_times(&identity);
                let has_changed = !is_unchanged && waiting.identity != Fingerprint::NONE;
                let known = if has_changed { waiting.identity } else { waiting.earlier };
                let is_other = known != Fingerprint::NONE && !identity.may_be_same_file(&known);
                self.lost += u64::from(is_other);
                let finish = waiting.finish.unless_changed(&waiting.finished, &identity);
                Waiting { identity, unchanged_since, finish, ..*waiting }
            }
            None => Waiting::first(identity, observation.age, now),
        };
        let waiting = waiting.after(observation, now);
        self.remove_due(&path);
        let quiet_for = now.saturating_duration_since(waiting.unchanged_since);
        let until = now + self.remaining_wait(&waiting, (quiet_for, observation.age), now);
        let until = until.max(waiting.until);
        if until > now {
            self.wait_if_room(is_new, path, Waiting { until, ..waiting });
            return None;
        }
        self.in_flight += 1;
        let Waiting { attempt, since, waits, finish, finished, .. } = waiting;
        let Waiting { was_replaced, was_attempted, unchanged_since, .. } = waiting;
        let file = InFlight {
            observed_again: None,
            waits,
            finish,
            finished,
            identity,
            unchanged_since,
            was_replaced,
        };
        self.entries.insert(path.clone(), Pending::InFlight(file));
        Some(SettledFile {
            path,
            metadata: observation.metadata,
            attempt,
            quiet_for,
            arrival: finish.arrival(),
            was_replaced,
            was_attempted,
            waited: now.saturating_duration_since(since),
            origin: observation.origin,
            // The intake sets it.
            trace: Trace::default(),
        })
    }

    /// Takes an observation of a file for which there is no room, to be looked at again later.
    pub fn postpone(&mut self, path: PathBuf, observation: &Observation, now: Instant) {
        let waiting = match self.entries.get(&path) {
            Some(Pending::InFlight(_)) => return,
            Some(Pending::Waiting(waiting)) => *waiting,
            None => Waiting::first(observation.metadata.identity, observation.age, now),
        };
        let is_new = !self.entries.contains_key(&path);
        self.remove_due(&path);
        // A scan comes by again and again, and puts nothing off that has its time.
        let is_due = waiting.until <= now;
        let until = if is_due { now + limits::LARGE_FILES_WAIT } else { waiting.until };
        let waiting = waiting.after(observation, now);
        self.wait_if_room(is_new, path, Waiting { until, ..waiting });
    }

    /// Returns the time that a file must still wait. The age by the wall clock, which may be set, counts
    /// for `min_age` alone.
    fn remaining_wait(
        &self,
        waiting: &Waiting,
        (quiet_for, age): (Duration, Duration),
        now: Instant,
    ) -> Duration {
        let (quiet, after_close) = match (self.rules.settle, waiting.finish) {
            (Settle::Quiet(quiet), _) => (quiet, Duration::ZERO),
            (Settle::Auto, Finish::Renamed) => (Duration::ZERO, Duration::ZERO),
            (Settle::Auto, Finish::Unknown) => (self.closed_quiet.time(), Duration::ZERO),
            (Settle::Auto, Finish::Closed(at)) => {
                let closed_for = now.saturating_duration_since(at.max(waiting.unchanged_since));
                (Duration::ZERO, self.closed_quiet.time().saturating_sub(closed_for))
            }
        };
        let network = if self.rules.network { limits::QUIET_TIME } else { Duration::ZERO };
        let quiet = quiet.max(network).max(waiting.needed_quiet());
        let young = self.rules.min_age.saturating_sub(age.max(quiet_for));
        quiet.saturating_sub(quiet_for).max(young).max(after_close)
    }

    /// Adapts the quiet time to a producer that renamed this path to another one of the same input: if
    /// the file was closed before, later files must be quiet for longer.
    pub fn renamed_away(&mut self, path: &Path, now: Instant) {
        let closed = match self.entries.get(path) {
            Some(entry) => entry.closed(),
            None => self.closed_quiet.recall(path, now),
        };
        if let Some(at) = closed {
            self.closed_quiet.adapt(now.saturating_duration_since(at));
        }
    }

    /// Returns the time at which paths without room must be looked at again. A full scan that begins
    /// then finds them.
    #[must_use]
    pub const fn look_again_at(&self) -> Option<Instant> {
        self.look_again_at
    }

    /// Records that a full scan begins.
    pub const fn on_scan_start(&mut self) {
        self.look_again_at = None;
    }

    pub fn is_in_flight(&self, path: &Path) -> bool {
        matches!(self.entries.get(path), Some(Pending::InFlight(_)))
    }

    pub fn is_waiting(&self, path: &Path) -> bool {
        matches!(self.entries.get(path), Some(Pending::Waiting(_)))
    }

    /// Removes a waiting path that is gone, or no longer belongs to the pipeline; returns whether the table
    /// had the path.
    pub fn remove(&mut self, path: &Path) -> bool {
        if let Some(Pending::InFlight(_)) = self.entries.get(path) {
            return true;
        }
        self.remove_due(path);
        let Some(entry) = self.entries.remove(path) else { return false };
        self.lost += 1;
        if let Some(closed) = entry.closed() {
            self.closed_quiet.remember(path.to_path_buf(), closed);
        }
        true
    }

    /// Schedules another look at a path after a failed `stat`, which gives no information on the file.
    pub fn mark_missing(&mut self, path: PathBuf, now: Instant) {
        let waiting = match self.entries.get(&path) {
            Some(Pending::InFlight(_)) => return,
            Some(Pending::Waiting(waiting)) => *waiting,
            None => Waiting::new(Fingerprint::NONE, now),
        };
        let is_new = !self.entries.contains_key(&path);
        self.remove_due(&path);
        let until = waiting.until.max(now + limits::BACKOFF);
        self.wait_if_room(is_new, path, Waiting { until, ..waiting });
    }

    /// Ends the wait for writers of a file that its producer closed.
    pub fn on_close_write(&mut self, path: &Path, now: Instant) {
        if let Some(Pending::Waiting(waiting)) = self.entries.get(path)
            && waiting.waits > 0
        {
            let waiting = Waiting { until: now, ..*waiting };
            self.remove_due(path);
            self.wait(path.to_path_buf(), waiting);
        }
    }

    /// Takes the outcome of a file in flight. Returns the path, with its latest event, if the intake
    /// must look at it now.
    pub fn on_feedback(&mut self, feedback: Feedback, now: Instant) -> Option<(PathBuf, Arrival)> {
        let Feedback { path, outcome } = feedback;
        let Some(&Pending::InFlight(file)) = self.entries.get(&path) else { return None };
        let InFlight { observed_again, waits, finish, finished, identity, was_replaced, .. } = file;
        self.entries.remove(&path);
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Some(closed) = finish.closed() {
            self.closed_quiet.remember(path.clone(), closed);
        }
        match outcome {
            JobEnd::Published | JobEnd::Skipped | JobEnd::Gone | JobEnd::Quarantined => {
                observed_again.map(|arrival| (path, arrival))
            }
            JobEnd::Unfinished | JobEnd::Returned => None,
            JobEnd::Deferred { after, attempt, cause } => {
                let is_unfinished = cause.is_unfinished_source();
                let waits = if is_unfinished { waits + 1 } else { waits };
                let doubled = after.saturating_mul(1 << waits.saturating_sub(1).min(16));
                // On a network file system no event ends the wait early.
                let wait_max =
                    if self.rules.network { limits::POLL_INTERVAL } else { limits::BACKOFF_MAX };
                let wait = if is_unfinished { doubled.min(wait_max) } else { after };
                let wait = if observed_again.is_some() && is_unfinished { after } else { wait };
                let finish = finish.after(observed_again.unwrap_or(Arrival::Unknown), now);
                let waiting = Waiting {
                    identity: Fingerprint::NONE,
                    since: now,
                    unchanged_since: file.unchanged_since,
                    until: now + wait,
                    attempt,
                    was_replaced: was_replaced || cause == DeferReason::Replaced,
                    finish,
                    finished,
                    waits,
                    earlier: identity,
                    was_attempted: !is_unfinished,
                    cause: Some(cause),
                };
                self.wait(path, waiting);
                None
            }
        }
    }

    /// Takes up to `limit` paths whose next look is due.
    pub fn take_due(&mut self, now: Instant, limit: usize) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        while paths.len() < limit
            && let Some((until, _)) = self.due.first()
            && *until <= now
            && let Some((_, path)) = self.due.pop_first()
        {
            paths.push(path);
        }
        paths
    }

    /// Returns the time at which the next path is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(until, _)| *until)
    }

    /// Returns how often a waiting file lost its name, to none or to another file.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Returns the number of waiting paths.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.entries.len() - self.in_flight
    }

    fn all_waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.entries.values().filter_map(|entry| match entry {
            Pending::Waiting(waiting) => Some(waiting),
            Pending::InFlight(_) => None,
        })
    }

    /// Returns the number of waiting paths with an earlier attempt: the next start resumes them.
    #[must_use]
    pub fn attempted(&self) -> usize {
        self.all_waiting().filter(|waiting| waiting.was_attempted).count()
    }

    /// Returns the bytes of the waiting files, and the one that is unchanged for the longest time.
    #[must_use]
    pub fn bytes_and_oldest(&self, now: Instant) -> (u64, Option<OldestPending>) {
        let waiting = self.entries.iter().filter_map(|(path, entry)| match entry {
            Pending::Waiting(waiting) => Some((path, waiting)),
            Pending::InFlight(_) => None,
        });
        let (mut bytes, mut oldest) = (0, None::<(Instant, &PathBuf)>);
        for (path, waiting) in waiting {
            bytes += waiting.identity.size;
            let waits_since = waiting.unchanged_since.max(waiting.since);
            if oldest.is_none_or(|(since, _)| waits_since < since) {
                oldest = Some((waits_since, path));
            }
        }
        let oldest = oldest.map(|(since, path)| OldestPending {
            source: path.clone(),
            age: now.saturating_duration_since(since),
        });
        (bytes, oldest)
    }

    fn wait_if_room(&mut self, is_new: bool, path: PathBuf, waiting: Waiting) {
        if is_new && self.waiting() >= limits::PENDING_FILES_MAX {
            let until = waiting.until;
            self.look_again_at = Some(self.look_again_at.map_or(until, |at| at.min(until)));
        } else {
            self.wait(path, waiting);
        }
    }

    fn wait(&mut self, path: PathBuf, waiting: Waiting) {
        self.due.insert((waiting.until, path.clone()));
        self.entries.insert(path, Pending::Waiting(waiting));
    }

    fn remove_due(&mut self, path: &Path) {
        if let Some(Pending::Waiting(waiting)) = self.entries.get(path) {
            self.due.remove(&(waiting.until, path.to_path_buf()));
        }
    }
}

#[cfg(test)]
mod tests;
