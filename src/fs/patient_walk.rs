//! Walks a tree of which a part may not respond: a hanging mount below the root blocks a call indefinitely.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SendError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Dir, Walk, WalkEntry};
use crate::limits;

type Found = Result<WalkEntry, (PathBuf, io::Error)>;

/// The most entries that are passed on at once, and how long the first of them waits for the others.
const PAGE_ENTRIES_MAX: usize = 256;
const PAGE_WAIT: Duration = Duration::from_millis(100);

/// The entries of a [`Walk`] of an entire tree, which a thread makes. After a time without any the last
/// one is an error of the root. Dropping it ends the thread, once its call returns.
#[derive(Debug)]
pub struct PatientWalk {
    /// `None` after the end.
    pages: Option<Receiver<Vec<Found>>>,
    page: std::vec::IntoIter<Found>,
    patience: Duration,
}

impl PatientWalk {
    /// Starts a walk.
    #[must_use]
    pub fn start(root: &Arc<Dir>) -> Self {
        let walk = Walk::new(Arc::clone(root), PathBuf::new());
        Self::over(walk, limits::WALK_TIMEOUT)
    }

    fn over(walk: impl Iterator<Item = Found> + Send + 'static, patience: Duration) -> Self {
        let (sender, pages) = sync_channel(1);
        let started = thread::Builder::new().name("walk".to_owned()).spawn(move || {
            // The receiver is gone after a timeout.
            pass_on(walk, &sender).ok();
        });
        let failed = started.err().map(|error| Err((PathBuf::new(), error)));
        let page = Vec::from_iter(failed).into_iter();
        Self { pages: Some(pages), page, patience }
    }
}

fn pass_on(
    walk: impl Iterator<Item = Found>,
    pages: &SyncSender<Vec<Found>>,
) -> Result<(), SendError<Vec<Found>>> {
    let (mut page, mut begun) = (Vec::new(), Instant::now());
    for entry in walk {
        page.push(entry);
        if page.len() >= PAGE_ENTRIES_MAX || begun.elapsed() >= PAGE_WAIT {
            pages.send(std::mem::take(&mut page))?;
            begun = Instant::now();
        }
    }
    pages.send(page)
}

impl Iterator for PatientWalk {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(entry);
            }
            match self.pages.as_ref()?.recv_timeout(self.patience) {
                Ok(page) => self.page = page.into_iter(),
                Err(RecvTimeoutError::Timeout) => {
                    self.pages = None;
                    return Some(Err((PathBuf::new(), io::ErrorKind::TimedOut.into())));
                }
                Err(RecvTimeoutError::Disconnected) => self.pages = None,
            }
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

    #[test]
    fn every_entry_comes_once_and_in_order() {
        let count = 3 * PAGE_ENTRIES_MAX + 1;
        let walk = PatientWalk::over((0..count).map(entry).map(Ok), limits::WALK_TIMEOUT);
        let found: Vec<_> = walk.map(|found| found.expect("entry")).collect();
        let expected: Vec<_> = (0..count).map(entry).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_walk_that_hangs_ends_with_an_error_and_its_thread_with_its_call() {
        let (release, wait_for_release) = channel::<()>();
        let (entered, wait_until_entered) = channel();
        let hanging = (0..2 * PAGE_ENTRIES_MAX).map(move |number| {
            if number == PAGE_ENTRIES_MAX {
                wait_for_release.recv().ok();
            }
            entered.send(number).ok();
            Ok(entry(number))
        });
        let mut found: Vec<_> = PatientWalk::over(hanging, Duration::from_millis(20)).collect();
        let (path, error) = found.pop().expect("an error").expect_err("the last one");
        assert_eq!((path, error.kind()), (PathBuf::new(), io::ErrorKind::TimedOut));
        assert!(found.len() <= PAGE_ENTRIES_MAX);
        drop(release);
        // The channel closes with the thread.
        assert!(wait_until_entered.iter().count() >= PAGE_ENTRIES_MAX);
    }
}
