//! What the watch told and nobody looked at yet.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use crate::limits;

/// A set of paths in which events of the same file become one; at most [`limits::EVENT_QUEUE_PATHS_MAX`], then
/// the set is given up for a full scan. Filled by the watch's thread, which never waits here.
#[derive(Clone, Debug)]
pub struct EventQueue {
    set: Arc<Mutex<QueuedEvents>>,
    bell: mpsc::Sender<()>,
}

/// Rings when there is something to take.
pub type WakeHandle = mpsc::Receiver<()>;

/// What the last event that counts said of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameEvent {
    /// Something happened to the name; it says nothing that an event before it did not.
    #[default]
    Named,
    /// A writer closed the file.
    Closed,
    /// A file or a directory was renamed to this path.
    RenamedHere,
    /// It was renamed from this path to another one of the input.
    RenamedAway,
}

/// What there was.
#[derive(Debug, Default)]
pub struct QueuedEvents {
    /// Paths below the input.
    pub paths: HashMap<PathBuf, NameEvent>,
    /// Events were lost: only a full scan tells what there is.
    pub overflow: bool,
    /// Someone asked for a full scan.
    pub scan: bool,
    /// Something happened to the input itself.
    pub root: bool,
}

impl EventQueue {
    #[must_use]
    pub fn new() -> (Self, WakeHandle) {
        let (bell, rung) = mpsc::channel(1);
        (Self { set: Arc::default(), bell }, rung)
    }

    fn lock(&self) -> MutexGuard<'_, QueuedEvents> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn path(&self, path: PathBuf, told: NameEvent) {
        let mut set = self.lock();
        if set.paths.len() >= limits::EVENT_QUEUE_PATHS_MAX {
            set.paths.clear();
            set.overflow = true;
        }
        if !set.overflow {
            let of_path = set.paths.entry(path).or_default();
            if told != NameEvent::Named {
                *of_path = told;
            }
        }
        self.ring(set);
    }

    pub fn overflow(&self) {
        let mut set = self.lock();
        set.overflow = true;
        self.ring(set);
    }

    /// Asks for a full scan, without a loss.
    pub fn scan(&self) {
        let mut set = self.lock();
        set.scan = true;
        self.ring(set);
    }

    /// Wakes the intake, which has nothing new to look at and may go on.
    pub fn wake(&self) {
        self.ring(self.lock());
    }

    pub fn root(&self) {
        let mut set = self.lock();
        set.root = true;
        self.ring(set);
    }

    fn ring(&self, set: MutexGuard<'_, QueuedEvents>) {
        drop(set);
        // A full bell has rung already, and a closed one is heard by nobody.
        self.bell.try_send(()).ok();
    }

    /// Takes everything but the paths, and of those at most this many; and tells whether there are
    /// more of them.
    #[must_use]
    pub fn take(&self, most: usize) -> (QueuedEvents, bool) {
        let mut set = self.lock();
        if set.paths.len() <= most {
            return (std::mem::take(&mut *set), false);
        }
        let QueuedEvents { overflow, scan, root, .. } = *set;
        let paths = set.paths.extract_if(|_, _| true).take(most).collect();
        (set.overflow, set.scan, set.root) = (false, false, false);
        (QueuedEvents { paths, overflow, scan, root }, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_file_become_one_hint() {
        let (hints, mut bell) = EventQueue::new();
        hints.path("a".into(), NameEvent::Named);
        hints.path("a".into(), NameEvent::Closed);
        hints.path("a".into(), NameEvent::Named);
        hints.path("b".into(), NameEvent::Closed);
        hints.path("b".into(), NameEvent::RenamedHere);
        assert!(bell.try_recv().is_ok());
        assert!(bell.try_recv().is_err(), "rung once");
        let (taken, more) = hints.take(2);
        let expected = [("a".into(), NameEvent::Closed), ("b".into(), NameEvent::RenamedHere)];
        assert_eq!(taken.paths, HashMap::from(expected));
        assert!(!more && hints.take(2).0.paths.is_empty());
    }

    #[test]
    fn many_hints_are_taken_in_parts() {
        let (hints, _bell) = EventQueue::new();
        for number in 0..5 {
            hints.path(number.to_string().into(), NameEvent::Closed);
        }
        hints.scan();
        let (mut taken, more) = hints.take(3);
        assert_eq!((taken.paths.len(), more, taken.scan), (3, true, true));
        let (rest, more) = hints.take(3);
        assert_eq!((rest.paths.len(), more, rest.scan), (2, false, false));
        taken.paths.extend(rest.paths);
        assert_eq!(taken.paths.len(), 5, "each once");
    }

    #[test]
    fn too_many_hints_become_a_full_scan() {
        let (hints, _bell) = EventQueue::new();
        for number in 0..=limits::EVENT_QUEUE_PATHS_MAX {
            hints.path(number.to_string().into(), NameEvent::Closed);
        }
        let (taken, _) = hints.take(usize::MAX);
        assert!(taken.overflow && taken.paths.is_empty());
    }
}
