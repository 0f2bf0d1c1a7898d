//! Walks a tree of which a part may not respond: a hanging mount below the root blocks a call indefinitely.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use super::{Dir, Walk, WalkEntry};
use crate::limits;

type Found = Result<WalkEntry, (PathBuf, io::Error)>;

/// The most entries that wait for the receiver.
const ENTRIES_WAITING_MAX: usize = 1024;

/// The entries of a [`Walk`] of an entire tree, which a thread makes. Where the walk stalls, the
/// last entry is an error of the root. Dropping it ends the thread, once its call returns.
#[derive(Debug)]
pub struct PatientWalk {
    /// `None` after the end.
    entries: Option<Receiver<Message>>,
    /// Grows with each directory that is opened: one without an entry is progress, too.
    progress: Arc<AtomicU64>,
    seen: u64,
    patience: Duration,
}

#[derive(Debug)]
enum Message {
    Entry(Found),
    /// The walk is complete.
    End,
}

impl PatientWalk {
    /// Starts a walk.
    #[must_use]
    pub fn start(root: &Arc<Dir>) -> Self {
        let progress = Arc::default();
        let walk = Walk::new(Arc::clone(root), PathBuf::new()).counting(Arc::clone(&progress));
        Self::over(walk, progress, limits::WALK_TIMEOUT)
    }

    fn over(
        walk: impl Iterator<Item = Found> + Send + 'static,
        progress: Arc<AtomicU64>,
        patience: Duration,
    ) -> Self {
        let (sender, entries) = sync_channel(ENTRIES_WAITING_MAX);
        let failed = sender.clone();
        let started = thread::Builder::new().name("walk".to_owned()).spawn(move || {
            pass_on(walk, &sender);
        });
        if let Err(error) = started {
            failed.send(Message::Entry(Err((PathBuf::new(), error)))).ok();
            failed.send(Message::End).ok();
        }
        Self { entries: Some(entries), progress, seen: 0, patience }
    }

    /// Checks whether the walk went on since this was called last.
    fn has_progressed(&mut self) -> bool {
        let before = std::mem::replace(&mut self.seen, self.progress.load(Ordering::Relaxed));
        self.seen != before
    }
}

/// Passes entries on until the receiver is gone, as after a timeout.
fn pass_on(walk: impl Iterator<Item = Found>, entries: &SyncSender<Message>) {
    for entry in walk {
        if entries.send(Message::Entry(entry)).is_err() {
            return;
        }
    }
    entries.send(Message::End).ok();
}

impl Iterator for PatientWalk {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let error = match self.entries.as_ref()?.recv_timeout(self.patience) {
                Ok(Message::Entry(entry)) => return Some(entry),
                Ok(Message::End) => {
                    self.entries = None;
                    return None;
                }
                Err(RecvTimeoutError::Timeout) if self.has_progressed() => continue,
                Err(RecvTimeoutError::Timeout) => io::ErrorKind::TimedOut.into(),
                Err(RecvTimeoutError::Disconnected) => io::Error::other("the walk panicked"),
            };
            self.entries = None;
            return Some(Err((PathBuf::new(), error)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::fs::Kind;

    fn entry(number: usize) -> WalkEntry {
        WalkEntry { path: number.to_string().into(), kind: Kind::File }
    }

    fn over(walk: impl Iterator<Item = Found> + Send + 'static, patience: Duration) -> PatientWalk {
        PatientWalk::over(walk, Arc::default(), patience)
    }

    #[test]
    fn every_entry_comes_once_and_in_order() {
        let count = 3 * ENTRIES_WAITING_MAX + 1;
        let walk = over((0..count).map(entry).map(Ok), limits::WALK_TIMEOUT);
        let found: Vec<_> = walk.map(|found| found.expect("entry")).collect();
        let expected: Vec<_> = (0..count).map(entry).collect();
        assert_eq!(found, expected);
    }

    /// Entries before the hang are passed on: a source under its private name is among them.
    #[test]
    fn a_walk_that_hangs_ends_with_an_error_and_its_thread_with_its_call() {
        let (release, wait_for_release) = channel::<()>();
        let (entered, wait_until_entered) = channel();
        let hanging = (0..20).map(move |number| {
            if number == 10 {
                wait_for_release.recv().ok();
            }
            entered.send(number).ok();
            Ok(entry(number))
        });
        let mut found: Vec<_> = over(hanging, Duration::from_secs(1)).collect();
        let (path, error) = found.pop().expect("an error").expect_err("the last one");
        assert_eq!((path, error.kind()), (PathBuf::new(), io::ErrorKind::TimedOut));
        assert_eq!(found.len(), 10);
        drop(release);
        // The channel closes with the thread.
        assert!(wait_until_entered.iter().count() >= 10);
    }

    /// Thousands of empty directories on a cold disk took longer than the limit.
    #[test]
    fn a_walk_that_opens_directories_without_entries_does_not_hang() {
        let (release, wait_for_release) = channel::<()>();
        let progress: Arc<AtomicU64> = Arc::default();
        let opened = Arc::clone(&progress);
        let slow = std::iter::once_with(move || {
            while wait_for_release.recv_timeout(Duration::from_millis(1)).is_err() {
                opened.fetch_add(1, Ordering::Relaxed);
            }
            Ok(entry(0))
        });
        let mut walk = PatientWalk::over(slow, Arc::clone(&progress), Duration::from_millis(400));
        let releases = thread::spawn(move || {
            while progress.load(Ordering::Relaxed) < 1000 {
                thread::park_timeout(Duration::from_millis(1));
            }
            release.send(()).expect("the walk waits");
        });
        assert!(walk.next().is_some_and(|found| found.is_ok()));
        assert!(walk.next().is_none());
        releases.join().expect("the thread");
    }

    #[test]
    fn a_walk_that_panics_is_not_complete() {
        let panicking = (0..2).map(|number| {
            assert_eq!(number, 0, "on purpose");
            Ok(entry(number))
        });
        let found: Vec<_> =
            over(panicking, limits::WALK_TIMEOUT).map(|found| found.is_ok()).collect();
        assert_eq!(found, [true, false]);
    }
}
