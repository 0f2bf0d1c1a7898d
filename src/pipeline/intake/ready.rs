//! The files that are ready to be sent: in the order of the pipeline, or small files first.

use std::{
    collections::{HashSet, VecDeque},
    path::{Path, PathBuf},
};

use super::order::OrderedFiles;
use crate::{
    limits,
    pipeline::{
        budget::is_large,
        job::{DiscoveredBy, SettledFile},
    },
    policy::Order,
};

/// A large file takes long in its lane, so at most [`limits::LARGE_FILES_QUEUED`] are in flight at a time: a
/// channel full of them would block the small files.
#[derive(Debug, Default)]
pub struct ReadyFiles {
    small: VecDeque<SettledFile>,
    large: VecDeque<SettledFile>,
    /// All files of a pipeline with an `order`; none of them is in the two queues.
    ordered: Option<OrderedFiles>,
    /// Large files in flight.
    sent_large: HashSet<PathBuf>,
}

impl ReadyFiles {
    /// Creates the queues, or with an order or `in_order` the ordered set.
    #[must_use]
    pub fn new(order: Order, in_order: bool) -> Self {
        let order = if in_order && order == Order::None { Order::Name } else { order };
        let ordered = OrderedFiles::new(order, limits::ORDERED_FILES_MAX);
        Self { ordered: (order != Order::None).then_some(ordered), ..Self::default() }
    }

    /// Adds a file; returns the one without room, which another scan must find.
    pub fn push(&mut self, settled: SettledFile) -> Option<SettledFile> {
        if let Some(ordered) = &mut self.ordered {
            return ordered.push(settled);
        }
        let is_large = is_large(settled.metadata.identity.size);
        if is_large {
            self.large.push_back(settled);
        } else {
            self.small.push_back(settled);
        }
        None
    }

    /// Checks whether the files have an order. Then all names of a scan are looked at before one is sent.
    #[must_use]
    pub const fn are_ordered(&self) -> bool {
        self.ordered.is_some()
    }

    /// Returns the order's own files, if there is an order.
    pub(super) const fn ordered(&self) -> Option<&OrderedFiles> {
        self.ordered.as_ref()
    }

    /// Notes that a full scan begins.
    pub fn on_scan_start(&mut self, origin: DiscoveredBy) {
        if let Some(ordered) = &mut self.ordered {
            ordered.on_scan_start(origin);
        }
    }

    /// Checks whether there are files without room, which only another scan finds.
    #[must_use]
    pub fn has_rest(&self) -> bool {
        self.ordered.as_ref().is_some_and(OrderedFiles::has_rest)
    }

    /// Checks whether the intake may look at more files.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.are_ordered() || self.small.len() < limits::READY_FILES_MAX
    }

    /// Checks whether a file of this size may become ready. Large files that may not leave room for the
    /// small ones behind them.
    #[must_use]
    pub fn has_room_for(&self, size: u64) -> bool {
        self.are_ordered() || !is_large(size) || self.large.len() < limits::LARGE_FILES_READY
    }

    fn iter(&self) -> impl Iterator<Item = &SettledFile> {
        let ordered = self.ordered.iter().flat_map(OrderedFiles::iter);
        self.small.iter().chain(&self.large).chain(ordered)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        let ordered = self.ordered.as_ref().map_or(0, OrderedFiles::len);
        self.small.len() + self.large.len() + ordered
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.iter().map(|settled| settled.metadata.identity.size).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.iter().map(|settled| settled.path.as_path())
    }

    /// Returns the number of files with an earlier attempt.
    #[must_use]
    pub fn attempted(&self) -> usize {
        self.iter().filter(|settled| settled.was_attempted).count()
    }

    /// Returns the number of files that can be sent now.
    #[must_use]
    pub fn sendable(&self) -> usize {
        let room = limits::LARGE_FILES_QUEUED.saturating_sub(self.sent_large.len());
        if let Some(ordered) = &self.ordered {
            return if self.waits_for_lane(ordered) { 0 } else { ordered.len() };
        }
        self.small.len() + self.large.len().min(room)
    }

    /// Checks whether the first file is a large one without room: those after it wait, too.
    fn waits_for_lane(&self, ordered: &OrderedFiles) -> bool {
        let is_full = self.sent_large.len() >= limits::LARGE_FILES_QUEUED;
        is_full && ordered.first().is_some_and(|first| is_large(first.metadata.identity.size))
    }

    /// Takes the next file to be sent: the first one of the order, otherwise small ones first.
    pub fn take(&mut self) -> Option<SettledFile> {
        let is_full = self.sent_large.len() >= limits::LARGE_FILES_QUEUED;
        let next = if let Some(ordered) = &self.ordered {
            let waits = self.waits_for_lane(ordered);
            self.ordered.as_mut().filter(|_| !waits).and_then(OrderedFiles::take)
        } else if let Some(small) = self.small.pop_front() {
            Some(small)
        } else if is_full {
            None
        } else {
            self.large.pop_front()
        };
        if let Some(next) = next.as_ref().filter(|next| is_large(next.metadata.identity.size)) {
            self.sent_large.insert(next.path.clone());
        }
        next
    }

    /// Records that a sent file has its outcome.
    pub fn on_outcome(&mut self, path: &Path) {
        self.sent_large.remove(path);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        fingerprint::Fingerprint,
        fs::{FileMetadata, Kind},
        observe::Trace,
        pipeline::job::{Arrival, DiscoveredBy},
    };

    fn settled(name: &str, size: u64) -> SettledFile {
        settled_at(name, size, 0)
    }

    /// A ready file of this size that was modified at this time.
    pub fn settled_at(name: &str, size: u64, mtime_ns: i64) -> SettledFile {
        let identity = Fingerprint { size, mtime_ns, ..Fingerprint::NONE };
        let metadata =
            FileMetadata { kind: Kind::File, identity, mode: 0o644, owner: 0, group: 0, names: 1 };
        let (attempt, waited) = (1, std::time::Duration::ZERO);
        let (origin, trace) = (DiscoveredBy::Scan, Trace::default());
        SettledFile {
            path: name.into(),
            metadata,
            attempt,
            quiet_for: waited,
            arrival: Arrival::Unknown,
            was_replaced: false,
            was_attempted: false,
            waited,
            origin,
            trace,
        }
    }

    #[test]
    fn large_files_without_room_keep_no_small_one_from_being_found() {
        let mut ready = ReadyFiles::default();
        let large = limits::SMALL_FILE_MAX_BYTES as u64 + 1;
        for number in 0..limits::LARGE_FILES_READY {
            assert!(ready.has_room_for(large));
            assert!(ready.push(settled(&format!("large-{number}"), large)).is_none());
        }
        assert!(!ready.has_room_for(large));
        assert!(ready.has_room() && ready.has_room_for(1));
        assert!(ready.take().is_some());
        assert!(ready.has_room_for(large));
    }

    #[test]
    fn small_files_overtake_large_ones_of_which_a_limited_number_is_in_flight() {
        let mut ready = ReadyFiles::default();
        let large = limits::SMALL_FILE_MAX_BYTES as u64 + 1;
        for number in 0..=limits::LARGE_FILES_QUEUED {
            assert!(ready.push(settled(&format!("large-{number}"), large)).is_none());
        }
        for _ in 0..limits::LARGE_FILES_QUEUED {
            assert!(ready.take().is_some());
        }
        assert_eq!((ready.sendable(), ready.len()), (0, 1));
        assert!(ready.take().is_none());
        assert!(ready.push(settled("small", 1)).is_none());
        assert_eq!(ready.sendable(), 1);
        assert_eq!(ready.take().expect("the small one").path, Path::new("small"));
        let failed = SettledFile { was_attempted: true, ..settled("failed-before", 1) };
        assert!(ready.push(failed).is_none());
        assert_eq!((ready.attempted(), ready.len()), (1, 2));
        assert!(ready.take().is_some());
        ready.on_outcome(Path::new("large-0"));
        assert_eq!(ready.sendable(), 1);
        assert!(ready.take().is_some());
    }
}
