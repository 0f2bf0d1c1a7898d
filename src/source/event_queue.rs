//! The queue of paths with events that the intake has not looked at.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, MutexGuard},
};

use tokio::sync::mpsc;

use super::successions::Successions;
use crate::{limits, sync::Mutex};

/// A set of paths in which the events of one file become one; at most [`limits::EVENT_QUEUE_PATHS_MAX`],
/// beyond this a full scan replaces the set. Filled by the watch's thread, which never waits here.
#[derive(Clone, Debug)]
pub struct EventQueue {
    queued: Arc<Mutex<QueuedEvents>>,
    wake: mpsc::Sender<()>,
    successions: Option<Arc<Successions>>,
}

/// Receives a message when the queue may have events.
pub type WakeHandle = mpsc::Receiver<()>;

/// The latest informative event of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameEvent {
    /// A change of attributes, which replaces no other event.
    #[default]
    Attributes,
    /// Any other event, which replaces no informative one.
    Named,
    /// A writer closed the file.
    Closed,
    /// A file or a directory was renamed to this path.
    RenamedHere,
    /// It was renamed from this path to another one of the input.
    RenamedAway,
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
        (Self { queued: Arc::default(), wake, successions: None }, wake_handle)
    }

    /// Returns the same queue, whose watch also notes the successions of names.
    #[must_use]
    pub fn noting(self, successions: Option<Arc<Successions>>) -> Self {
        Self { successions, ..self }
    }

    /// Returns where the watch notes the successions of names, if anybody asks for them.
    #[must_use]
    pub fn successions(&self) -> Option<&Successions> {
        self.successions.as_deref()
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
            let is_informative = !matches!(event, NameEvent::Attributes | NameEvent::Named);
            if is_informative || *entry == NameEvent::Attributes {
                *entry = event;
            }
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
