//! transform: the chain of transforms, on bytes. Sees no path, no file and no clock.
//!
//! Owns: nothing; `Codecs` lends the codecs' state.

use tokio::sync::OwnedSemaphorePermit;

use crate::{
    failpoint,
    ledger::Hash,
    limits,
    pipeline::{
        budget::Budget,
        buffer_pool::BufferPool,
        clock::Clock,
        codec_memory::Codecs,
        failure::TransformError,
        job::{Claimed, FailedJob, Loaded, Transformed},
        output_hasher::{Hashes, OutputHasher},
    },
    transforms::{self, FailureCause, Receiver, Stopped, Transformer},
};

/// The largest output of a small file in memory; a larger one is streamed instead.
const SMALL_OUTPUT_BYTES_MAX: usize = 8 * limits::SMALL_FILE_MAX_BYTES;

/// The result of transforming a small file.
#[derive(Debug)]
pub enum SmallResult {
    Transformed(Transformed),
    /// Its output is too large for one buffer: the file goes through the lane of the large files.
    Grown(Claimed),
}

/// Transforms a small file in memory.
pub fn transform_small(
    (codecs, budget): (&Codecs, &Budget),
    loaded: Loaded,
    clock: &mut Clock,
) -> Result<SmallResult, Box<FailedJob>> {
    let Loaded { mut claimed, bytes: source } = loaded;
    claimed.job.begin();
    let bytes = Vec::with_capacity(source.len() / 2 + 128);
    let share = source.len() + limits::SMALL_FILE_BYTES as usize;
    let mut receiver = CappedBuffer { bytes, share, permit: None, budget, is_outgrown: false };
    let of = (&claimed.job.context.config, &*claimed.job.path);
    let result = codecs.lend(of, 0, clock, |transformer, _| {
        failpoint::hit("transform").map_err(transforms::Error::from)?;
        let transformer = transformer?;
        transformer.feed(&source, &mut receiver)?;
        transformer.finish(&mut receiver)?;
        let source = hash(&source);
        verify(transformer, &source)?;
        Ok(source)
    });
    match result {
        Ok(source) => {
            let CappedBuffer { bytes, permit, .. } = receiver;
            claimed.job.add_bytes(permit);
            let mut hasher = OutputHasher::new(claimed.job.context.config.keys.checksum);
            hasher.update(&bytes);
            let (output, sha256) = hasher.finish();
            let hashes = Hashes { source, output, sha256 };
            Ok(SmallResult::Transformed(Transformed { job: claimed.job, bytes, hashes }))
        }
        Err(_) if receiver.is_outgrown => Ok(SmallResult::Grown(claimed)),
        Err(source) => {
            let path = claimed.job.source_path();
            Err(Box::new(claimed.job.fail(TransformError::Codec { path, source })))
        }
    }
}

/// An output buffer that takes its bytes from the memory limit before it grows.
struct CappedBuffer<'a> {
    bytes: Vec<u8>,
    /// Bytes that the job's permits and `permit` cover.
    share: usize,
    /// Additional bytes; the job holds them after success.
    permit: Option<OwnedSemaphorePermit>,
    budget: &'a Budget,
    /// Whether the output did not fit.
    is_outgrown: bool,
}

impl CappedBuffer<'_> {
    /// Takes the bytes for an output of this length; false if none are free, or it is too large.
    fn reserve(&mut self, length: usize) -> bool {
        if length <= self.share {
            return true;
        }
        // A vector grows by doubling, so its capacity may be twice its length.
        let share = length.next_power_of_two().max(2 * self.share).min(SMALL_OUTPUT_BYTES_MAX);
        let Some(more) = self.budget.try_more(share.saturating_sub(self.share)) else {
            return false;
        };
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            none => *none = Some(more),
        }
        self.share = share;
        length <= share
    }
}

impl Receiver for CappedBuffer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        if !self.reserve(self.bytes.len() + bytes.len()) {
            self.is_outgrown = true;
            return Err(Stopped);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// Transforms a large file chunk by chunk and returns the source's hash.
///
/// `chunks` ends when the reader stops, for any reason: only the reader detects the source's end, so
/// the output counts only if the reader succeeds. The chunks' buffers return to `source_pool`; those
/// of the output come from `output_pool`.
pub fn stream(
    transformer: &mut Transformer,
    (chunks, source_pool): (impl Iterator<Item = Vec<u8>>, &BufferPool),
    output_pool: &BufferPool,
    put: impl FnMut(Vec<u8>) -> bool,
) -> Result<Hash, transforms::Error> {
    let mut hasher = blake3::Hasher::new();
    let mut receiver = ChunkReceiver { chunk: Vec::new(), pool: output_pool, put };
    for chunk in chunks {
        failpoint::hit("transform").map_err(transforms::Error::from)?;
        hasher.update(&chunk);
        transformer.feed(&chunk, &mut receiver)?;
        source_pool.put_back(chunk);
    }
    transformer.finish(&mut receiver)?;
    receiver.flush()?;
    let source = *hasher.finalize().as_bytes();
    verify(transformer, &source)?;
    Ok(source)
}

/// Compares the output with the source of this hash, if the pipeline verifies its outputs.
fn verify(transformer: &mut Transformer, source: &Hash) -> Result<(), transforms::Error> {
    if transformer.verifies() {
        failpoint::hit("verify").map_err(|_| FailureCause::NotReversed { source: None })?;
    }
    transformer.verify(source)
}

/// Gathers output into chunks of [`limits::CHUNK_BYTES`].
struct ChunkReceiver<'a, P> {
    chunk: Vec<u8>,
    pool: &'a BufferPool,
    put: P,
}

impl<P: FnMut(Vec<u8>) -> bool> ChunkReceiver<'_, P> {
    fn flush(&mut self) -> Result<(), Stopped> {
        let mut next = self.pool.take();
        next.clear();
        let chunk = std::mem::replace(&mut self.chunk, next);
        if chunk.is_empty() || (self.put)(chunk) { Ok(()) } else { Err(Stopped) }
    }
}

impl<P: FnMut(Vec<u8>) -> bool> Receiver for ChunkReceiver<'_, P> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= limits::CHUNK_BYTES { self.flush() } else { Ok(()) }
    }
}

fn hash(bytes: &[u8]) -> Hash {
    *blake3::hash(bytes).as_bytes()
}
