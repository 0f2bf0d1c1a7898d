//! The state of a transform that decompresses: what the format is, the members, and the bounds.

use async_compression::core::util::{PartialBuffer, WriteBuffer};

use super::{
    Error,
    formats::{self, Decoder, Fault},
    next::{Next, pass},
};
use crate::{
    policy::ExpansionLimits,
    transforms::{Format, Transform},
};

/// Output up to this is not held against the ratio: a small file of zeros is no attack.
const RATIO_FROM_BYTES: u64 = 1024 * 1024;

pub struct Decompressor {
    /// None for `decompress` until the first bytes have told.
    format: Option<Format>,
    decoder: Option<Decoder>,
    /// The first bytes, until they tell the format.
    first: Vec<u8>,
    sniffs: bool,
    /// Bytes that are still to come of a skippable frame before the first that tells the format.
    /// `None` where there was no such frame.
    skip: Option<u64>,
    in_member: bool,
    members: u64,
    /// Only zeros may follow.
    padded: bool,
    bounds: ExpansionLimits,
    /// Of the file, before the chain's first transform: an archive in an archive gains nothing.
    source_bytes: u64,
    bytes_out: u64,
}

impl Decompressor {
    pub fn new(known: Option<(Format, Decoder)>, bounds: ExpansionLimits) -> Self {
        let sniffs = known.is_none();
        let (format, decoder) = known.unzip();
        Self {
            format,
            decoder,
            first: Vec::new(),
            sniffs,
            skip: None,
            in_member: false,
            members: 0,
            padded: false,
            bounds,
            source_bytes: 0,
            bytes_out: 0,
        }
    }

    pub fn start(&mut self) {
        if self.sniffs {
            (self.format, self.decoder) = (None, None);
        }
        self.first.clear();
        self.skip = None;
        (self.in_member, self.members, self.padded) = (false, 0, false);
        (self.source_bytes, self.bytes_out) = (0, 0);
    }

    pub fn feed(
        &mut self,
        transform: Transform,
        bytes: &[u8],
        buffer: &mut [u8],
        next: &mut Next<'_>,
    ) -> Result<(), Error> {
        if self.decoder.is_some() {
            return self.decode(transform, bytes, buffer, next);
        }
        self.first.extend_from_slice(bytes);
        self.skip_frames();
        if self.first.len() < formats::MAGIC_BYTES {
            return Ok(());
        }
        self.begin(transform, buffer, next)
    }

    /// So many bytes of the file were taken in by the whole chain.
    pub const fn source_grew(&mut self, bytes: u64) {
        self.source_bytes = bytes;
    }

    /// Drops the skippable frames that `first` begins with, as far as they are there.
    fn skip_frames(&mut self) {
        const HEADER_BYTES: usize = 8;
        loop {
            if let Some(left) = &mut self.skip {
                let there = usize::try_from(*left).unwrap_or(usize::MAX).min(self.first.len());
                self.first.drain(..there);
                *left -= there as u64;
                if *left > 0 {
                    return;
                }
            }
            let Some(skip) = formats::skippable(&self.first) else {
                return;
            };
            self.first.drain(..HEADER_BYTES);
            self.skip = Some(skip);
        }
    }

    /// The first bytes are there: they tell the format, and are decoded.
    fn begin(
        &mut self,
        transform: Transform,
        buffer: &mut [u8],
        next: &mut Next<'_>,
    ) -> Result<(), Error> {
        let first = std::mem::take(&mut self.first);
        let format = formats::sniff(&first).ok_or(Error::Unknown { transform })?;
        self.decoder = Some(formats::decoder(transform, format, self.bounds.decoder_bytes)?);
        self.format = Some(format);
        self.decode(transform, &first, buffer, next)
    }

    fn decode(
        &mut self,
        transform: Transform,
        mut bytes: &[u8],
        buffer: &mut [u8],
        next: &mut Next<'_>,
    ) -> Result<(), Error> {
        while !bytes.is_empty() {
            if !self.in_member {
                if self.is_padding(bytes) {
                    self.padded = true;
                    return Ok(());
                }
                if self.padded {
                    let source = std::io::Error::other("something follows the padding");
                    return Err(Error::Corrupt { transform, source });
                }
                let Some(decoder) = &mut self.decoder else {
                    return Ok(());
                };
                decoder.reinit().map_err(|source| classify(transform, self.bounds, source))?;
                self.in_member = true;
            }
            let (before, members) = (self.bytes_out, self.members);
            let used =
                self.decode_member(transform, bytes, buffer, next).map_err(
                    |error| match error {
                        Error::Corrupt { source, .. }
                            if members > 0 && self.bytes_out == before =>
                        {
                            Error::Trailing { transform, members, source }
                        }
                        error => error,
                    },
                )?;
            bytes = bytes.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    /// gzip(1) pads with zeros for tapes, and takes them after the last member.
    fn is_padding(&self, bytes: &[u8]) -> bool {
        let after_one = self.members > 0 && self.format == Some(Format::Gzip);
        after_one && bytes.iter().all(|byte| *byte == 0)
    }

    /// Decodes to the end of the member or of the bytes. Says how many bytes it used.
    fn decode_member(
        &mut self,
        transform: Transform,
        bytes: &[u8],
        buffer: &mut [u8],
        next: &mut Next<'_>,
    ) -> Result<usize, Error> {
        let mut input = PartialBuffer::new(bytes);
        loop {
            let Some(decoder) = &mut self.decoder else {
                return Ok(bytes.len());
            };
            let mut output = WriteBuffer::new_initialized(buffer);
            let ended = decoder.decode(&mut input, &mut output);
            let ended = ended.map_err(|source| classify(transform, self.bounds, source))?;
            let full = output.has_no_spare_space();
            self.pass(transform, &output, next)?;
            if ended {
                self.end_member(transform, buffer, next)?;
                return Ok(input.written_len());
            }
            if input.unwritten().is_empty() && !full {
                return Ok(input.written_len());
            }
        }
    }

    /// Takes out what the decoder holds back. An end that it does not agree to is a truncation.
    fn end_member(
        &mut self,
        transform: Transform,
        buffer: &mut [u8],
        next: &mut Next<'_>,
    ) -> Result<(), Error> {
        loop {
            let Some(decoder) = &mut self.decoder else {
                return Ok(());
            };
            let mut output = WriteBuffer::new_initialized(buffer);
            let finished = decoder.finish(&mut output);
            let finished = finished.map_err(|source| classify(transform, self.bounds, source))?;
            let nothing = output.written().is_empty();
            self.pass(transform, &output, next)?;
            if finished {
                break;
            }
            if nothing {
                return Err(Error::Truncated { transform });
            }
        }
        self.in_member = false;
        self.members += 1;
        Ok(())
    }

    pub fn finish(
        &mut self,
        transform: Transform,
        buffer: &mut [u8],
        next: &mut Next<'_>,
    ) -> Result<(), Error> {
        if self.decoder.is_none() {
            if self.first.is_empty() {
                let whole = self.skip == Some(0);
                return if whole { Ok(()) } else { Err(Error::Truncated { transform }) };
            }
            self.begin(transform, buffer, next)?;
        }
        if self.in_member {
            self.end_member(transform, buffer, next)?;
        }
        if self.members == 0 { Err(Error::Truncated { transform }) } else { Ok(()) }
    }

    /// K3, then on to the next link.
    fn pass(
        &mut self,
        transform: Transform,
        output: &WriteBuffer<'_>,
        next: &mut Next<'_>,
    ) -> Result<(), Error> {
        self.bytes_out += output.written_len() as u64;
        let ExpansionLimits { output_bytes, ratio, .. } = self.bounds;
        if self.bytes_out > output_bytes {
            return Err(Error::OutputBytes { transform, limit: output_bytes });
        }
        let allowed = self.source_bytes.saturating_mul(ratio).saturating_add(RATIO_FROM_BYTES);
        if self.bytes_out > allowed {
            return Err(Error::Ratio { transform, limit: ratio });
        }
        pass(output, next)
    }
}

fn classify(transform: Transform, bounds: ExpansionLimits, source: std::io::Error) -> Error {
    match formats::fault(&source) {
        Fault::EndedEarly => Error::Truncated { transform },
        Fault::Memory => Error::Memory { transform, limit: bounds.decoder_bytes },
        Fault::Unsupported(what) => Error::Unsupported { transform, what },
        Fault::Damaged => Error::Corrupt { transform, source },
    }
}
