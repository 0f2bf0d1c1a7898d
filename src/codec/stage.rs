//! One transform of a chain, with its state and its one output buffer.

use async_compression::core::util::{PartialBuffer, WriteBuffer};

use super::{
    Error,
    decompress::Decompressor,
    formats::{self, Encoder},
    next::{Next, pass},
};
use crate::{
    limits,
    policy::ExpansionLimits,
    transforms::{Format, Transform},
};

/// One transform of a chain. Dropping it frees its codec.
pub struct TransformStage {
    transform: Transform,
    codec: Codec,
    buffer: Box<[u8]>,
}

impl std::fmt::Debug for TransformStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransformStage").field("transform", &self.transform).finish_non_exhaustive()
    }
}

enum Codec {
    Compress(Compressor),
    #[cfg(feature = "gzip")]
    Gzip(super::gzip::Gzip),
    Decompress(Decompressor),
    Copy,
}

struct Compressor {
    encoder: Encoder,
    format: Format,
    level: i32,
    threads: u32,
    /// Whether the encoder can start a new file.
    is_fresh: bool,
}

impl TransformStage {
    pub fn new(transform: Transform, bounds: ExpansionLimits, threads: u32) -> Result<Self, Error> {
        let codec = match transform {
            #[cfg(feature = "gzip")]
            Transform::Compress { format: Format::Gzip, level, members } => {
                Codec::Gzip(super::gzip::Gzip::new(transform, (level, members), threads)?)
            }
            Transform::Compress { format, level, .. } => Codec::Compress(Compressor {
                encoder: formats::encoder(transform, format, level, threads)?,
                format,
                level,
                threads,
                is_fresh: true,
            }),
            Transform::Decompress(format) => {
                let decoder = formats::decoder(transform, format, bounds.decoder_bytes)?;
                Codec::Decompress(Decompressor::new(Some((format, decoder)), bounds))
            }
            Transform::Copy => Codec::Copy,
            Transform::DecompressAny => Codec::Decompress(Decompressor::new(None, bounds)),
        };
        Ok(Self { transform, codec, buffer: vec![0; limits::STEP_BUFFER_BYTES].into() })
    }

    pub fn start(&mut self) {
        match &mut self.codec {
            Codec::Compress(compressor) => compressor.start(self.transform),
            #[cfg(feature = "gzip")]
            Codec::Gzip(gzip) => gzip.start(),
            Codec::Decompress(decompressor) => decompressor.start(),
            Codec::Copy => {}
        }
    }

    /// Sets the number of bytes fed to the chain so far, to which K3's ratio refers.
    pub const fn set_source_bytes(&mut self, bytes: u64) {
        if let Codec::Decompress(decompressor) = &mut self.codec {
            decompressor.set_source_bytes(bytes);
        }
    }

    pub fn feed(&mut self, bytes: &[u8], next: &mut Next<'_>) -> Result<(), Error> {
        let Self { transform, codec, buffer } = self;
        match codec {
            Codec::Compress(compressor) => compressor.feed(*transform, bytes, buffer, next),
            #[cfg(feature = "gzip")]
            Codec::Gzip(gzip) => gzip.feed(bytes, next),
            Codec::Decompress(decompressor) => decompressor.feed(*transform, bytes, buffer, next),
            Codec::Copy => next(bytes),
        }
    }

    pub fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        let Self { transform, codec, buffer } = self;
        match codec {
            Codec::Compress(compressor) => compressor.finish(*transform, buffer, next),
            #[cfg(feature = "gzip")]
            Codec::Gzip(gzip) => gzip.finish(next),
            Codec::Decompress(decompressor) => decompressor.finish(*transform, buffer, next),
            Codec::Copy => Ok(()),
        }
    }
}

impl Compressor {
    /// Prepares for a new file. A zstd encoder continues with a new frame after a finished one; other
    /// encoders, and an unfinished one, are created again.
    fn start(&mut self, transform: Transform) {
        if self.is_fresh {
            return;
        }
        // Creating it with the same parameters succeeded before.
        if let Ok(encoder) = formats::encoder(transform, self.format, self.level, self.threads) {
            self.encoder = encoder;
        }
        self.is_fresh = true;
    }

    fn feed(
        &mut self,
        transform: Transform,
        bytes: &[u8],
        buffer: &mut [u8],
        next: &mut Next<'_>,
    ) -> Result<(), Error> {
        self.is_fresh = false;
        let mut input = PartialBuffer::new(bytes);
        while !input.unwritten().is_empty() {
            let mut output = WriteBuffer::new_initialized(buffer);
            let encoded = self.encoder.encode(&mut input, &mut output);
            encoded.map_err(|source| Error::Encode { transform, source })?;
            pass(&output, next)?;
        }
        Ok(())
    }

    fn finish(
        &mut self,
        transform: Transform,
        buffer: &mut [u8],
        next: &mut Next<'_>,
    ) -> Result<(), Error> {
        self.is_fresh = false;
        loop {
            let mut output = WriteBuffer::new_initialized(buffer);
            let finished = self.encoder.finish(&mut output);
            let finished = finished.map_err(|source| Error::Encode { transform, source })?;
            pass(&output, next)?;
            if finished {
                break;
            }
        }
        self.is_fresh = self.format == Format::Zstd;
        Ok(())
    }
}
