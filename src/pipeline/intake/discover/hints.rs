//! What the watch told and nobody looked at yet.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use crate::limits;

/// A set of paths in which events of the same file become one; at most [`limits::HINTS`], then
/// the set is given up for a full scan. Filled by the watch's thread, which never waits here.
#[derive(Clone, Debug)]
pub struct Hints {
    set: Arc<Mutex<Taken>>,
    bell: mpsc::Sender<()>,
}

/// Rings when there is something to take.
pub type Bell = mpsc::Receiver<()>;

/// What there was.
#[derive(Debug, Default)]
pub struct Taken {
    /// Paths below the input, and whether the file was closed or moved in: finished, as far as
    /// this event knows.
    pub paths: HashMap<PathBuf, bool>,
    /// Events were lost: only a full scan tells what there is.
    pub overflow: bool,
    /// Someone asked for a full scan.
    pub scan: bool,
    /// Something happened to the input itself.
    pub root: bool,
}

impl Hints {
    #[must_use]
    pub fn new() -> (Self, Bell) {
        let (bell, rung) = mpsc::channel(1);
        (Self { set: Arc::default(), bell }, rung)
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn path(&self, path: PathBuf, finished: bool) {
        let mut set = self.lock();
        if set.paths.len() >= limits::HINTS {
            set.paths.clear();
            set.overflow = true;
        }
        if !set.overflow {
            *set.paths.entry(path).or_default() |= finished;
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

    fn ring(&self, set: MutexGuard<'_, Taken>) {
        drop(set);
        // A full bell has rung already, and a closed one is heard by nobody.
        self.bell.try_send(()).ok();
    }

    #[must_use]
    pub fn take(&self) -> Taken {
        std::mem::take(&mut *self.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_file_become_one_hint() {
        let (hints, mut bell) = Hints::new();
        hints.path("a".into(), false);
        hints.path("a".into(), true);
        hints.path("a".into(), false);
        assert!(bell.try_recv().is_ok());
        assert!(bell.try_recv().is_err(), "rung once");
        let taken = hints.take();
        assert_eq!(taken.paths, HashMap::from([(PathBuf::from("a"), true)]));
        assert!(hints.take().paths.is_empty());
    }

    #[test]
    fn too_many_hints_become_a_full_scan() {
        let (hints, _bell) = Hints::new();
        for number in 0..=limits::HINTS {
            hints.path(number.to_string().into(), true);
        }
        let taken = hints.take();
        assert!(taken.overflow && taken.paths.is_empty());
    }
}
