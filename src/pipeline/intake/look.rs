//! The intake's work on names: it takes events, continues a scan, and looks at each path.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use super::{Intake, discover::LookResult};
use crate::{
    failpoint,
    fingerprint::Fingerprint,
    fs::Kind,
    limits,
    observe::display_path,
    pipeline::job::{Arrival, DiscoveredBy, Observation},
    source::{
        Page, SourceError,
        event_queue::{NameEvent, QueuedEvents},
    },
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
            if event == NameEvent::Attributes && self.is_directory(&path) {
                continue;
            }
            let path = self.discovery.marked_file(path);
            let arrival = match event {
                NameEvent::Attributes | NameEvent::Named => Arrival::Unknown,
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

    /// Checks whether this is a directory, whose attributes concern no source below it.
    fn is_directory(&self, path: &Path) -> bool {
        let found = self.root.input().and_then(|input| input.stat(path).ok().flatten());
        found.is_some_and(|found| found.kind == Kind::Directory)
    }

    /// Continues the first scan, or starts it.
    pub(super) fn scan(&mut self, now: Instant) {
        let Some(input) = self.root.input() else { return };
        let (begins, scan) = self.scans.front(&**input, self.discovery.own_ids(), now);
        if let Some(origin) = begins {
            // A scan for the rest passes over names.
            if origin != DiscoveredBy::Rest {
                self.table.on_scan_start();
            }
            self.ready.on_scan_start(origin);
        }
        let Some(scan) = scan else { return };
        let origin = scan.origin;
        let page = scan.next(&**input, &self.discovery, limits::LOOKS_PER_TURN_MAX);
        let Page { files, failed, gone, own_directories, state_directories } = page;
        self.note_unlisted(failed);
        self.note_gone_directories(&gone);
        for path in own_directories {
            self.log_own_directory(&path);
        }
        for path in state_directories {
            self.log_state_directory(&path);
        }
        if files.is_empty() {
            // The rest comes before a scan that begins again at the first file.
            let is_last = !self.once && !self.ready.has_rest();
            let interval = is_last.then(|| self.root.rescan_interval(&self.context));
            return self.scans.finish(interval, Instant::now());
        }
        let start = Instant::now();
        for path in files {
            if !self.passes(origin, &path, None) {
                self.look(path, (origin, Arrival::Unknown));
            }
        }
        self.context.meter.stage(Stage::Discover, start.elapsed());
    }

    /// Checks whether a directory is to be logged, once, and remembers that.
    fn is_news(&mut self, directory: &Path) -> bool {
        self.logged_directories.len() < limits::OPEN_DIRECTORIES_MAX
            && self.logged_directories.insert(directory.to_path_buf())
    }

    fn log_state_directory(&mut self, path: &Path) {
        if self.is_news(path) {
            tracing::warn!(event = "intake.state_directory", pipeline = %self.context.name(), path = %display_path(path), "state directory of a service below the input, ignored");
        }
    }

    fn log_own_directory(&mut self, path: &Path) {
        if self.is_news(path) {
            tracing::warn!(event = "intake.own_directory", pipeline = %self.context.name(), path = %display_path(path), "own directory mounted below the input, ignored");
        }
    }

    /// Checks whether a scan for the rest of an order passes over this file; without its identity, by its name.
    fn passes(&self, origin: DiscoveredBy, path: &Path, identity: Option<&Fingerprint>) -> bool {
        self.ready.ordered().is_some_and(|ordered| ordered.passes(origin, path, identity))
    }

    /// Settles a file of the pipeline, found by a look that began at `start`.
    fn found(&mut self, path: PathBuf, observation: Observation, start: Option<Instant>) {
        let Observation { origin, arrival, .. } = observation;
        if self.passes(origin, &path, Some(&observation.metadata.identity)) {
            return;
        }
        self.context.successions.as_ref().inspect(|all| all.seen(&path));
        let now = Instant::now();
        if arrival != Arrival::Unknown {
            self.table.on_close_write(&path, now);
        }
        let size = observation.metadata.identity.size;
        if !self.ready.has_room_for(size) && !self.table.is_in_flight(&path) {
            return self.table.postpone(path, &observation, now);
        }
        if let Some(mut settled) = self.table.observe(path, &observation, now) {
            let (file, waited) = ((self.context.name(), &*settled.path), settled.waited);
            settled.trace = self.context.tracer.begin(start, file, waited, now);
            self.context.meter.stage(Stage::Settle, waited);
            if let Some(without_room) = self.ready.push(settled) {
                self.sequence.on_no_room(&without_room.path);
                self.table.take_back(without_room, now);
            }
        }
    }

    pub(super) fn look(&mut self, path: PathBuf, (origin, arrival): (DiscoveredBy, Arrival)) {
        self.mark_succeeded(&path);
        let Some(input) = self.root.input() else { return };
        let start = self.context.tracer.now();
        let result = failpoint::hit("discover").and_then(|()| {
            let looked = self.discovery.look(&**input, &path, origin);
            looked.map_err(|SourceError { source, .. }| source)
        });
        match result {
            Ok(LookResult::File(observation)) => {
                self.found(path, Observation { arrival, ..observation }, start);
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
            Ok(LookResult::StateDirectory(directory)) => {
                self.table.remove(&path);
                self.log_state_directory(&directory);
            }
            Ok(LookResult::InNestedInput(inner_path)) => {
                self.table.remove(&path);
                self.look(inner_path, (origin, arrival));
            }
            Ok(LookResult::None) => {
                self.table.remove(&path);
            }
            Ok(LookResult::Missing) => {
                if !self.table.remove(&path) {
                    self.note_gone(&path);
                }
                if origin == DiscoveredBy::Event {
                    self.note_absent(path, Instant::now());
                }
            }
            Err(error) => {
                tracing::warn!(event = "intake.stat_failed", pipeline = %self.context.name(), source = %display_path(&path), %error, "cannot stat an input file, retrying");
                self.root.request_check();
                self.table.mark_missing(path, Instant::now());
            }
        }
    }
}
