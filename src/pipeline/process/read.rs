//! read: the source's bytes, and the proof that they are of one state of it.
//!
//! Owns: the source handle. Never transforms.
//!
//! R1: what is passed on is the content of the identity that claim found: size, times and inode
//! are compared after the last byte; a difference gives up the file until it is quiet again.

use std::{fs::File, io, os::unix::fs::FileExt};

use tokio_util::sync::CancellationToken;

use crate::{
    failpoint, fs, limits,
    pipeline::{
        buffer_pool::Spare,
        failure::ReadError,
        job::{Claimed, FailedJob, Job, Loaded},
    },
};

/// Reads a small file into one buffer.
pub fn whole(claimed: Claimed) -> Result<Loaded, Box<FailedJob>> {
    let Claimed { job, source } = &claimed;
    // A file of this size is small, and the one byte more sees it grow.
    let size = usize::try_from(job.seen.identity.size).unwrap_or(limits::SMALL_FILE_MAX_BYTES);
    let mut bytes = vec![0; size + 1];
    let read = failpoint::hit("read")
        .and_then(|()| fill(source, &mut bytes, 0))
        .map_err(|source| ReadError::Io { path: job.source_path(), source })
        .and_then(|count| check(job, source, count as u64).map(|()| count));
    match read {
        Ok(count) => {
            bytes.truncate(count);
            claimed.job.meter.read(count as u64);
            Ok(Loaded { claimed, bytes })
        }
        Err(error) => Err(Box::new(claimed.job.fail(error))),
    }
}

/// How a stream ended without an error of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Whole,
    /// The next stage wants no more: its own error says why.
    Refused,
    /// The stop was cut short.
    Cut,
}

/// Reads a large file in chunks, into spare buffers where there are some; `put` says whether it
/// took one.
pub fn stream(
    job: &Job,
    source: &File,
    cut: &CancellationToken,
    spare: &Spare,
    mut put: impl FnMut(Vec<u8>) -> bool,
) -> Result<End, ReadError> {
    let failed = |source| ReadError::Io { path: job.source_path(), source };
    // Only advice: a file system may have no use for it.
    fs::advise_sequential(source).ok();
    let mut offset = 0;
    loop {
        if cut.is_cancelled() {
            return Ok(End::Cut);
        }
        let mut chunk = spare.take();
        chunk.resize(limits::CHUNK_BYTES, 0);
        let count = failpoint::hit("read")
            .and_then(|()| fill(source, &mut chunk, offset))
            .map_err(failed)?;
        offset += count as u64;
        job.meter.read(offset);
        let last = count < chunk.len();
        chunk.truncate(count);
        if !chunk.is_empty() && !put(chunk) {
            return Ok(End::Refused);
        }
        if last || offset > job.seen.identity.size {
            break;
        }
    }
    check(job, source, offset)?;
    Ok(End::Whole)
}

/// Reads until the buffer is full or the file ends.
fn fill(source: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let wanted = rest.len();
        match source.read_at(rest, offset + filled as u64) {
            // A regular file gives less than was asked for only at its end.
            Ok(count) if count < wanted => return Ok(filled + count),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Hashes a file as it grows: up to each of these lengths.
pub fn hash(file: &File, lengths: impl Iterator<Item = u64>) -> io::Result<blake3::Hasher> {
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; limits::CHUNK_BYTES];
    let mut offset = 0;
    for length in lengths {
        while offset < length {
            let most = usize::try_from(length - offset).unwrap_or(chunk.len()).min(chunk.len());
            let chunk = chunk.get_mut(..most).unwrap_or_default();
            if fill(file, chunk, offset)? < most {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            hasher.update(chunk);
            offset += most as u64;
        }
    }
    Ok(hasher)
}

/// R1.
pub fn check(job: &Job, source: &File, bytes_read: u64) -> Result<(), ReadError> {
    let path = || job.source_path();
    let now = fs::identity_of(source).map_err(|source| ReadError::Io { path: path(), source })?;
    if now == job.seen.identity && bytes_read == now.size {
        Ok(())
    } else {
        Err(ReadError::Changed { path: path() })
    }
}
