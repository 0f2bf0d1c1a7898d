//! A large file that is only copied: its bytes stay in the kernel, and are read once for its hash.
//!
//! What is hashed is the output, so the hash is of what was published whatever the source did;
//! that the source is the same is R1's to say, after the last byte.

use std::{fs::File, sync::mpsc, thread};

use tokio_util::sync::CancellationToken;

use super::{
    clock::Clock,
    failure::{ReadError, WriteError},
    job::Job,
    process::{
        read,
        write::{Directories, Draft},
    },
};
use crate::{limits, stage::Stage};

/// Copied between two looks at whether the stop was cut short.
const COPY_BYTES: usize = 8 * 1024 * 1024;

/// How it ended.
pub enum Copied {
    Whole(Box<Draft>),
    /// The stop was cut short.
    Cut,
    /// The kernel cannot copy between the two: nothing was written.
    Unable,
}

pub enum CopyFailed {
    Read(ReadError),
    Write(WriteError),
}

/// Copies the source into a draft.
pub fn copy(
    job: &Job,
    source: &File,
    cut: &CancellationToken,
    (directories, clock): (&mut Directories, &mut Clock),
) -> Result<Copied, CopyFailed> {
    let write_failed =
        |source| CopyFailed::Write(WriteError::Io { path: job.source_path(), source });
    job.meter.stage_started(Stage::Write);
    let mut draft = Draft::begin(directories, job).map_err(CopyFailed::Write)?;
    let copy = draft.reader().map_err(write_failed)?;
    let (copied, lengths) = mpsc::sync_channel(limits::CHUNKS_QUEUED);
    let (hasher, ended) = thread::scope(|scope| {
        let hashing = scope.spawn(move || read::hash(&copy, lengths.into_iter()));
        let ended = fill(job, source, cut, (&mut draft, clock), &copied);
        drop(copied);
        let hasher = hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (hasher, ended)
    });
    let length = match ended? {
        Filled::Whole(length) => length,
        Filled::Cut => return Ok(Copied::Cut),
        Filled::Unable => return Ok(Copied::Unable),
    };
    draft.hashed(hasher.map_err(write_failed)?);
    read::check(job, source, length).map_err(CopyFailed::Read)?;
    Ok(Copied::Whole(Box::new(draft)))
}

enum Filled {
    Whole(u64),
    Cut,
    Unable,
}

/// Fills the draft, and says how far it is after each piece.
fn fill(
    job: &Job,
    source: &File,
    cut: &CancellationToken,
    (draft, clock): (&mut Draft, &mut Clock),
    copied: &mpsc::SyncSender<u64>,
) -> Result<Filled, CopyFailed> {
    let size = job.seen.identity.size;
    // A hasher that is gone has an error of its own.
    let tell = |length| copied.send(length).is_ok();
    let mut length = 0;
    if draft.share(job, source).map_err(CopyFailed::Write)? {
        // All of it is there at once, and is read for its hash.
        while length < size {
            if cut.is_cancelled() {
                return Ok(Filled::Cut);
            }
            length = size.min(length + COPY_BYTES as u64);
            job.meter.read(length);
            clock.book();
            if !tell(length) {
                break;
            }
        }
        return Ok(Filled::Whole(size));
    }
    while length <= size {
        if cut.is_cancelled() {
            return Ok(Filled::Cut);
        }
        match draft.copy(job, source, COPY_BYTES).map_err(CopyFailed::Write)? {
            Some(0) => break,
            Some(count) => length += count,
            None => return Ok(Filled::Unable),
        }
        job.meter.read(length);
        clock.book();
        if !tell(length) {
            break;
        }
    }
    Ok(Filled::Whole(length))
}
