//! settle: when a file that was seen is ready to be taken. A pure table: it does not sleep, reads
//! no clock and opens nothing; time and sightings are handed to it.
//!
//! T1: a path is in work at most once at a time. What is seen of it meanwhile is looked at again
//! when it comes back.
//! T2: a file is ready at once, or after a time at which it is looked at again; or it is left
//! until something new is seen of it. It is never forgotten while it is in work.
//! T3: at most [`limits::PENDING_FILES_MAX`] new paths wait here. For one that finds no room there is a
//! time at which all paths must be looked at again ([`SettleTable::look_again_at`]).

mod left;

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    fingerprint::Fingerprint,
    limits,
    observe::Trace,
    pipeline::job::{Arrival, DeferReason, Feedback, Observation, Outcome, SettledFile},
    policy::Settle,
};

pub use left::Why;

/// What makes a file of a pipeline ready.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub settle: Settle,
    pub min_age: Duration,
    /// The kernel does not see all who write: quiet time is asked of every file.
    pub network: bool,
}

#[derive(Debug)]
enum Pending {
    Waiting(Waiting),
    InWork(InWork),
}

#[derive(Clone, Copy, Debug)]
struct InWork {
    seen_again: Option<Arrival>,
    waits: u32,
    finish: Finish,
}

/// What is known of the end of a file's production.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    Unknown,
    /// A writer closed it then.
    Closed(Instant),
    /// It was renamed to its name.
    Renamed,
}

impl Finish {
    fn after(self, arrival: Arrival, now: Instant) -> Self {
        match arrival {
            Arrival::Unknown => self,
            Arrival::Closed => Self::Closed(now),
            Arrival::Renamed => Self::Renamed,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    last: Fingerprint,
    /// Since it was seen first, or came back.
    since: Instant,
    unchanged_since: Instant,
    /// It is not looked at before this.
    until: Instant,
    attempt: u32,
    needs_quiet: bool,
    was_replaced: bool,
    finish: Finish,
    /// How often it was deferred because it was not finished; the wait doubles with it.
    waits: u32,
    /// Whether it was taken before, and failed or met a sick place.
    owed: bool,
    /// Why it came back, if it was taken before.
    cause: Option<DeferReason>,
}

/// The sightings of one pipeline.
#[derive(Debug)]
pub struct SettleTable {
    rules: Rules,
    entries: HashMap<PathBuf, Pending>,
    due: BTreeSet<(Instant, PathBuf)>,
    in_work: usize,
    /// When the first of the paths is due that found no room.
    look_again_at: Option<Instant>,
    /// Quiet time after a close, as this producer's renames have shown that it needs.
    closed_quiet: Duration,
}

impl SettleTable {
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            entries: HashMap::new(),
            due: BTreeSet::new(),
            in_work: 0,
            look_again_at: None,
            closed_quiet: limits::CLOSED_QUIET_TIME,
        }
    }

    /// Takes a sighting in; gives the file if it is ready, and counts it as in work then.
    pub fn observe(
        &mut self,
        path: PathBuf,
        sighting: &Observation,
        now: Instant,
    ) -> Option<SettledFile> {
        let identity = sighting.seen.identity;
        let is_new = !self.entries.contains_key(&path);
        let waiting = match self.entries.get_mut(&path) {
            Some(Pending::InWork(work)) => {
                work.seen_again = Some(later(work.seen_again, sighting.arrival));
                return None;
            }
            Some(Pending::Waiting(waiting)) => {
                let unchanged = waiting.last == identity;
                let unchanged_since = if unchanged { waiting.unchanged_since } else { now };
                let was_changed = !unchanged && waiting.last != Fingerprint::NONE;
                let finish = match waiting.finish {
                    Finish::Renamed if was_changed => Finish::Unknown,
                    finish => finish,
                };
                Waiting { last: identity, unchanged_since, finish, ..*waiting }
            }
            None => Waiting::new(identity, now),
        };
        let finish = waiting.finish.after(sighting.arrival, now);
        let waiting = Waiting { finish, ..waiting };
        self.forget_due(&path);
        let quiet_for = now.saturating_duration_since(waiting.unchanged_since).max(sighting.age);
        let until = now + self.still_to_wait(&waiting, quiet_for, now);
        let until = until.max(waiting.until);
        if until > now {
            self.wait_if_room(is_new, path, Waiting { until, ..waiting });
            return None;
        }
        self.in_work += 1;
        let quiet = quiet_for >= limits::QUIET_TIME;
        let Waiting { attempt, since, waits, finish, was_replaced, owed, .. } = waiting;
        let work = InWork { seen_again: None, waits, finish };
        self.entries.insert(path.clone(), Pending::InWork(work));
        let waited = now.saturating_duration_since(since);
        let Observation { seen, origin, .. } = *sighting;
        // The intake, which has the clock and the names, begins it.
        let trace = Trace::default();
        Some(SettledFile { path, seen, attempt, quiet, was_replaced, owed, waited, origin, trace })
    }

    /// `quiet_for` is the longer of what was observed here and the age by the wall clock: where a
    /// file's times lie in the future, the observation alone counts.
    fn still_to_wait(&self, waiting: &Waiting, quiet_for: Duration, now: Instant) -> Duration {
        let (quiet, after_close) = match (self.rules.settle, waiting.finish) {
            (Settle::Quiet(quiet), _) => (quiet, Duration::ZERO),
            (Settle::Auto, Finish::Renamed) => (Duration::ZERO, Duration::ZERO),
            (Settle::Auto, Finish::Unknown) => (self.closed_quiet, Duration::ZERO),
            (Settle::Auto, Finish::Closed(at)) => {
                let since = now.saturating_duration_since(at.max(waiting.unchanged_since));
                (Duration::ZERO, self.closed_quiet.saturating_sub(since))
            }
        };
        let unsure = waiting.needs_quiet || self.rules.network;
        let quiet = quiet.max(if unsure { limits::QUIET_TIME } else { Duration::ZERO });
        quiet.max(self.rules.min_age).saturating_sub(quiet_for).max(after_close)
    }

    /// A producer renamed this path to another of the same input. Where that was a closed file
    /// (waiting, or taken already), files are left quiet for longer from now on.
    pub fn renamed_away(&mut self, path: &Path, now: Instant) {
        let finish = match self.entries.get(path) {
            Some(Pending::Waiting(waiting)) => waiting.finish,
            Some(Pending::InWork(work)) => work.finish,
            None => Finish::Unknown,
        };
        if let Finish::Closed(at) = finish {
            let needed = 2 * now.saturating_duration_since(at);
            self.closed_quiet = self.closed_quiet.max(needed).min(limits::CLOSED_QUIET_TIME_MAX);
        }
    }

    /// When paths must be looked at again that found no room here. A full scan that begins then
    /// finds them.
    #[must_use]
    pub const fn look_again_at(&self) -> Option<Instant> {
        self.look_again_at
    }

    /// A full scan begins.
    pub const fn scan_begins(&mut self) {
        self.look_again_at = None;
    }

    /// The path is gone, or no longer the pipeline's.
    pub fn gone(&mut self, path: &Path) {
        if let Some(Pending::InWork(_)) = self.entries.get(path) {
            return;
        }
        self.forget_due(path);
        self.entries.remove(path);
    }

    /// It could not be looked at, for a reason that says nothing of it: it is, again, a little later.
    pub fn mark_missing(&mut self, path: PathBuf, now: Instant) {
        let waiting = match self.entries.get(&path) {
            Some(Pending::InWork(_)) => return,
            Some(Pending::Waiting(waiting)) => *waiting,
            None => Waiting::new(Fingerprint::NONE, now),
        };
        let is_new = !self.entries.contains_key(&path);
        self.forget_due(&path);
        let until = waiting.until.max(now + limits::BACKOFF);
        self.wait_if_room(is_new, path, Waiting { until, ..waiting });
    }

    /// Its producer closed it: it need not wait for writers any more.
    pub fn on_close_write(&mut self, path: &Path, now: Instant) {
        if let Some(Pending::Waiting(waiting)) = self.entries.get(path)
            && waiting.waits > 0
        {
            let waiting = Waiting { until: now, ..*waiting };
            self.forget_due(path);
            self.wait(path.to_path_buf(), waiting);
        }
    }

    /// Takes back what was in work. Where the path must be looked at again now, what the kernel said
    /// of it meanwhile.
    pub fn returned(&mut self, feedback: Feedback, now: Instant) -> Option<(PathBuf, Arrival)> {
        let Feedback { path, outcome } = feedback;
        let Some(&Pending::InWork(InWork { seen_again, waits, finish })) = self.entries.get(&path)
        else {
            return None;
        };
        self.entries.remove(&path);
        self.in_work = self.in_work.saturating_sub(1);
        match outcome {
            Outcome::Published | Outcome::Skipped | Outcome::Quarantined => {
                seen_again.map(|arrival| (path, arrival))
            }
            Outcome::Left | Outcome::HandedBack => None,
            Outcome::Deferred { after, attempt, cause } => {
                let unfinished =
                    matches!(cause, DeferReason::Busy | DeferReason::Unsure | DeferReason::Changed);
                let waits = if unfinished { waits + 1 } else { waits };
                let doubled = after.saturating_mul(1 << waits.saturating_sub(1).min(16));
                // On a network file system no event cuts the wait short.
                let most =
                    if self.rules.network { limits::POLL_INTERVAL } else { limits::BACKOFF_MAX };
                let wait = if unfinished { doubled.min(most) } else { after };
                let wait = if seen_again.is_some() && unfinished { after } else { wait };
                let finish = finish.after(seen_again.unwrap_or(Arrival::Unknown), now);
                let waiting = Waiting {
                    last: Fingerprint::NONE,
                    since: now,
                    unchanged_since: now,
                    until: now + wait,
                    attempt,
                    needs_quiet: cause == DeferReason::Unsure,
                    was_replaced: cause == DeferReason::Replaced,
                    finish,
                    waits,
                    owed: !unfinished,
                    cause: Some(cause),
                };
                self.wait(path, waiting);
                None
            }
        }
    }

    /// Paths to be looked at again by now, at most so many.
    pub fn take_due(&mut self, now: Instant, most: usize) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        while paths.len() < most
            && let Some((until, _)) = self.due.first()
            && *until <= now
            && let Some((_, path)) = self.due.pop_first()
        {
            paths.push(path);
        }
        paths
    }

    /// When the next path is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(until, _)| *until)
    }

    #[must_use]
    pub const fn in_work(&self) -> usize {
        self.in_work
    }

    /// Paths that wait, for whatever reason.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.entries.len() - self.in_work
    }

    /// Waiting paths that were taken before: work the next start takes up.
    #[must_use]
    pub fn owed(&self) -> usize {
        let owed = |entry: &&Pending| matches!(entry, Pending::Waiting(Waiting { owed: true, .. }));
        self.entries.values().filter(owed).count()
    }

    /// For how long the oldest waiting path has been unchanged.
    #[must_use]
    pub fn oldest(&self, now: Instant) -> Duration {
        let since = self.entries.values().filter_map(|entry| match entry {
            Pending::Waiting(waiting) => Some(waiting.unchanged_since),
            Pending::InWork(_) => None,
        });
        since.min().map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
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

    fn forget_due(&mut self, path: &Path) {
        if let Some(Pending::Waiting(waiting)) = self.entries.get(path) {
            self.due.remove(&(waiting.until, path.to_path_buf()));
        }
    }
}

impl Waiting {
    fn new(last: Fingerprint, now: Instant) -> Self {
        Self {
            last,
            since: now,
            unchanged_since: now,
            until: now,
            attempt: 1,
            needs_quiet: false,
            was_replaced: false,
            finish: Finish::Unknown,
            waits: 0,
            owed: false,
            cause: None,
        }
    }
}

/// What two events in a row say of a file: the later one, unless it says nothing.
fn later(before: Option<Arrival>, arrival: Arrival) -> Arrival {
    match (before, arrival) {
        (Some(before), Arrival::Unknown) => before,
        _ => arrival,
    }
}

#[cfg(test)]
mod tests;
