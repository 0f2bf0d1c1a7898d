//! A decompressing transform: the format, the members and the bounds.

use async_compression::core::util::{PartialBuffer, WriteBuffer};

use super::{
    Error,
    formats::{self, DecodeFailure, Decoder},
    next::{Next, pass},
};
use crate::{
    policy::ExpansionLimits,
    transforms::{Format, Transform},
};

/// Output that does not count for the ratio: a small file of zeros is no attack.
const RATIO_FREE_BYTES: u64 = 1024 * 1024;

pub struct Decompressor {
    /// `None` for `decompress` until the first bytes show it.
    format: Option<Format>,
    decoder: Option<Decoder>,
    /// First bytes of the file, until they show the format.
    prefix: Vec<u8>,
    detects_format: bool,
    /// Remaining bytes of a skippable frame at the start of the file. `None` without such a frame.
    skip: Option<u64>,
    in_member: bool,
    members: u64,
    /// Whether only zeros may follow.
    is_padded: bool,
    bounds: ExpansionLimits,
    /// Bytes of the file before the chain's first transform, so that nested archives have the same bound.
    source_bytes: u64,
    bytes_out: u64,
}

impl Decompressor {
    pub fn new(format_and_decoder: Option<(Format, Decoder)>, bounds: ExpansionLimits) -> Self {
        let detects_format = format_and_decoder.is_none();
        let (format, decoder) = format_and_decoder.unzip();
        Self {
            format,
            decoder,
            prefix: Vec::new(),
            detects_format,
            skip: None,
            in_member: false,
            members: 0,
            is_padded: false,
            bounds,
            source_bytes: 0,
            bytes_out: 0,
        }
    }

    pub fn start(&mut self) {
        if self.detects_format {
            (self.format, self.decoder) = (None, None);
        }
        self.prefix.clear();
        self.skip = None;
        (self.in_member, self.members, self.is_padded) = (false, 0, false);
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
        self.prefix.extend_from_slice(bytes);
        self.skip_frames();
        if self.prefix.len() < formats::MAGIC_BYTES {
            return Ok(());
        }
        self.begin(transform, buffer, next)
    }

    /// Sets the number of bytes fed to the chain so far.
    pub const fn set_source_bytes(&mut self, bytes: u64) {
        self.source_bytes = bytes;
    }

    /// Drops skippable frames, or parts of them, from the start of the prefix.
    fn skip_frames(&mut self) {
        const HEADER_BYTES: usize = 8;
        loop {
            if let Some(remaining) = &mut self.skip {
                let count =
                    usize::try_from(*remaining).unwrap_or(usize::MAX).min(self.prefix.len());
                self.prefix.drain(..count);
                *remaining -= count as u64;
                if *remaining > 0 {
                    return;
                }
            }
            let Some(skip) = formats::skippable_bytes(&self.prefix) else {
                return;
            };
            self.prefix.drain(..HEADER_BYTES);
            self.skip = Some(skip);
        }
    }

    /// Detects the format by the prefix, and decodes the prefix.
    fn begin(
        &mut self,
        transform: Transform,
        buffer: &mut [u8],
        next: &mut Next<'_>,
    ) -> Result<(), Error> {
        let prefix = std::mem::take(&mut self.prefix);
        let format = formats::detect(&prefix).ok_or(Error::Unknown { transform })?;
        self.decoder = Some(formats::decoder(transform, format, self.bounds.decoder_bytes)?);
        self.format = Some(format);
        self.decode(transform, &prefix, buffer, next)
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
                    self.is_padded = true;
                    return Ok(());
                }
                if self.is_padded {
                    let source = std::io::Error::other("data follows the padding");
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

    /// Returns whether these bytes are zeros after a gzip member: gzip(1) pads files for tapes.
    fn is_padding(&self, bytes: &[u8]) -> bool {
        let after_one = self.members > 0 && self.format == Some(Format::Gzip);
        after_one && bytes.iter().all(|byte| *byte == 0)
    }

    /// Decodes to the end of the member or of the bytes, and returns the number of used bytes.
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
            let is_end = decoder.decode(&mut input, &mut output);
            let is_end = is_end.map_err(|source| classify(transform, self.bounds, source))?;
            let is_full = output.has_no_spare_space();
            self.pass(transform, &output, next)?;
            if is_end {
                self.end_member(transform, buffer, next)?;
                return Ok(input.written_len());
            }
            if input.unwritten().is_empty() && !is_full {
                return Ok(input.written_len());
            }
        }
    }

    /// Flushes the decoder. A decoder that cannot finish has truncated input.
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
            let is_empty = output.written().is_empty();
            self.pass(transform, &output, next)?;
            if finished {
                break;
            }
            if is_empty {
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
            if self.prefix.is_empty() {
                let is_complete = self.skip == Some(0);
                return if is_complete { Ok(()) } else { Err(Error::Truncated { transform }) };
            }
            self.begin(transform, buffer, next)?;
        }
        if self.in_member {
            self.end_member(transform, buffer, next)?;
        }
        if self.members == 0 { Err(Error::Truncated { transform }) } else { Ok(()) }
    }

    /// Checks the bounds (K3) and passes the output to the next transform.
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
        let allowed = self.source_bytes.saturating_mul(ratio).saturating_add(RATIO_FREE_BYTES);
        if self.bytes_out > allowed {
            return Err(Error::Ratio { transform, limit: ratio });
        }
        pass(output, next)
    }
}

fn classify(transform: Transform, bounds: ExpansionLimits, source: std::io::Error) -> Error {
    match formats::classify(&source) {
        DecodeFailure::Truncated => Error::Truncated { transform },
        DecodeFailure::Memory => Error::Memory { transform, limit: bounds.decoder_bytes },
        DecodeFailure::Unsupported(feature) => Error::Unsupported { transform, feature },
        DecodeFailure::Damaged => Error::Corrupt { transform, source },
    }
}
