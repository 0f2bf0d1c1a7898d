//! The copy of a large file without a transform, where the sink can do it: its bytes stay in the kernel,
//! and are read once for the hash.
//!
//! The hash is computed from the output, so it belongs to the published content whatever happens to
//! the source; R1 checks after the last byte that the source is the same.

use std::{fs::File, sync::mpsc, thread};

use tokio_util::sync::CancellationToken;

use super::{
    failure::{ReadError, WriteError},
    job::Job,
    output_hasher::OutputHasher,
    process::{read, write::Draft},
};
use crate::{limits, stage::Stage};

/// The bytes copied between two checks for a forced stop.
const COPY_BYTES: usize = 8 * 1024 * 1024;

/// The result of a copy.
pub enum CopyResult {
    Complete(Box<Draft>),
    /// The stop was forced.
    Cut,
    /// The sink cannot copy from the source: nothing was written.
    Unsupported,
}

pub enum CopyError {
    Read(ReadError),
    Write(WriteError),
}

/// Copies the source into a draft.
pub fn copy(job: &Job, source: &File, cut: &CancellationToken) -> Result<CopyResult, CopyError> {
    let write_error = |source| CopyError::Write(WriteError::Io { path: job.source_path(), source });
    job.meter.stage_started(Stage::Write);
    let mut draft = Draft::begin(job).map_err(CopyError::Write)?;
    let Some(reader) = draft.reader(job).map_err(CopyError::Write)? else {
        return Ok(CopyResult::Unsupported);
    };
    let (to_hasher, lengths) = mpsc::sync_channel(limits::CHUNKS_QUEUED);
    let hasher = OutputHasher::new(job.context.config.keys.checksum);
    let (hasher, result) = thread::scope(|scope| {
        let hashing = scope.spawn(move || read::hash(&reader, hasher, lengths.into_iter()));
        let result = fill(job, source, cut, &mut draft, &to_hasher);
        drop(to_hasher);
        let hasher = hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (hasher, result)
    });
    let length = match result? {
        FillResult::Complete(length) => length,
        FillResult::Cut => return Ok(CopyResult::Cut),
        FillResult::Unsupported => return Ok(CopyResult::Unsupported),
    };
    draft.set_hasher(hasher.map_err(write_error)?);
    read::check_unchanged(job, source, length).map_err(CopyError::Read)?;
    Ok(CopyResult::Complete(Box::new(draft)))
}

enum FillResult {
    /// The bytes copied.
    Complete(u64),
    Cut,
    Unsupported,
}

/// Fills the draft, and sends the copied length to the hasher after each piece.
fn fill(
    job: &Job,
    source: &File,
    cut: &CancellationToken,
    draft: &mut Draft,
    to_hasher: &mpsc::SyncSender<u64>,
) -> Result<FillResult, CopyError> {
    let size = job.metadata.identity.size;
    // A hasher that is gone has an error of its own.
    let send = |length| to_hasher.send(length).is_ok();
    let mut length = 0;
    if draft.share(job, source).map_err(CopyError::Write)? {
        // The entire content exists at once, and is read for its hash.
        while length < size {
            if cut.is_cancelled() {
                return Ok(FillResult::Cut);
            }
            length = size.min(length + COPY_BYTES as u64);
            job.meter.read(length);
            job.context.meter.progressed();
            if !send(length) {
                break;
            }
        }
        return Ok(FillResult::Complete(size));
    }
    while length <= size {
        if cut.is_cancelled() {
            return Ok(FillResult::Cut);
        }
        match draft.copy(job, source, COPY_BYTES).map_err(CopyError::Write)? {
            Some(0) => break,
            Some(count) => length += count,
            None => return Ok(FillResult::Unsupported),
        }
        job.meter.read(length);
        job.context.meter.progressed();
        if !send(length) {
            break;
        }
    }
    Ok(FillResult::Complete(length))
}
