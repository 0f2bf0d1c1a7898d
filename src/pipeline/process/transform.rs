//! transform: the chain of transforms, on bytes. Sees no path, no file and no clock.
//!
//! Owns: nothing; the codecs' state is lent by `Codecs`.

use tokio::sync::OwnedSemaphorePermit;

use crate::{
    codec::{self, Sink, Stopped, Transformer},
    failpoint,
    ledger::Hash,
    limits,
    pipeline::{
        budget::Budget,
        buffer_pool::Spare,
        clock::Clock,
        codec_memory::Codecs,
        failure::TransformError,
        job::{Claimed, FailedJob, Hashes, Loaded, Transformed},
    },
};

/// The output of a small file may be this large in memory; a larger one is streamed instead.
const GROWN_BYTES: usize = 8 * limits::SMALL_FILE_MAX_BYTES;

/// What became of a small file.
#[derive(Debug)]
pub enum SmallResult {
    Transformed(Transformed),
    /// Its output is too large for one buffer: it goes through the lane of the large ones.
    Grown(Claimed),
}

/// Transforms a small file in memory.
pub fn whole(
    (codecs, budget): (&Codecs, &Budget),
    loaded: Loaded,
    clock: &mut Clock,
) -> Result<SmallResult, Box<FailedJob>> {
    let Loaded { mut claimed, bytes: source } = loaded;
    claimed.job.begin();
    let bytes = Vec::with_capacity(source.len() / 2 + 128);
    let share = source.len() + limits::SMALL_FILE_BYTES as usize;
    let mut sink = Capped { bytes, share, more: None, budget, grown: false };
    let result = codecs.lend(&claimed.job.context.config, 0, clock, |transformer, _| {
        failpoint::hit("transform").map_err(codec::Error::from_io)?;
        let transformer = transformer?;
        transformer.feed(&source, &mut sink)?;
        transformer.finish(&mut sink)
    });
    match result {
        Ok(()) => {
            let Capped { bytes, more, .. } = sink;
            claimed.job.hold_more(more);
            let hashes = Hashes { source: hash(&source), output: hash(&bytes) };
            Ok(SmallResult::Transformed(Transformed { job: claimed.job, bytes, hashes }))
        }
        Err(_) if sink.grown => Ok(SmallResult::Grown(claimed)),
        Err(source) => {
            let path = claimed.job.source_path();
            Err(Box::new(claimed.job.fail(TransformError::Codec { path, source })))
        }
    }
}

/// A buffer that takes what it needs of the memory limit before it grows.
struct Capped<'a> {
    bytes: Vec<u8>,
    /// Bytes that the job's permits cover.
    share: usize,
    more: Option<OwnedSemaphorePermit>,
    budget: &'a Budget,
    grown: bool,
}

impl Capped<'_> {
    /// Takes the bytes for an output of this length; false where there are none, or it is too large.
    fn cover(&mut self, length: usize) -> bool {
        if length <= self.share {
            return true;
        }
        // A vector grows by doubling, so its capacity may be twice its length.
        let share = length.next_power_of_two().max(2 * self.share).min(GROWN_BYTES);
        let Some(more) = self.budget.try_more(share.saturating_sub(self.share)) else {
            return false;
        };
        match &mut self.more {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
        self.share = share;
        length <= share
    }
}

impl Sink for Capped<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        if !self.cover(self.bytes.len() + bytes.len()) {
            self.grown = true;
            return Err(Stopped);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

/// Transforms a large file chunk by chunk and returns the source's hash.
///
/// `chunks` ends where the reader stopped, for whatever reason: whether that was the source's end
/// is the reader's to say, so the output counts only if the reader does too. The chunks' buffers
/// go back to `read`; those of the output are taken from `written`.
pub fn stream(
    transformer: &mut Transformer,
    (chunks, read): (impl Iterator<Item = Vec<u8>>, &Spare),
    written: &Spare,
    put: impl FnMut(Vec<u8>) -> bool,
) -> Result<Hash, codec::Error> {
    let mut hasher = blake3::Hasher::new();
    let mut sink = Chunked { chunk: Vec::new(), spare: written, put };
    for chunk in chunks {
        failpoint::hit("transform").map_err(codec::Error::from_io)?;
        hasher.update(&chunk);
        transformer.feed(&chunk, &mut sink)?;
        read.give(chunk);
    }
    transformer.finish(&mut sink)?;
    sink.flush()?;
    Ok(*hasher.finalize().as_bytes())
}

/// Gathers output into chunks of [`limits::CHUNK_BYTES`].
struct Chunked<'a, P> {
    chunk: Vec<u8>,
    spare: &'a Spare,
    put: P,
}

impl<P: FnMut(Vec<u8>) -> bool> Chunked<'_, P> {
    fn flush(&mut self) -> Result<(), Stopped> {
        let mut next = self.spare.take();
        next.clear();
        let chunk = std::mem::replace(&mut self.chunk, next);
        if chunk.is_empty() || (self.put)(chunk) { Ok(()) } else { Err(Stopped) }
    }
}

impl<P: FnMut(Vec<u8>) -> bool> Sink for Chunked<'_, P> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= limits::CHUNK_BYTES { self.flush() } else { Ok(()) }
    }
}

fn hash(bytes: &[u8]) -> Hash {
    *blake3::hash(bytes).as_bytes()
}
