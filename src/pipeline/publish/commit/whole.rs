//! Content made durable by one `syncfs` for many files.
//!
//! `syncfs` waits for everything that is unwritten on the file system, whoever wrote it. Where that
//! is little, one call costs less than an `fsync` of each file, and makes the same durable.

use std::{
    collections::HashMap,
    io,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use super::pool::Synced;
use crate::{
    failpoint, fs, limits,
    observe::SyncKind,
    pipeline::{context::Context, job::Staged},
};

/// Decides when one call serves a batch, and makes it.
#[derive(Debug)]
pub struct Whole {
    unwritten: fs::Unwritten,
    /// One failed, and does not say for which file: from then on each is synced by itself, unless
    /// `syncfs` is asked for.
    failed: AtomicBool,
}

impl Default for Whole {
    fn default() -> Self {
        Self { unwritten: fs::Unwritten::open(), failed: AtomicBool::new(false) }
    }
}

impl Whole {
    /// Whether these, for which `fsync` is asked, are better made durable together: there are many,
    /// of one file system that is known to do it well, and little else waits to be written.
    pub fn suits(&self, files: &[Staged]) -> bool {
        let Some(first) = files.first().filter(|_| files.len() >= limits::TOGETHER) else {
            return false;
        };
        let device = first.identity.device;
        !self.failed.load(Ordering::Relaxed)
            && files.iter().all(|staged| staged.identity.device == device)
            && fs::syncs_whole(first.temp.file()).unwrap_or(false)
            && self.little_else_waits()
    }

    fn little_else_waits(&self) -> bool {
        failpoint::leaves_out("gate::unwritten")
            || self.unwritten.bytes().is_some_and(|bytes| bytes <= limits::UNWRITTEN_BYTES)
    }

    /// One `syncfs` for all files of a file system.
    pub fn sync(&self, files: Vec<Staged>) -> Vec<Synced> {
        let mut results: HashMap<u64, io::Result<()>> = HashMap::new();
        for staged in &files {
            let device = staged.identity.device;
            results.entry(device).or_insert_with(|| self.sync_one(staged));
        }
        let result_of = |staged: &Staged| match results.get(&staged.identity.device) {
            Some(Err(error)) => Err(copy(error)),
            _ => Ok(()),
        };
        let told: Vec<_> = files.iter().map(result_of).collect();
        files.into_iter().zip(told).collect()
    }

    fn sync_one(&self, staged: &Staged) -> io::Result<()> {
        let context = &staged.job.context;
        let start = Instant::now();
        let result = failpoint::hit("commit::sync").and_then(|()| {
            failpoint::barrier("barrier::temp", || sync_file_system(context, staged))
        });
        context.meter.sync(SyncKind::FileSystem, start.elapsed());
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// By the handle of the output's root where it can be: the kernel tells each handle of the errors
/// since that handle was opened, and that one is older than every output.
fn sync_file_system(context: &Context, staged: &Staged) -> io::Result<()> {
    let root = context.output();
    if fs::identity_of(&*root)?.device == staged.identity.device {
        fs::sync_file_system(&*root)
    } else {
        fs::sync_file_system(staged.temp.file())
    }
}

fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}
