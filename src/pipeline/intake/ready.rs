//! The files that are ready to be sent. Small files overtake large ones.

use std::{
    collections::{HashSet, VecDeque},
    path::{Path, PathBuf},
};

use crate::{
    limits,
    pipeline::{budget::is_large, job::SettledFile},
};

/// Two queues. A large file takes long in its lane, so at most [`limits::LARGE_FILES_QUEUED`] are in
/// flight at a time: a channel full of them would block the small files.
#[derive(Debug, Default)]
pub struct ReadyFiles {
    small: VecDeque<SettledFile>,
    large: VecDeque<SettledFile>,
    /// Large files in flight.
    sent_large: HashSet<PathBuf>,
}

impl ReadyFiles {
    pub fn push(&mut self, settled: SettledFile) {
        let is_large = is_large(settled.metadata.identity.size);
        if is_large { self.large.push_back(settled) } else { self.small.push_back(settled) }
    }

    /// Checks whether the intake may look at more files.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.small.len() < limits::READY_FILES_MAX
    }

    /// Checks whether a file of this size may become ready. Large files that may not leave room for the
    /// small ones behind them.
    #[must_use]
    pub fn has_room_for(&self, size: u64) -> bool {
        !is_large(size) || self.large.len() < limits::LARGE_FILES_READY
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.small.len() + self.large.len()
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        let files = self.small.iter().chain(&self.large);
        files.map(|settled| settled.metadata.identity.size).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.small.iter().chain(&self.large).map(|settled| settled.path.as_path())
    }

    /// Returns the number of files with an earlier attempt.
    #[must_use]
    pub fn attempted(&self) -> usize {
        self.small.iter().chain(&self.large).filter(|settled| settled.was_attempted).count()
    }

    /// Returns the number of files that can be sent now.
    #[must_use]
    pub fn sendable(&self) -> usize {
        let room = limits::LARGE_FILES_QUEUED.saturating_sub(self.sent_large.len());
        self.small.len() + self.large.len().min(room)
    }

    /// Takes the next file to be sent, small ones first.
    pub fn take(&mut self) -> Option<SettledFile> {
        if let Some(small) = self.small.pop_front() {
            return Some(small);
        }
        if self.sent_large.len() >= limits::LARGE_FILES_QUEUED {
            return None;
        }
        let large = self.large.pop_front()?;
        self.sent_large.insert(large.path.clone());
        Some(large)
    }

    /// Records that a sent file has its outcome.
    pub fn on_outcome(&mut self, path: &Path) {
        self.sent_large.remove(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fingerprint::Fingerprint,
        fs::{FileMetadata, Kind},
        observe::Trace,
        pipeline::job::{Arrival, DiscoveredBy},
    };

    fn settled(name: &str, size: u64) -> SettledFile {
        let identity = Fingerprint { size, ..Fingerprint::NONE };
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
            ready.push(settled(&format!("large-{number}"), large));
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
            ready.push(settled(&format!("large-{number}"), large));
        }
        for _ in 0..limits::LARGE_FILES_QUEUED {
            assert!(ready.take().is_some());
        }
        assert_eq!((ready.sendable(), ready.len()), (0, 1));
        assert!(ready.take().is_none());
        ready.push(settled("small", 1));
        assert_eq!(ready.sendable(), 1);
        assert_eq!(ready.take().expect("the small one").path, Path::new("small"));
        ready.push(SettledFile { was_attempted: true, ..settled("failed-before", 1) });
        assert_eq!((ready.attempted(), ready.len()), (1, 2));
        assert!(ready.take().is_some());
        ready.on_outcome(Path::new("large-0"));
        assert_eq!(ready.sendable(), 1);
        assert!(ready.take().is_some());
    }
}
