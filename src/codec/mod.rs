//! The codecs of a chain of transforms, driven synchronously on the caller's thread.
//!
//! The caller pushes bytes in, and the output goes to a [`Sink`]. One buffer lies between two
//! transforms, so the memory does not depend on the size of a file. A [`Transformer`] is reused for
//! file after file: creating a zstd context costs as much as compressing a small file.
//!
//! K1: the same input, fed in pieces of the same sizes, gives the same output: the output depends on no
//! clock and no machine, and worker threads do not change a byte.
//! K2: truncated input, damaged input and trailing data are errors, never a shorter output: all members
//! of a file are read, and every format except Brotli and LZ4's legacy frame has a checksum.
//! K3: the output of decompression is bounded, over the entire chain.

#[cfg(feature = "brotli")]
mod brotli;
mod decompress;
#[cfg(feature = "gzip")]
mod deflate;
mod formats;
#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
mod next;
mod stage;

use self::stage::TransformStage;
use crate::{
    policy::ExpansionLimits,
    transforms::{Chain, Format, Transform},
};

/// Receives the output of the last transform.
pub trait Sink {
    /// Receives the next bytes, or stops the transformation.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stopped>;
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// The sink stopped the transformation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// Failure of a transformation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the next transform stopped")]
    Stopped,
    #[error("`{transform}`: the input is damaged, or is not of this format")]
    Corrupt { transform: Transform, source: std::io::Error },
    #[error("`{transform}`: unknown data after {members} complete archives; hint: remove it")]
    Trailing { transform: Transform, members: u64, source: std::io::Error },
    #[error(
        "`{transform}`: the archive needs more memory than the {limit} bytes of a decoder; hint: raise `max_decoder_memory`, and `limits.memory` if it is the lower limit"
    )]
    Memory { transform: Transform, limit: u64 },
    #[error("`{transform}`: {feature} is not supported")]
    Unsupported { transform: Transform, feature: &'static str },
    #[error("`{transform}`: the input is truncated")]
    Truncated { transform: Transform },
    #[error("`{transform}`: cannot detect the format of the input (Brotli cannot be detected)")]
    Unknown { transform: Transform },
    #[error(
        "`{transform}`: the output exceeds {limit} bytes; hint: raise `max_output` if this is expected"
    )]
    OutputBytes { transform: Transform, limit: u64 },
    #[error(
        "`{transform}`: the output exceeds {limit} times the size of the file; hint: raise `max_ratio` if this is expected"
    )]
    Ratio { transform: Transform, limit: u64 },
    #[error("`{transform}` failed")]
    Encode { transform: Transform, source: std::io::Error },
    #[error("`{transform}`: this program was built without the feature `{}`", format.as_str())]
    NotCompiledIn { transform: Transform, format: Format },
    #[error("the codec failed")]
    Io(#[source] std::io::Error),
}

impl Error {
    /// Returns whether a retry with the same bytes fails in the same way.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Stopped | Self::Encode { .. } | Self::Io(_))
    }

    pub(crate) fn from_io(source: std::io::Error) -> Self {
        Self::Io(source)
    }
}

impl From<Stopped> for Error {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// A chain of codecs. Dropping it frees them; an unfinished file leaves nothing behind.
#[derive(Debug)]
pub struct Transformer {
    stages: Vec<TransformStage>,
    /// Bytes of the file fed so far.
    source_bytes: u64,
}

impl Transformer {
    /// Creates the codecs. `threads` is the number of worker threads for each transform that supports
    /// them (zstd, gzip). 0 runs on the caller's thread, for inputs of at most
    /// [`limits::SMALL_FILE_MAX_BYTES`](crate::limits::SMALL_FILE_MAX_BYTES). The output is the same for
    /// every number from 1 on; for zstd and xz it differs from that of 0.
    pub fn new(chain: &Chain, bounds: ExpansionLimits, threads: u32) -> Result<Self, Error> {
        let stage = |transform: &Transform| TransformStage::new(*transform, bounds, threads);
        let stages = chain.transforms().iter().map(stage).collect::<Result<_, _>>()?;
        Ok(Self { stages, source_bytes: 0 })
    }

    /// Starts a file, whether or not the previous one was finished.
    pub fn start(&mut self) {
        self.source_bytes = 0;
        for stage in &mut self.stages {
            stage.start();
        }
    }

    /// Feeds the next bytes of the file. After an error only [`Self::start`] is valid.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<(), Error> {
        self.source_bytes += bytes.len() as u64;
        for stage in &mut self.stages {
            stage.set_source_bytes(self.source_bytes);
        }
        push(&mut self.stages, bytes, sink)
    }

    /// Ends the file and sends the rest of the output.
    pub fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        let mut stages = &mut self.stages[..];
        while let Some((stage, rest)) = stages.split_first_mut() {
            stage.finish(&mut |bytes| push(rest, bytes, sink))?;
            stages = rest;
        }
        Ok(())
    }
}

/// Pushes bytes through these transforms into the sink.
fn push(stages: &mut [TransformStage], bytes: &[u8], sink: &mut dyn Sink) -> Result<(), Error> {
    match stages.split_first_mut() {
        None => Ok(sink.put(bytes)?),
        Some((stage, rest)) => stage.feed(bytes, &mut |bytes| push(rest, bytes, sink)),
    }
}

#[cfg(test)]
mod tests;
