//! transform: the chain of steps, on bytes. Sees no path, no file and no clock.
//!
//! Owns: the codecs' state, one per thread and pipeline, used again for the next file.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use crate::{
    codec::{self, Sink, Stopped, Transformer},
    failpoint,
    ledger::Hash,
    limits,
    pipeline::{
        context::Context,
        failure::TransformError,
        job::{Claimed, Failed, Hashes, Loaded, Transformed},
        spare::Spare,
    },
};

/// The output of a small file may be this large in memory; a larger one is streamed instead.
const GROWN_BYTES: usize = 8 * limits::WHOLE_BYTES;

/// The transformers of one thread: one for each pipeline, with its count of codec threads. Those of
/// pipelines that are no more go when another is made.
#[derive(Debug, Default)]
pub struct Transformers(HashMap<usize, (u32, Transformer, Weak<Context>)>);

impl Transformers {
    /// The one for this pipeline, ready for a new file. `threads` as of [`Transformer::new`]; one
    /// with another count is dropped first, so that its memory is not held beside the new one's.
    pub fn start(
        &mut self,
        context: &Arc<Context>,
        threads: u32,
    ) -> Result<&mut Transformer, codec::Error> {
        use std::collections::hash_map::Entry;
        if self.0.get(&context.index).is_some_and(|(count, ..)| *count != threads) {
            self.0.remove(&context.index);
        }
        if !self.0.contains_key(&context.index) {
            self.0.retain(|_, (_, _, of)| of.strong_count() > 0);
        }
        let (_, transformer, _) = match self.0.entry(context.index) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let config = &context.config;
                let made = Transformer::new(&config.steps, config.bounds, threads)?;
                entry.insert((threads, made, Arc::downgrade(context)))
            }
        };
        transformer.start();
        Ok(transformer)
    }
}

/// What became of a small file.
#[derive(Debug)]
pub enum Whole {
    Transformed(Transformed),
    /// Its output is too large for one buffer: it goes through the lane of the large ones.
    Grown(Claimed),
}

/// Transforms a small file in memory.
pub fn whole(transformers: &mut Transformers, loaded: Loaded) -> Result<Whole, Box<Failed>> {
    let Loaded { claimed, bytes: source } = loaded;
    let mut sink = Capped { bytes: Vec::with_capacity(source.len() / 2 + 128), grown: false };
    let result = failpoint::hit("transform").map_err(codec::Error::from_io).and_then(|()| {
        let transformer = transformers.start(&claimed.job.context, 0)?;
        transformer.feed(&source, &mut sink)?;
        transformer.finish(&mut sink)
    });
    match result {
        Ok(()) => {
            let hashes = Hashes { source: hash(&source), output: hash(&sink.bytes) };
            Ok(Whole::Transformed(Transformed { job: claimed.job, bytes: sink.bytes, hashes }))
        }
        Err(_) if sink.grown => Ok(Whole::Grown(claimed)),
        Err(source) => {
            let path = claimed.job.source_path();
            Err(Box::new(claimed.job.fail(TransformError::Codec { path, source })))
        }
    }
}

struct Capped {
    bytes: Vec<u8>,
    grown: bool,
}

impl Sink for Capped {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        if self.bytes.len() + bytes.len() > GROWN_BYTES {
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
