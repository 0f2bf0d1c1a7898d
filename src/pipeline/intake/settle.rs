//! settle: when a file that was seen is ready to be taken. A pure table: it does not sleep, reads
//! no clock and opens nothing; time and sightings are handed to it.
//!
//! T1: a path is in work at most once at a time. What is seen of it meanwhile is looked at again
//! when it comes back.
//! T2: a file is ready at once, or after a time at which it is looked at again; or it is left
//! until something new is seen of it. It is never forgotten while it is in work.

mod left;

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    identity::Identity,
    limits,
    observe::Trace,
    pipeline::job::{Cause, Feedback, Outcome, Settled, Sighting},
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
enum Entry {
    Waiting(Waiting),
    InWork { seen_again: bool, waits: u32 },
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    last: Identity,
    /// Since it was seen first, or came back.
    since: Instant,
    unchanged_since: Instant,
    /// It is not looked at before this.
    until: Instant,
    attempt: u32,
    needs_quiet: bool,
    /// How often it was deferred because it was not finished; the wait doubles with it.
    waits: u32,
    /// Whether it was taken before, and failed or met a sick place.
    owed: bool,
    /// Why it came back, if it was taken before.
    cause: Option<Cause>,
}

/// The sightings of one pipeline.
#[derive(Debug)]
pub struct Table {
    rules: Rules,
    entries: HashMap<PathBuf, Entry>,
    due: BTreeSet<(Instant, PathBuf)>,
    in_work: usize,
}

impl Table {
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, entries: HashMap::new(), due: BTreeSet::new(), in_work: 0 }
    }

    /// Takes a sighting in; gives the file if it is ready, and counts it as in work then.
    pub fn sight(&mut self, path: PathBuf, sighting: &Sighting, now: Instant) -> Option<Settled> {
        let identity = sighting.seen.identity;
        let waiting = match self.entries.get_mut(&path) {
            Some(Entry::InWork { seen_again, .. }) => {
                *seen_again = true;
                return None;
            }
            Some(Entry::Waiting(waiting)) => {
                let unchanged = waiting.last == identity;
                let unchanged_since = if unchanged { waiting.unchanged_since } else { now };
                Waiting { last: identity, unchanged_since, ..*waiting }
            }
            None => Waiting::new(identity, now),
        };
        self.forget_due(&path);
        let quiet_for = now.saturating_duration_since(waiting.unchanged_since).max(sighting.age);
        let until = now + self.still_to_wait(&waiting, quiet_for, sighting.age);
        let until = until.max(waiting.until);
        if until > now {
            self.wait(path, Waiting { until, ..waiting });
            return None;
        }
        self.in_work += 1;
        let quiet = quiet_for >= limits::QUIET_TIME;
        let entry = Entry::InWork { seen_again: false, waits: waiting.waits };
        self.entries.insert(path.clone(), entry);
        let Waiting { attempt, since, .. } = waiting;
        let waited = now.saturating_duration_since(since);
        let Sighting { seen, origin, .. } = *sighting;
        // The intake, which has the clock and the names, begins it.
        let trace = Trace::default();
        Some(Settled { path, seen, attempt, quiet, waited, origin, trace })
    }

    fn still_to_wait(&self, waiting: &Waiting, quiet_for: Duration, age: Duration) -> Duration {
        let quiet = match self.rules.settle {
            Settle::Quiet(quiet) => quiet,
            Settle::Auto => Duration::ZERO,
        };
        let unsure = waiting.needs_quiet || self.rules.network;
        let quiet = quiet.max(if unsure { limits::QUIET_TIME } else { Duration::ZERO });
        let for_age = self.rules.min_age.saturating_sub(age);
        quiet.saturating_sub(quiet_for).max(for_age)
    }

    /// The path is gone, or no longer the pipeline's.
    pub fn gone(&mut self, path: &Path) {
        if let Some(Entry::InWork { .. }) = self.entries.get(path) {
            return;
        }
        self.forget_due(path);
        self.entries.remove(path);
    }

    /// It could not be looked at, for a reason that says nothing of it: it is, again, a little later.
    pub fn unseen(&mut self, path: PathBuf, now: Instant) {
        let waiting = match self.entries.get(&path) {
            Some(Entry::InWork { .. }) => return,
            Some(Entry::Waiting(waiting)) => *waiting,
            None => Waiting::new(Identity::NONE, now),
        };
        self.forget_due(&path);
        self.wait(path, Waiting { until: waiting.until.max(now + limits::BACKOFF), ..waiting });
    }

    /// Its producer closed it: it need not wait for writers any more.
    pub fn closed(&mut self, path: &Path, now: Instant) {
        if let Some(Entry::Waiting(waiting)) = self.entries.get(path)
            && waiting.waits > 0
        {
            let waiting = Waiting { until: now, ..*waiting };
            self.forget_due(path);
            self.wait(path.to_path_buf(), waiting);
        }
    }

    /// Takes back what was in work. Whether the path must be looked at again now.
    pub fn returned(&mut self, feedback: Feedback, now: Instant) -> Option<PathBuf> {
        let Feedback { path, outcome } = feedback;
        let Some(&Entry::InWork { seen_again, waits }) = self.entries.get(&path) else {
            return None;
        };
        self.entries.remove(&path);
        self.in_work = self.in_work.saturating_sub(1);
        match outcome {
            Outcome::Published | Outcome::Skipped | Outcome::Quarantined => {
                seen_again.then_some(path)
            }
            Outcome::Left => None,
            Outcome::Deferred { after, attempt, cause } => {
                let unfinished = matches!(cause, Cause::Busy | Cause::Unsure | Cause::Changed);
                let waits = if unfinished { waits + 1 } else { waits };
                let doubled = after.saturating_mul(1 << waits.saturating_sub(1).min(16));
                let wait = if unfinished { doubled.min(limits::BACKOFF_MOST) } else { after };
                let wait = if seen_again && unfinished { after } else { wait };
                let waiting = Waiting {
                    last: Identity::NONE,
                    since: now,
                    unchanged_since: now,
                    until: now + wait,
                    attempt,
                    needs_quiet: cause == Cause::Unsure,
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
        let owed = |entry: &&Entry| matches!(entry, Entry::Waiting(Waiting { owed: true, .. }));
        self.entries.values().filter(owed).count()
    }

    /// For how long the oldest waiting path has been unchanged.
    #[must_use]
    pub fn oldest(&self, now: Instant) -> Duration {
        let since = self.entries.values().filter_map(|entry| match entry {
            Entry::Waiting(waiting) => Some(waiting.unchanged_since),
            Entry::InWork { .. } => None,
        });
        since.min().map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    fn wait(&mut self, path: PathBuf, waiting: Waiting) {
        self.due.insert((waiting.until, path.clone()));
        self.entries.insert(path, Entry::Waiting(waiting));
    }

    fn forget_due(&mut self, path: &Path) {
        if let Some(Entry::Waiting(waiting)) = self.entries.get(path) {
            self.due.remove(&(waiting.until, path.to_path_buf()));
        }
    }
}

impl Waiting {
    fn new(last: Identity, now: Instant) -> Self {
        Self {
            last,
            since: now,
            unchanged_since: now,
            until: now,
            attempt: 1,
            needs_quiet: false,
            waits: 0,
            owed: false,
            cause: None,
        }
    }
}

#[cfg(test)]
mod tests;
