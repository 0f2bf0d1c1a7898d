//! read: the source's bytes, and the proof that they belong to one state of it.
//!
//! Owns: the source handle. Never transforms.
//!
//! R1: the bytes that are passed on are the content of the identity that claim found: size, times and
//! inode are compared after the last byte; a difference defers the file until it is quiet again.

use std::{fs::File, io};

use tokio_util::sync::CancellationToken;

use crate::{
    failpoint, fs, limits,
    pipeline::{
        buffer_pool::BufferPool,
        failure::ReadError,
        job::{Claimed, FailedJob, Job, Loaded},
        output_hasher::OutputHasher,
    },
    source::SourceFile,
};

/// Reads a small file into one buffer.
pub fn read_small(claimed: Claimed) -> Result<Loaded, Box<FailedJob>> {
    let Claimed { job, source } = &claimed;
    // A file of this size is small, and the extra byte detects growth.
    let size = usize::try_from(job.metadata.identity.size).unwrap_or(limits::SMALL_FILE_MAX_BYTES);
    let mut bytes = vec![0; size + 1];
    let result = failpoint::hit("read")
        .and_then(|()| source.read_at(&mut bytes, 0))
        .map_err(|source| ReadError::Io { path: job.source_path(), source })
        .and_then(|count| check_unchanged(job, &**source, count as u64).map(|()| count));
    match result {
        Ok(count) => {
            bytes.truncate(count);
            claimed.job.meter.read(count as u64);
            Ok(Loaded { claimed, bytes })
        }
        Err(error) => Err(Box::new(claimed.job.fail(error))),
    }
}

/// The result of a stream without an error of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    Complete,
    /// The next stage takes no more chunks: it has an error of its own.
    Rejected,
    /// The stop was forced.
    Cut,
}

/// Reads a large file in chunks, into pooled buffers if there are any; `put` returns whether it took
/// the chunk.
pub fn stream(
    job: &Job,
    source: &dyn SourceFile,
    cut: &CancellationToken,
    pool: &BufferPool,
    mut put: impl FnMut(Vec<u8>) -> bool,
) -> Result<StreamEnd, ReadError> {
    let read_error = |source| ReadError::Io { path: job.source_path(), source };
    source.advise_sequential();
    let mut offset = 0;
    loop {
        if cut.is_cancelled() {
            return Ok(StreamEnd::Cut);
        }
        let mut chunk = pool.take();
        chunk.resize(limits::CHUNK_BYTES, 0);
        let count = failpoint::hit("read")
            .and_then(|()| source.read_at(&mut chunk, offset))
            .map_err(read_error)?;
        offset += count as u64;
        job.meter.read(offset);
        let is_last = count < chunk.len();
        chunk.truncate(count);
        if !chunk.is_empty() && !put(chunk) {
            return Ok(StreamEnd::Rejected);
        }
        if is_last || offset > job.metadata.identity.size {
            break;
        }
    }
    check_unchanged(job, source, offset)?;
    Ok(StreamEnd::Complete)
}

/// Hashes a file as it grows, up to each of these lengths in turn.
pub fn hash(
    file: &File,
    mut hasher: OutputHasher,
    lengths: impl Iterator<Item = u64>,
) -> io::Result<OutputHasher> {
    let mut chunk = vec![0; limits::CHUNK_BYTES];
    let mut offset = 0;
    for length in lengths {
        while offset < length {
            let count = usize::try_from(length - offset).unwrap_or(chunk.len()).min(chunk.len());
            let chunk = chunk.get_mut(..count).unwrap_or_default();
            if fs::fill(file, chunk, offset)? < count {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            hasher.update(chunk);
            offset += count as u64;
        }
    }
    Ok(hasher)
}

/// Checks R1 after the last byte.
pub fn check_unchanged(
    job: &Job,
    source: &dyn SourceFile,
    bytes_read: u64,
) -> Result<(), ReadError> {
    let path = || job.source_path();
    let now = source.metadata().map_err(|source| ReadError::Io { path: path(), source })?;
    let identity = now.identity;
    if identity == job.metadata.identity && bytes_read == identity.size {
        Ok(())
    } else {
        Err(ReadError::Changed { path: path() })
    }
}
