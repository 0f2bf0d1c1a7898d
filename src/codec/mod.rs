//! The codecs of a chain of transforms, driven synchronously on the caller's thread.
//!
//! Bytes are pushed in and come out at a [`Sink`]; between two transforms there is one buffer, so the
//! memory does not depend on the size of a file. A [`Transformer`] is made once and used for one
//! file after another: making a zstd context anew costs as much as compressing a small file.
//!
//! K1: the same input, fed in pieces of the same sizes, gives the same output: nothing of a clock
//! or of the machine goes in, and worker threads do not change a byte.
//! K2: input that ends early, is damaged or is followed by something else is an error, never a
//! shorter output: all members of a file are read, and every format but Brotli and LZ4's
//! legacy frame carries a checksum.
//! K3: what comes out of decompression is bounded, over the whole chain.

#[cfg(feature = "brotli")]
mod brotli;
mod decompress;
#[cfg(feature = "gzip")]
mod deflate;
mod formats;
#[cfg(feature = "gzip")]
mod gzip;
mod link;
#[cfg(feature = "lz4")]
mod lz4;
mod next;

use self::link::TransformStage;
use crate::{
    policy::ExpansionLimits,
    transforms::{Chain, Format, Transform},
};

/// Takes what comes out of the last transform.
pub trait Sink {
    /// Takes the next bytes, or wants no more.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stopped>;
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// The sink wants no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// Why a transformation ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the next transform wants no more")]
    Stopped,
    #[error("`{transform}`: the input is damaged, or is not of this format")]
    Corrupt { transform: Transform, source: std::io::Error },
    #[error(
        "`{transform}`: {members} whole archives are followed by something that is none: remove what follows them"
    )]
    Trailing { transform: Transform, members: u64, source: std::io::Error },
    #[error(
        "`{transform}`: the archive is made for more memory than the {limit} bytes that a decoder may use: raise `max_decoder_memory`, and `limits.memory` where it leaves less"
    )]
    Memory { transform: Transform, limit: u64 },
    #[error("`{transform}`: {what} is not supported")]
    Unsupported { transform: Transform, what: &'static str },
    #[error("`{transform}`: the input ends in the middle")]
    Truncated { transform: Transform },
    #[error("`{transform}`: cannot detect the format of the input (Brotli cannot be detected)")]
    Unknown { transform: Transform },
    #[error(
        "`{transform}`: more than {limit} bytes would come out: raise `max_output` if this is right"
    )]
    OutputBytes { transform: Transform, limit: u64 },
    #[error(
        "`{transform}`: more than {limit} times its size would come out: raise `max_ratio` if this is right"
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
    /// Whether another try on the same bytes would end the same way.
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

/// A chain of codecs. Dropping it frees them; a file that was not finished leaves nothing behind.
#[derive(Debug)]
pub struct Transformer {
    links: Vec<TransformStage>,
    /// Of the file so far, before the first link.
    source_bytes: u64,
}

impl Transformer {
    /// `threads` are worker threads for each transform that can use them (zstd, gzip); 0 works on the
    /// caller's, and is for inputs of at most [`limits::SMALL_FILE_MAX_BYTES`](crate::limits::SMALL_FILE_MAX_BYTES).
    /// The output is the same for every count from 1 on, but zstd's and xz's are not the same as for 0.
    pub fn new(chain: &Chain, bounds: ExpansionLimits, threads: u32) -> Result<Self, Error> {
        let link = |transform: &Transform| TransformStage::new(*transform, bounds, threads);
        let links = chain.transforms().iter().map(link).collect::<Result<_, _>>()?;
        Ok(Self { links, source_bytes: 0 })
    }

    /// Begins a file, whatever became of the one before it.
    pub fn start(&mut self) {
        self.source_bytes = 0;
        for link in &mut self.links {
            link.start();
        }
    }

    /// Takes the next bytes of the file in. After an error only [`Self::start`] makes sense.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<(), Error> {
        self.source_bytes += bytes.len() as u64;
        for link in &mut self.links {
            link.source_grew(self.source_bytes);
        }
        push(&mut self.links, bytes, sink)
    }

    /// The file is at its end: everything that is left comes out.
    pub fn finish(&mut self, sink: &mut dyn Sink) -> Result<(), Error> {
        let mut links = &mut self.links[..];
        while let Some((link, rest)) = links.split_first_mut() {
            link.finish(&mut |bytes| push(rest, bytes, sink))?;
            links = rest;
        }
        Ok(())
    }
}

/// Pushes bytes through these links into the sink.
fn push(links: &mut [TransformStage], bytes: &[u8], sink: &mut dyn Sink) -> Result<(), Error> {
    match links.split_first_mut() {
        None => Ok(sink.put(bytes)?),
        Some((link, rest)) => link.feed(bytes, &mut |bytes| push(rest, bytes, sink)),
    }
}

#[cfg(test)]
mod tests;
