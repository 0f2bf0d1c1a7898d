//! What the jobs of one pipeline may use at a time: files, and memory.

use std::sync::Arc;

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::{
    limits,
    pipeline::job::{Job, Permits},
};

/// What one pipeline may use of the limits of the process.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Content of small files in work at one time.
    pub content_bytes: u64,
    /// Files in work at one time.
    pub files: u32,
    /// Threads that transform.
    pub workers: u32,
}

/// The limits that the jobs of one pipeline share. Dropping it changes nothing: jobs hold their permits.
#[derive(Clone, Debug)]
pub struct Budget {
    files: Arc<Semaphore>,
    /// Large files, from their lane to their end: they never keep a small one waiting.
    large_files: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// The most that one file takes.
    bytes_most: u32,
    runtime: Handle,
}

impl Budget {
    #[must_use]
    pub fn new(share: Share, runtime: Handle) -> Self {
        let bytes_most = u32::try_from(share.content_bytes).unwrap_or(u32::MAX);
        let bytes = usize::try_from(share.content_bytes).unwrap_or(usize::MAX);
        let large_files = share.workers.max(1) as usize * limits::LARGE_FILES_PER_LANE;
        Self {
            files: Arc::new(Semaphore::new(share.files.max(1) as usize)),
            large_files: Arc::new(Semaphore::new(large_files)),
            bytes: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))),
            bytes_most,
            runtime,
        }
    }

    /// Waits until there is room for a file of this size. A large one takes no bytes: it streams
    /// through a lane, and the lanes' chunks are counted with their codecs.
    pub fn take(&self, size: u64) -> Permits {
        if is_large(size) {
            return Permits { file: self.wait(&self.large_files, 1), bytes: None };
        }
        let file = self.wait(&self.files, 1);
        Permits { file, bytes: self.wait(&self.bytes, self.cost(size)) }
    }

    /// More bytes for an output that outgrew its share, where there are any now.
    #[must_use]
    pub fn try_more(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()
    }

    /// The bytes a small file takes: its content, its output, and what both need beside them.
    fn cost(&self, size: u64) -> u32 {
        let bytes = u32::try_from(2 * size).unwrap_or(self.bytes_most);
        bytes.saturating_add(limits::SMALL_FILE_BYTES).min(self.bytes_most)
    }

    /// Whether the file can be claimed without a wait. An output that takes more bytes in the
    /// meantime gives them back without claim's help, so a wait that it causes ends.
    #[must_use]
    pub fn has_room(&self, job: &Job) -> bool {
        let size = job.seen.identity.size;
        let has_bytes = || self.bytes.available_permits() >= self.cost(size) as usize;
        is_large(size) || (self.files.available_permits() > 0 && has_bytes())
    }

    fn wait(&self, of: &Arc<Semaphore>, count: u32) -> Option<OwnedSemaphorePermit> {
        match Arc::clone(of).try_acquire_many_owned(count) {
            Ok(permit) => Some(permit),
            Err(_) => self.runtime.block_on(Arc::clone(of).acquire_many_owned(count)).ok(),
        }
    }
}

/// Whether a source of this size is streamed through a lane.
#[must_use]
pub const fn is_large(size: u64) -> bool {
    size > limits::SMALL_FILE_MAX_BYTES as u64
}
