//! The limits of one pipeline's jobs in flight: files and memory.

use std::sync::Arc;

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::{
    limits,
    pipeline::job::{Job, Permits},
};

/// One pipeline's share of the limits of the process.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Bytes of content of small files in flight.
    pub content_bytes: u64,
    /// Files in flight.
    pub files: u32,
    /// Threads that transform.
    pub workers: u32,
}

/// The limits that the jobs of one pipeline share. Dropping it changes nothing: jobs hold their permits.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Small files in flight.
    files: Arc<Semaphore>,
    /// Large files from their lane to their outcome, counted separately: small files never wait for
    /// them.
    large_files: Arc<Semaphore>,
    /// Bytes of content in memory.
    bytes: Arc<Semaphore>,
    /// The most bytes that one file takes.
    bytes_per_file_max: u32,
    runtime: Handle,
}

impl Budget {
    #[must_use]
    pub fn new(share: Share, runtime: Handle) -> Self {
        let bytes_per_file_max = u32::try_from(share.content_bytes).unwrap_or(u32::MAX);
        let bytes = usize::try_from(share.content_bytes).unwrap_or(usize::MAX);
        let large_files = share.workers.max(1) as usize * limits::LARGE_FILES_PER_LANE;
        Self {
            files: Arc::new(Semaphore::new(share.files.max(1) as usize)),
            large_files: Arc::new(Semaphore::new(large_files)),
            bytes: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))),
            bytes_per_file_max,
            runtime,
        }
    }

    /// Waits for the permits of a file of this size. A large file takes no bytes: it streams through a
    /// lane, and the lanes' chunks are counted with their codecs.
    pub fn take(&self, size: u64) -> Permits {
        if is_large(size) {
            return Permits { file: self.wait(&self.large_files, 1), bytes: None };
        }
        let file = self.wait(&self.files, 1);
        Permits { file, bytes: self.wait(&self.bytes, self.cost(size)) }
    }

    /// Takes more bytes for an output that outgrew its share, if they are free now.
    #[must_use]
    pub fn try_more(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()
    }

    /// Returns the bytes that a small file takes: its content, its output, and the overhead of both.
    fn cost(&self, size: u64) -> u32 {
        let bytes = u32::try_from(2 * size).unwrap_or(self.bytes_per_file_max);
        bytes.saturating_add(limits::SMALL_FILE_BYTES).min(self.bytes_per_file_max)
    }

    /// Checks whether the file can be claimed without a wait. An output that takes more bytes in the
    /// meantime returns them without claim's help, so a wait that it causes ends.
    #[must_use]
    pub fn has_room(&self, job: &Job) -> bool {
        let size = job.metadata.identity.size;
        let has_bytes = || self.bytes.available_permits() >= self.cost(size) as usize;
        is_large(size) || (self.files.available_permits() > 0 && has_bytes())
    }

    fn wait(&self, semaphore: &Arc<Semaphore>, count: u32) -> Option<OwnedSemaphorePermit> {
        match Arc::clone(semaphore).try_acquire_many_owned(count) {
            Ok(permit) => Some(permit),
            Err(_) => self.runtime.block_on(Arc::clone(semaphore).acquire_many_owned(count)).ok(),
        }
    }
}

/// Checks whether a source of this size is streamed through a lane.
#[must_use]
pub const fn is_large(size: u64) -> bool {
    size > limits::SMALL_FILE_MAX_BYTES as u64
}
