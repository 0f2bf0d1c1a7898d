//! The queue of paths with events that the intake has not looked at.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, MutexGuard},
};

use tokio::sync::mpsc;

use crate::{limits, sync::Mutex};

/// A set of paths in which the events of one file become one; at most [`limits::EVENT_QUEUE_PATHS_MAX`],
/// beyond this a full scan replaces the set. Filled by the watch's thread, which never waits here.
#[derive(Clone, Debug)]
pub struct EventQueue {
    queued: Arc<Mutex<QueuedEvents>>,
    wake: mpsc::Sender<()>,
}

/// Receives a message when the queue may have events.
pub type WakeHandle = mpsc::Receiver<()>;

/// The latest informative event of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameEvent {
    /// Any other event, which does not replace an earlier one.
    #[default]
    Named,
    /// A writer closed the file.
    Closed,
    /// A file or a directory was renamed to this path.
    RenamedHere,
    /// The same, from a temporary name: its producer finished it.
    Finished,
    /// The path lost its file: it was removed, or renamed to a place out of sight.
    Vacated,
    /// It was renamed from this path to another one of the input.
    RenamedAway,
    /// A file was renamed to this path after the path had lost another one.
    Succeeded,
}

impl NameEvent {
    /// Returns the event that stands for this one and a later one of the same path.
    const fn then(self, later: Self) -> Self {
        match (self, later) {
            (earlier, Self::Named) => earlier,
            (Self::Vacated | Self::RenamedAway | Self::Succeeded, Self::RenamedHere) => {
                Self::Succeeded
            }
            (_, later) => later,
        }
    }
}

/// The content of the queue.
#[derive(Debug, Default)]
pub struct QueuedEvents {
    /// Paths below the input, each with its event.
    pub paths: HashMap<PathBuf, NameEvent>,
    /// Events were lost: a full scan must find their files.
    pub overflow: bool,
    /// A full scan was requested.
    pub scan: bool,
    /// The input itself had an event.
    pub root: bool,
}

impl EventQueue {
    #[must_use]
    pub fn new() -> (Self, WakeHandle) {
        let (wake, wake_handle) = mpsc::channel(1);
        (Self { queued: Arc::default(), wake }, wake_handle)
    }

    fn lock(&self) -> MutexGuard<'_, QueuedEvents> {
        self.queued.lock()
    }

    /// Adds an event of a path.
    pub fn path(&self, path: PathBuf, event: NameEvent) {
        let mut queued = self.lock();
        if queued.paths.len() >= limits::EVENT_QUEUE_PATHS_MAX {
            queued.paths.clear();
            queued.overflow = true;
        }
        if !queued.overflow {
            let entry = queued.paths.entry(path).or_default();
            *entry = entry.then(event);
        }
        self.unlock_and_wake(queued);
    }

    /// Requests a full scan after a loss of events.
    pub fn overflow(&self) {
        let mut queued = self.lock();
        queued.overflow = true;
        self.unlock_and_wake(queued);
    }

    /// Requests a full scan without a loss of events.
    pub fn scan(&self) {
        let mut queued = self.lock();
        queued.scan = true;
        self.unlock_and_wake(queued);
    }

    /// Wakes the intake without a new event.
    pub fn wake(&self) {
        self.unlock_and_wake(self.lock());
    }

    /// Adds an event of the input itself.
    pub fn root(&self) {
        let mut queued = self.lock();
        queued.root = true;
        self.unlock_and_wake(queued);
    }

    fn unlock_and_wake(&self, queued: MutexGuard<'_, QueuedEvents>) {
        drop(queued);
        // A full channel has a wake-up pending, and a closed one has no intake.
        self.wake.try_send(()).ok();
    }

    /// Takes all flags and up to `limit` paths; returns also whether more paths remain.
    #[must_use]
    pub fn take(&self, limit: usize) -> (QueuedEvents, bool) {
        let mut queued = self.lock();
        if queued.paths.len() <= limit {
            return (std::mem::take(&mut *queued), false);
        }
        let QueuedEvents { overflow, scan, root, .. } = *queued;
        let paths = queued.paths.extract_if(|_, _| true).take(limit).collect();
        (queued.overflow, queued.scan, queued.root) = (false, false, false);
        (QueuedEvents { paths, overflow, scan, root }, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_file_become_one() {
        let (queue, mut wake) = EventQueue::new();
        queue.path("a".into(), NameEvent::Named);
        queue.path("a".into(), NameEvent::Closed);
        queue.path("a".into(), NameEvent::Named);
        queue.path("b".into(), NameEvent::Closed);
        queue.path("b".into(), NameEvent::RenamedHere);
        assert!(wake.try_recv().is_ok());
        assert!(wake.try_recv().is_err(), "one wake-up");
        let (events, has_more) = queue.take(2);
        let expected = [("a".into(), NameEvent::Closed), ("b".into(), NameEvent::RenamedHere)];
        assert_eq!(events.paths, HashMap::from(expected));
        assert!(!has_more && queue.take(2).0.paths.is_empty());
    }

    #[test]
    fn a_file_that_succeeds_another_one_is_no_update() {
        use NameEvent::{Closed, Finished, Named, RenamedAway, RenamedHere, Succeeded, Vacated};
        for (events, expected) in [
            (&[Vacated, RenamedHere][..], Succeeded),
            (&[Vacated, RenamedAway, Named, RenamedHere], Succeeded),
            (&[Vacated, RenamedHere, RenamedHere], Succeeded),
            // An editor, an upload by SFTP, rsync.
            (&[Vacated, RenamedAway, Named, Closed], Closed),
            (&[Vacated, Finished], Finished),
            (&[RenamedHere], RenamedHere),
            (&[Vacated, RenamedHere, Vacated], Vacated),
        ] {
            let (queue, _wake) = EventQueue::new();
            for event in events {
                queue.path("a".into(), *event);
            }
            let (found, _) = queue.take(1);
            assert_eq!(found.paths.get(std::path::Path::new("a")), Some(&expected), "{events:?}");
        }
    }

    #[test]
    fn many_events_are_taken_in_parts() {
        let (queue, _wake) = EventQueue::new();
        for number in 0..5 {
            queue.path(number.to_string().into(), NameEvent::Closed);
        }
        queue.scan();
        let (mut events, has_more) = queue.take(3);
        assert_eq!((events.paths.len(), has_more, events.scan), (3, true, true));
        let (rest, has_more) = queue.take(3);
        assert_eq!((rest.paths.len(), has_more, rest.scan), (2, false, false));
        events.paths.extend(rest.paths);
        assert_eq!(events.paths.len(), 5, "each once");
    }

    #[test]
    fn too_many_events_become_a_full_scan() {
        let (queue, _wake) = EventQueue::new();
        for number in 0..=limits::EVENT_QUEUE_PATHS_MAX {
            queue.path(number.to_string().into(), NameEvent::Closed);
        }
        let (events, _) = queue.take(usize::MAX);
        assert!(events.overflow && events.paths.is_empty());
    }
}
