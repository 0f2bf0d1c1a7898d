//! One step of a chain, with its state and its one output buffer.

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
    steps::{Format, Step},
};

pub struct TransformStage {
    step: Step,
    codec: Codec,
    buffer: Box<[u8]>,
}

impl std::fmt::Debug for TransformStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("step", &self.step).finish_non_exhaustive()
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
    /// Whether the encoder is where a new file can begin.
    fresh: bool,
}

impl TransformStage {
    pub fn new(step: Step, bounds: ExpansionLimits, threads: u32) -> Result<Self, Error> {
        let codec = match step {
            #[cfg(feature = "gzip")]
            Step::Compress { format: Format::Gzip, level, members } => {
                Codec::Gzip(super::gzip::Gzip::new(step, (level, members), threads)?)
            }
            Step::Compress { format, level, .. } => Codec::Compress(Compressor {
                encoder: formats::encoder(step, format, level, threads)?,
                format,
                level,
                threads,
                fresh: true,
            }),
            Step::Decompress(format) => {
                let decoder = formats::decoder(step, format, bounds.decoder_bytes)?;
                Codec::Decompress(Decompressor::new(Some((format, decoder)), bounds))
            }
            Step::Copy => Codec::Copy,
            Step::DecompressAny => Codec::Decompress(Decompressor::new(None, bounds)),
        };
        Ok(Self { step, codec, buffer: vec![0; limits::STEP_BUFFER_BYTES].into() })
    }

    pub fn start(&mut self) {
        match &mut self.codec {
            Codec::Compress(compressor) => compressor.start(self.step),
            #[cfg(feature = "gzip")]
            Codec::Gzip(gzip) => gzip.start(),
            Codec::Decompress(decompressor) => decompressor.start(),
            Codec::Copy => {}
        }
    }

    /// So many bytes of the file were taken in by the whole chain: what K3's ratio is of.
    pub const fn source_grew(&mut self, bytes: u64) {
        if let Codec::Decompress(decompressor) = &mut self.codec {
            decompressor.source_grew(bytes);
        }
    }

    pub fn feed(&mut self, bytes: &[u8], next: &mut Next<'_>) -> Result<(), Error> {
        let Self { step, codec, buffer } = self;
        match codec {
            Codec::Compress(compressor) => compressor.feed(*step, bytes, buffer, next),
            #[cfg(feature = "gzip")]
            Codec::Gzip(gzip) => gzip.feed(bytes, next),
            Codec::Decompress(decompressor) => decompressor.feed(*step, bytes, buffer, next),
            Codec::Copy => next(bytes),
        }
    }

    pub fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        let Self { step, codec, buffer } = self;
        match codec {
            Codec::Compress(compressor) => compressor.finish(*step, buffer, next),
            #[cfg(feature = "gzip")]
            Codec::Gzip(gzip) => gzip.finish(next),
            Codec::Decompress(decompressor) => decompressor.finish(*step, buffer, next),
            Codec::Copy => Ok(()),
        }
    }
}

impl Compressor {
    /// zstd begins a new frame after a finished one; the others, and one that was left in the
    /// middle, are made anew.
    fn start(&mut self, step: Step) {
        if self.fresh {
            return;
        }
        // It could be made before, with the same settings.
        if let Ok(encoder) = formats::encoder(step, self.format, self.level, self.threads) {
            self.encoder = encoder;
        }
        self.fresh = true;
    }

    fn feed(
        &mut self,
        step: Step,
        bytes: &[u8],
        buffer: &mut [u8],
        next: &mut Next<'_>,
    ) -> Result<(), Error> {
        self.fresh = false;
        let mut input = PartialBuffer::new(bytes);
        while !input.unwritten().is_empty() {
            let mut output = WriteBuffer::new_initialized(buffer);
            let encoded = self.encoder.encode(&mut input, &mut output);
            encoded.map_err(|source| Error::Encode { step, source })?;
            pass(&output, next)?;
        }
        Ok(())
    }

    fn finish(&mut self, step: Step, buffer: &mut [u8], next: &mut Next<'_>) -> Result<(), Error> {
        self.fresh = false;
        loop {
            let mut output = WriteBuffer::new_initialized(buffer);
            let finished = self.encoder.finish(&mut output);
            let finished = finished.map_err(|source| Error::Encode { step, source })?;
            pass(&output, next)?;
            if finished {
                break;
            }
        }
        self.fresh = self.format == Format::Zstd;
        Ok(())
    }
}
