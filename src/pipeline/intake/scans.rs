//! When the input, or a part of it, is scanned.
//!
//! X1: a full scan that runs is never begun anew: what asks for one meanwhile gets the next.
//! X2: between two full scans lies at least the time that the first one took, so that scans take at
//! most half of a core, however short their interval and however large the input.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::discover::Scan;
use crate::{fingerprint::FileId, fs::Dir, limits, pipeline::job::DiscoveredBy};

/// The scans of one input. Dropping it ends them.
#[derive(Debug, Default)]
pub struct Scans {
    full: FullScans,
    /// The one that runs; a full one or that of a directory.
    running: Option<Scan>,
    /// Directories to be scanned, in their order.
    directories: VecDeque<PathBuf>,
    /// Directories that events told of, to be scanned once more at their time.
    again: VecDeque<(Instant, PathBuf)>,
}

impl Scans {
    /// Asks for a full scan.
    pub fn request(&mut self, origin: DiscoveredBy, now: Instant) {
        self.full.ask(origin, now);
    }

    /// Asks for a full scan where it is time for one.
    pub fn ask_if_due(&mut self, now: Instant) {
        if self.full.is_rescan_due(now) {
            self.full.ask(DiscoveredBy::Rescan, now);
        }
    }

    /// A hint told of a directory. Files made in it before it was watched raised no event; and the
    /// watch on it begins only after the event that told of it.
    pub fn new_directory(&mut self, path: PathBuf, once: bool, now: Instant) {
        if self.directories.len() + self.again.len() >= limits::SCANS_MAX {
            self.directories.clear();
            self.again.clear();
            // It begins after the last of them is watched.
            return self.full.ask(DiscoveredBy::Scan, now + limits::WATCHED_BY);
        }
        if !once {
            self.again.push_back((now + limits::WATCHED_BY, path.clone()));
        }
        self.directories.push_back(path);
    }

    /// The scan to go on with, and whether a full one begins with this call.
    pub fn front(
        &mut self,
        input: &Arc<Dir>,
        own: &Arc<[FileId]>,
        now: Instant,
    ) -> (bool, Option<&mut Scan>) {
        while let Some((_, path)) = self.again.pop_front_if(|(at, _)| *at <= now) {
            self.directories.push_back(path);
        }
        let mut begins = false;
        if self.running.is_none() {
            if let Some(origin) = self.full.begin(now) {
                begins = true;
                self.running = Some(Scan::new(input, own, PathBuf::new(), origin));
            } else if let Some(path) = self.directories.pop_front() {
                self.running = Some(Scan::new(input, own, path, DiscoveredBy::Scan));
            }
        }
        (begins, self.running.as_mut())
    }

    /// The scan that [`Self::front`] gave is through. Full ones come again in this interval.
    pub fn ended(&mut self, interval: Option<Duration>, now: Instant) {
        self.running = None;
        self.full.ended(interval, now);
    }

    /// The input was replaced, or is away: nothing of it is to be scanned any more.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether there is anything to scan now.
    #[must_use]
    pub fn has_work(&self, now: Instant) -> bool {
        self.running.is_some()
            || !self.directories.is_empty()
            || self.again.front().is_some_and(|(at, _)| *at <= now)
            || self.full.next().is_some_and(|at| at <= now)
    }

    /// Whether nothing is left to scan, be it later.
    #[must_use]
    pub fn is_through(&self) -> bool {
        self.running.is_none()
            && self.directories.is_empty()
            && self.again.is_empty()
            && !self.full.is_asked_for()
    }

    /// When the next scan begins.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let again = self.again.front().map(|(at, _)| *at);
        let directories = (!self.directories.is_empty()).then_some(now);
        let full = if self.running.is_some() { None } else { self.full.next() };
        [again, directories, full].into_iter().flatten().min()
    }
}

/// When full scans begin. Pure.
#[derive(Debug, Default)]
struct FullScans {
    /// One was asked for, and begins then at the earliest.
    asked: Option<(DiscoveredBy, Instant)>,
    /// One runs, since then.
    began: Option<Instant>,
    /// After one that ended: none begins before this.
    rest_until: Option<Instant>,
    rescan_at: Option<Instant>,
}

impl FullScans {
    fn ask(&mut self, origin: DiscoveredBy, at: Instant) {
        // A rescan counts what it finds as missed by the watch; one that was asked for does not.
        let (origin, at) = match self.asked {
            Some((DiscoveredBy::Rescan, before)) => (origin, before.min(at)),
            Some((asked, before)) => (asked, before.min(at)),
            None => (origin, at),
        };
        self.asked = Some((origin, at));
    }

    fn is_rescan_due(&self, now: Instant) -> bool {
        self.began.is_none() && self.rescan_at.is_some_and(|at| at <= now)
    }

    fn is_asked_for(&self) -> bool {
        self.asked.is_some()
    }

    /// When the next one begins, if none runs.
    fn next(&self) -> Option<Instant> {
        let asked = self.asked.map(|(_, at)| self.rest_until.map_or(at, |rest| rest.max(at)));
        [asked, self.rescan_at].into_iter().flatten().min().filter(|_| self.began.is_none())
    }

    fn begin(&mut self, now: Instant) -> Option<DiscoveredBy> {
        let (origin, _) = self.asked?;
        if self.began.is_some() || self.next().is_none_or(|at| at > now) {
            return None;
        }
        (self.asked, self.rescan_at, self.began) = (None, None, Some(now));
        Some(origin)
    }

    fn ended(&mut self, interval: Option<Duration>, now: Instant) {
        if let Some(began) = self.began.take() {
            let took = now.saturating_duration_since(began);
            self.rest_until = Some(now + took);
            self.rescan_at = interval.map(|interval| now + interval.max(took));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_scan_that_takes_longer_than_its_interval_ends_and_rests_as_long_as_it_took() {
        let mut scans = FullScans::default();
        let start = Instant::now();
        scans.ask(DiscoveredBy::Scan, start);
        assert_eq!(scans.begin(start), Some(DiscoveredBy::Scan));
        // The interval passes many times while it runs.
        for second in 1..=60 {
            let now = start + second * SECOND;
            assert!(!scans.is_rescan_due(now));
            assert_eq!(scans.begin(now), None, "it is not begun anew");
        }
        scans.ended(Some(SECOND), start + 60 * SECOND);
        assert!(!scans.is_rescan_due(start + 119 * SECOND));
        assert!(scans.is_rescan_due(start + 120 * SECOND));
    }

    #[test]
    fn what_asks_for_a_scan_while_one_runs_gets_the_next_one() {
        let mut scans = FullScans::default();
        let start = Instant::now();
        scans.ask(DiscoveredBy::Scan, start);
        assert_eq!(scans.begin(start), Some(DiscoveredBy::Scan));
        for _ in 0..3 {
            scans.ask(DiscoveredBy::Scan, start + SECOND);
        }
        assert_eq!(scans.begin(start + SECOND), None);
        scans.ended(Some(300 * SECOND), start + 2 * SECOND);
        assert_eq!(scans.begin(start + 3 * SECOND), None, "it rests");
        assert_eq!(scans.next(), Some(start + 4 * SECOND));
        assert_eq!(scans.begin(start + 4 * SECOND), Some(DiscoveredBy::Scan));
        assert_eq!(scans.begin(start + 4 * SECOND), None, "one was asked for");
    }

    #[test]
    fn very_many_new_directories_become_one_full_scan() {
        let mut scans = Scans::default();
        let now = Instant::now();
        for number in 0..=limits::SCANS_MAX {
            scans.new_directory(number.to_string().into(), true, now);
        }
        assert!(scans.directories.is_empty());
        assert_eq!(scans.next(now), Some(now + limits::WATCHED_BY));
    }
}
