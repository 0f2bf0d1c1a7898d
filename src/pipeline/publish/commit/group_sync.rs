//! Content made durable by one `syncfs` for many files.
//!
//! `syncfs` waits for everything that is unwritten on the file system, whoever wrote it. Where that
//! is little, one call costs less than an `fsync` of each file.
//!
//! It reports less than an `fsync`: errors of writing, once for each handle, and not those of finding a
//! block. So each file's writing is begun before it, which reports those, and each file is looked at
//! after it ([`content_check`](crate::pipeline::content_check)). An error is every file's that is written at that
//! time, those of the next batch included, and the handle reports it once: after one that failed each
//! file is synced by itself until the next start. A file's own handle is as old as the file, so nobody
//! else takes its error.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use super::sync_pool::{Synced, begin};
use crate::{failpoint, fs, limits, observe::SyncKind, pipeline::job::Staged};

/// Decides when one call serves a batch, and makes it.
#[derive(Debug)]
pub struct GroupSync {
    unwritten: fs::DirtyPages,
    /// One failed, and does not say for which file: from then on each is synced by itself, also where
    /// `syncfs` is asked for.
    failed: AtomicBool,
}

impl Default for GroupSync {
    fn default() -> Self {
        Self { unwritten: fs::DirtyPages::open(), failed: AtomicBool::new(false) }
    }
}

impl GroupSync {
    /// Whether these, for which `fsync` is asked, are better made durable together: there are many,
    /// and little else waits to be written.
    pub fn suits(&self, files: &[Staged]) -> bool {
        files.len() >= limits::GROUP_SYNC_FILES_MIN
            && self.may_stand_for(files)
            && self.little_else_waits()
    }

    /// Whether one call may stand for an `fsync` of each of these: their file system reports errors,
    /// to the handle of the output's root, which is older than every file below it.
    pub fn may_stand_for(&self, files: &[Staged]) -> bool {
        let Some(first) = files.first().filter(|_| !self.failed.load(Ordering::Relaxed)) else {
            return false;
        };
        let root = first.job.context.output();
        let Ok(device) = fs::identity_of(&*root).map(|root| root.device) else { return false };
        files.iter().all(|staged| staged.identity.device == device)
            && fs::syncs_whole(&*root).unwrap_or(false)
    }

    fn little_else_waits(&self) -> bool {
        failpoint::is_skipped("gate::unwritten")
            || self
                .unwritten
                .bytes()
                .is_some_and(|bytes| bytes <= limits::GROUP_SYNC_DIRTY_BYTES_MAX)
    }

    /// One `syncfs` for files of one file system, for which it may stand.
    pub fn sync(&self, files: Vec<Staged>) -> Vec<Synced> {
        let (begun, mut synced) = begin(files);
        let Some(first) = begun.first() else { return synced };
        let result = self.sync_one(first);
        let result = || result.as_ref().copied().map_err(copy);
        synced.extend(begun.into_iter().map(|staged| (staged, result())));
        synced
    }

    fn sync_one(&self, first: &Staged) -> io::Result<()> {
        let context = &first.job.context;
        let start = Instant::now();
        let result = failpoint::hit("commit::sync").and_then(|()| {
            let sync = || fs::sync_file_system(&*context.output());
            failpoint::barrier("barrier::temp", sync)
        });
        context.meter.sync(SyncKind::FileSystem, start.elapsed());
        if let Err(error) = &result
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(event = "storage.fallback", %error, "syncfs failed, using fsync until restart");
        }
        result
    }
}

fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}
