//! Makes the content of many files durable by one `syncfs`.
//!
//! `syncfs` waits for everything that is unwritten on the file system, by any program. Where that
//! is little, one call costs less than an `fsync` of each file.
//!
//! It reports less than `fsync`: write errors only, once per handle, and no failed block
//! allocation. So writeback of each file is started first, which reports failed allocations, and
//! each file is checked afterwards ([`content_check`](super::content_check)). An error belongs to every
//! file that is written at that time, those of the next batch included, and the handle reports it
//! once: after a failure each file is synced individually until the next start. A file's own handle
//! is as old as the file, so no other handle takes its error.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use super::{
    file::Content,
    shared::Shared,
    sync_pool::{Synced, start_writeback},
};
use crate::{
    failpoint,
    fs::{self, Dir},
    limits,
    observe::SyncKind,
};

/// Decides whether one `syncfs` serves a batch, and calls it.
#[derive(Debug)]
pub struct GroupSync {
    shared: Arc<Shared>,
    dirty_pages: fs::DirtyPages,
    /// A `syncfs` failed, without naming a file: from then on each file is synced individually,
    /// even with `durability = "syncfs"`.
    failed: AtomicBool,
}

impl GroupSync {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, dirty_pages: fs::DirtyPages::open(), failed: AtomicBool::new(false) }
    }

    /// Checks whether one `syncfs` is better for these files than the `fsync` they are configured
    /// with: there are many, and little else is unwritten.
    pub fn is_better_for(&self, files: &[Content], root: &Dir) -> bool {
        files.len() >= limits::GROUP_SYNC_FILES_MIN
            && self.may_replace_fsync(files, root)
            && self.is_little_unwritten()
    }

    /// Checks whether one `syncfs` may replace an `fsync` of each of these files: their file system
    /// reports errors to the handle of the output's root, which is older than every file below it.
    pub fn may_replace_fsync(&self, files: &[Content], root: &Dir) -> bool {
        if self.failed.load(Ordering::Relaxed) {
            return false;
        }
        let Ok(device) = fs::identity_of(root).map(|root| root.device) else { return false };
        files.iter().all(|content| content.identity.device == device)
            && fs::prefers_syncfs(root).unwrap_or(false)
    }

    fn is_little_unwritten(&self) -> bool {
        failpoint::is_skipped("gate::unwritten")
            || self
                .dirty_pages
                .bytes()
                .is_some_and(|bytes| bytes <= limits::GROUP_SYNC_DIRTY_BYTES_MAX)
    }

    /// Syncs files of one file system by one `syncfs`.
    pub fn sync(&self, files: Vec<Content>, root: &Dir) -> Vec<Synced> {
        let (started, mut synced) = start_writeback(files);
        if started.is_empty() {
            return synced;
        }
        let result = self.sync_file_system(root);
        let result = || result.as_ref().copied().map_err(clone_error);
        synced.extend(started.into_iter().map(|content| (content, result())));
        synced
    }

    fn sync_file_system(&self, root: &Dir) -> io::Result<()> {
        let start = Instant::now();
        let result = failpoint::hit("commit::sync").and_then(|()| {
            let sync = || fs::sync_file_system(root);
            failpoint::barrier("barrier::temp", sync)
        });
        self.shared.count_sync(SyncKind::FileSystem, start.elapsed());
        if let Err(error) = &result
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(event = "storage.fallback", %error, "syncfs failed, using fsync until restart");
        }
        failpoint::barrier("barrier::group_result", || result)
    }
}

fn clone_error(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}
