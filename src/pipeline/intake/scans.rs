//! The schedule of scans of the input, or of a part of it.
//!
//! X1: a running full scan is never restarted: a request during it leads to the next one.
//! X2: the pause between two full scans is at least as long as the first one took, so that scans take
//! at most half of a core, however short their interval and however large the input.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::discover::Scan;
use crate::{fingerprint::FileId, limits, pipeline::job::DiscoveredBy, source::Source};

/// The scans of one input. Dropping it ends them.
#[derive(Debug, Default)]
pub struct Scans {
    full: FullScans,
    /// The running scan, of the input or of a directory.
    running: Option<Scan>,
    /// Directories to be scanned, in order.
    directories: VecDeque<PathBuf>,
    /// New directories with the time of their second scan, in order.
    repeated: VecDeque<(Instant, PathBuf)>,
}

impl Scans {
    /// Requests a full scan.
    pub fn request(&mut self, origin: DiscoveredBy, now: Instant) {
        self.full.request(origin, now);
    }

    /// Requests another full scan without the pause of X2: nothing else is left to do.
    pub fn request_again(&mut self, now: Instant) {
        self.full.pause_until = None;
        self.full.request(DiscoveredBy::Again, now);
    }

    /// Requests a full scan if one is due.
    pub fn request_if_due(&mut self, now: Instant) {
        if self.full.is_rescan_due(now) {
            self.full.request(DiscoveredBy::Rescan, now);
        }
    }

    /// Requests scans of a directory that an event named. Files created in it before it was watched
    /// raised no event, and its watch begins only after that event.
    pub fn new_directory(&mut self, path: PathBuf, once: bool, now: Instant) {
        if self.directories.len() + self.repeated.len() >= limits::SCANS_MAX {
            self.directories.clear();
            self.repeated.clear();
            // The full scan begins after the last of them is watched.
            return self.full.request(DiscoveredBy::Scan, now + limits::WATCH_START_DELAY_MAX);
        }
        if !once {
            self.repeated.push_back((now + limits::WATCH_START_DELAY_MAX, path.clone()));
        }
        self.directories.push_back(path);
    }

    /// Returns the scan to continue, and the origin of a full scan that begins with this call.
    pub fn front(
        &mut self,
        input: &dyn Source,
        own: &Arc<[FileId]>,
        now: Instant,
    ) -> (Option<DiscoveredBy>, Option<&mut Scan>) {
        while let Some((_, path)) = self.repeated.pop_front_if(|(at, _)| *at <= now) {
            self.directories.push_back(path);
        }
        let mut begins = None;
        if self.running.is_none() {
            if let Some(origin) = self.full.start(now) {
                begins = Some(origin);
                self.running = Some(Scan::new(input, own, PathBuf::new(), origin));
            } else if let Some(path) = self.directories.pop_front() {
                self.running = Some(Scan::new(input, own, path, DiscoveredBy::Scan));
            }
        }
        (begins, self.running.as_mut())
    }

    /// Ends the running scan. The next periodic full scan follows after this interval.
    pub fn finish(&mut self, interval: Option<Duration>, now: Instant) {
        self.running = None;
        self.full.finish(interval, now);
    }

    /// Drops all scans: the input was replaced or is unavailable.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Checks whether a scan can run now.
    #[must_use]
    pub fn has_work(&self, now: Instant) -> bool {
        self.running.is_some()
            || !self.directories.is_empty()
            || self.repeated.front().is_some_and(|(at, _)| *at <= now)
            || self.full.next().is_some_and(|at| at <= now)
    }

    /// Checks whether no scan runs, waits or is requested for later.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.running.is_none()
            && self.directories.is_empty()
            && self.repeated.is_empty()
            && !self.full.is_requested()
    }

    /// Returns the time at which the next scan begins.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let second_scan = self.repeated.front().map(|(at, _)| *at);
        let directories = (!self.directories.is_empty()).then_some(now);
        let full = if self.running.is_some() { None } else { self.full.next() };
        [second_scan, directories, full].into_iter().flatten().min()
    }
}

/// The schedule of full scans. Pure.
#[derive(Debug, Default)]
struct FullScans {
    /// The requested scan, and the earliest time at which it begins.
    request: Option<(DiscoveredBy, Instant)>,
    /// The start of the running scan.
    started_at: Option<Instant>,
    /// The end of the pause after the latest scan.
    pause_until: Option<Instant>,
    /// The time of the next periodic scan.
    rescan_at: Option<Instant>,
}

impl FullScans {
    fn request(&mut self, origin: DiscoveredBy, at: Instant) {
        // Files that a rescan finds count as missed by the watch; those of a requested scan do not.
        let (origin, at) = match self.request {
            // A scan that finds all files finds the rest, too.
            Some((requested, earlier)) if origin == DiscoveredBy::Rest => {
                (requested, earlier.min(at))
            }
            Some((DiscoveredBy::Rescan | DiscoveredBy::Rest, earlier)) => (origin, earlier.min(at)),
            Some((requested, earlier)) => (requested, earlier.min(at)),
            None => (origin, at),
        };
        self.request = Some((origin, at));
    }

    fn is_rescan_due(&self, now: Instant) -> bool {
        self.started_at.is_none() && self.rescan_at.is_some_and(|at| at <= now)
    }

    fn is_requested(&self) -> bool {
        self.request.is_some()
    }

    /// Returns the time at which the next scan begins, if none runs.
    fn next(&self) -> Option<Instant> {
        let requested =
            self.request.map(|(_, at)| self.pause_until.map_or(at, |until| until.max(at)));
        let next = [requested, self.rescan_at].into_iter().flatten().min();
        next.filter(|_| self.started_at.is_none())
    }

    fn start(&mut self, now: Instant) -> Option<DiscoveredBy> {
        let (origin, _) = self.request?;
        if self.started_at.is_some() || self.next().is_none_or(|at| at > now) {
            return None;
        }
        (self.request, self.rescan_at, self.started_at) = (None, None, Some(now));
        Some(origin)
    }

    fn finish(&mut self, interval: Option<Duration>, now: Instant) {
        if let Some(started_at) = self.started_at.take() {
            let duration = now.saturating_duration_since(started_at);
            self.pause_until = Some(now + duration);
            self.rescan_at = interval.map(|interval| now + interval.max(duration));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_scan_that_takes_longer_than_its_interval_ends_and_pauses_as_long_as_it_took() {
        let mut scans = FullScans::default();
        let start = Instant::now();
        scans.request(DiscoveredBy::Scan, start);
        assert_eq!(scans.start(start), Some(DiscoveredBy::Scan));
        // The interval passes many times while it runs.
        for second in 1..=60 {
            let now = start + second * SECOND;
            assert!(!scans.is_rescan_due(now));
            assert_eq!(scans.start(now), None, "it is not restarted");
        }
        scans.finish(Some(SECOND), start + 60 * SECOND);
        assert!(!scans.is_rescan_due(start + 119 * SECOND));
        assert!(scans.is_rescan_due(start + 120 * SECOND));
    }

    #[test]
    fn requests_during_a_scan_lead_to_one_next_scan() {
        let mut scans = FullScans::default();
        let start = Instant::now();
        scans.request(DiscoveredBy::Scan, start);
        assert_eq!(scans.start(start), Some(DiscoveredBy::Scan));
        for _ in 0..3 {
            scans.request(DiscoveredBy::Scan, start + SECOND);
        }
        assert_eq!(scans.start(start + SECOND), None);
        scans.finish(Some(300 * SECOND), start + 2 * SECOND);
        assert_eq!(scans.start(start + 3 * SECOND), None, "the pause");
        assert_eq!(scans.next(), Some(start + 4 * SECOND));
        assert_eq!(scans.start(start + 4 * SECOND), Some(DiscoveredBy::Scan));
        assert_eq!(scans.start(start + 4 * SECOND), None, "the requests became one");
    }

    #[test]
    fn too_many_new_directories_become_one_full_scan() {
        let mut scans = Scans::default();
        let now = Instant::now();
        for number in 0..=limits::SCANS_MAX {
            scans.new_directory(number.to_string().into(), true, now);
        }
        assert!(scans.directories.is_empty());
        assert_eq!(scans.next(now), Some(now + limits::WATCH_START_DELAY_MAX));
    }
}
