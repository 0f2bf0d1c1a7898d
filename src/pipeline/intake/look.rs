//! The intake's work on names: it takes events, continues a scan, and looks at each path.

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
    pub(super) fn take_events(&mut self) {
        let (events, has_more) = self.events.take(limits::LOOKS_PER_TURN_MAX);
        let QueuedEvents { paths, overflow, scan, root } = events;
        self.has_more_events = has_more;
        if root {
            self.root.request_check();
        }
        if overflow {
            self.context.meter.overflow();
            tracing::warn!(event = "intake.overflowed", pipeline = %self.context.name(), "event queue overflowed, running a full scan");
        }
        let now = Instant::now();
        if overflow || scan {
            self.scans.request(DiscoveredBy::Scan, now);
        }
        for (path, event) in paths {
            self.context.meter.event();
            let path = self.discovery.marked_file(path);
            let arrival = match event {
                NameEvent::Named => Arrival::Unknown,
                NameEvent::Closed => Arrival::Closed,
                NameEvent::RenamedHere => Arrival::Renamed,
                NameEvent::RenamedAway => {
                    self.table.renamed_away(&path, now);
                    Arrival::Unknown
                }
            };
            self.look(path, (DiscoveredBy::Event, arrival));
        }
    }

    /// Continues the first scan, or starts it.
    pub(super) fn scan(&mut self, now: Instant) {
        let Some(input) = self.root.dir() else { return };
        let (is_new_full, scan) = self.scans.front(input, self.discovery.own_ids(), now);
        if is_new_full {
            self.table.on_scan_start();
        }
        let Some(scan) = scan else { return };
        let origin = scan.origin;
        let found = scan.next(&self.discovery, limits::LOOKS_PER_TURN_MAX);
        // A watching service scans again; `--once` must report what it could not list.
        self.summary.unfinished += if self.once { scan.take_unlisted() } else { 0 };
        let own_directories = scan.take_own_directories();
        for path in own_directories {
            self.log_own_directory(&path);
        }
        let Some(found) = found else {
            let interval = (!self.once).then(|| self.root.rescan_interval(&self.context));
            return self.scans.finish(interval, Instant::now());
        };
        let start = Instant::now();
        for path in found {
            self.look(path, (origin, Arrival::Unknown));
        }
        self.context.meter.stage(Stage::Discover, start.elapsed());
    }

    fn log_own_directory(&mut self, path: &Path) {
        if self.logged_directories.len() < limits::OPEN_DIRECTORIES_MAX
            && self.logged_directories.insert(path.to_path_buf())
        {
            tracing::warn!(event = "intake.own_directory", pipeline = %self.context.name(), path = %display_path(path), "own directory mounted below the input, ignored");
        }
    }

    pub(super) fn look(&mut self, path: PathBuf, (origin, arrival): (DiscoveredBy, Arrival)) {
        let Some(input) = self.root.dir() else { return };
        let start = self.context.tracer.now();
        let result =
            failpoint::hit("discover").and_then(|()| self.discovery.look(input, &path, origin));
        match result {
            Ok(LookResult::File(mut observation)) => {
                observation.arrival = arrival;
                let now = Instant::now();
                if arrival != Arrival::Unknown {
                    self.table.on_close_write(&path, now);
                }
                if let Some(mut settled) = self.table.observe(path, &observation, now) {
                    let (file, waited) = ((self.context.name(), &*settled.path), settled.waited);
                    settled.trace = self.context.tracer.begin(start, file, waited, now);
                    self.context.meter.stage(Stage::Settle, waited);
                    self.ready.push(settled);
                }
            }
            Ok(LookResult::Directory) => {
                self.table.remove(&path);
                if origin == DiscoveredBy::Event {
                    self.scans.new_directory(path, self.once, Instant::now());
                }
            }
            Ok(LookResult::OwnDirectory(directory)) => {
                self.table.remove(&path);
                self.log_own_directory(&directory);
            }
            Ok(LookResult::InNestedInput(inner_path)) => {
                self.table.remove(&path);
                self.look(inner_path, (origin, arrival));
            }
            Ok(LookResult::None) => self.table.remove(&path),
            Err(error) => {
                tracing::warn!(event = "intake.stat_failed", path = %display_path(&path), %error, "cannot stat an input file, retrying");
                self.root.request_check();
                self.table.mark_missing(path, Instant::now());
            }
        }
    }
}
