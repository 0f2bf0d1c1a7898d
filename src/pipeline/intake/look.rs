//! What the intake does with names: it takes hints in, goes on with a scan, and looks.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    Intake,
    discover::{LookResult, NameEvent, QueuedEvents},
};
use crate::{
    failpoint, limits,
    observe::display_path,
    pipeline::job::{Arrival, DiscoveredBy},
    stage::Stage,
};

impl Intake {
    pub(super) fn take_hints(&mut self) {
        let (taken, more) = self.hints.take(limits::LOOKS_PER_TURN_MAX);
        let QueuedEvents { paths, overflow, scan, root } = taken;
        self.more_hints = more;
        if root {
            self.root.suspect();
        }
        if overflow {
            self.context.meter.overflow();
            tracing::warn!(event = "intake.overflowed", pipeline = %self.context.name(), "event queue overflowed, running a full scan");
        }
        let now = Instant::now();
        if overflow || scan {
            self.scans.request(DiscoveredBy::Scan, now);
        }
        for (path, told) in paths {
            self.context.meter.event();
            let path = self.candidates.marked(path);
            let arrival = match told {
                NameEvent::Named => Arrival::Unknown,
                NameEvent::Closed => Arrival::Closed,
                NameEvent::RenamedHere => Arrival::Renamed,
                NameEvent::RenamedAway => {
                    self.table.renamed_away(&path, now);
                    Arrival::Unknown
                }
            };
            self.look(path, (DiscoveredBy::Hint, arrival));
        }
    }

    /// Goes on with the scan that is first, or begins it.
    pub(super) fn scan(&mut self, now: Instant) {
        let Some(input) = self.root.dir() else { return };
        let (begins, running) = self.scans.front(input, self.candidates.own(), now);
        if begins {
            self.table.scan_begins();
        }
        let Some(scan) = running else { return };
        let origin = scan.origin;
        let found = scan.next(&self.candidates, limits::LOOKS_PER_TURN_MAX);
        // A watch scans again; `--once` must not say that it saw everything.
        self.ended.left += if self.once { scan.take_unlisted() } else { 0 };
        let met = scan.take_met();
        for path in met {
            self.met_own(&path);
        }
        let Some(found) = found else {
            let interval = (!self.once).then(|| self.root.rescan(&self.context));
            return self.scans.ended(interval, Instant::now());
        };
        let start = Instant::now();
        for path in found {
            self.look(path, (origin, Arrival::Unknown));
        }
        self.context.meter.stage(Stage::Discover, start.elapsed());
    }

    fn met_own(&mut self, path: &Path) {
        if self.own_met.len() < limits::OPEN_DIRECTORIES_MAX
            && self.own_met.insert(path.to_path_buf())
        {
            tracing::warn!(event = "intake.own_directory", pipeline = %self.context.name(), path = %display_path(path), "own directory mounted below the input, ignored");
        }
    }

    pub(super) fn look(&mut self, path: PathBuf, (origin, arrival): (DiscoveredBy, Arrival)) {
        let Some(input) = self.root.dir() else { return };
        let began = self.context.tracer.now();
        let looked =
            failpoint::hit("discover").and_then(|()| self.candidates.look(input, &path, origin));
        match looked {
            Ok(LookResult::File(mut sighting)) => {
                sighting.arrival = arrival;
                let now = Instant::now();
                if arrival != Arrival::Unknown {
                    self.table.on_close_write(&path, now);
                }
                if let Some(mut settled) = self.table.observe(path, &sighting, now) {
                    let (file, waited) = ((self.context.name(), &*settled.path), settled.waited);
                    settled.trace = self.context.tracer.begin(began, file, waited, now);
                    self.context.meter.stage(Stage::Settle, waited);
                    self.ready.push(settled);
                }
            }
            Ok(LookResult::Directory) => {
                self.table.gone(&path);
                if origin == DiscoveredBy::Hint {
                    self.scans.new_directory(path, self.once, Instant::now());
                }
            }
            Ok(LookResult::Own(own)) => {
                self.table.gone(&path);
                self.met_own(&own);
            }
            Ok(LookResult::Inside(inside)) => {
                self.table.gone(&path);
                self.look(inside, (origin, arrival));
            }
            Ok(LookResult::None) => self.table.gone(&path),
            Err(error) => {
                tracing::warn!(event = "intake.stat_failed", path = %display_path(&path), %error, "cannot stat an input file, retrying");
                self.root.suspect();
                self.table.mark_missing(path, Instant::now());
            }
        }
    }
}
