//! A decompressing transform: the format, the members and the bounds.

use std::{io, os::unix::ffi::OsStrExt};

use async_compression::core::util::{PartialBuffer, WriteBuffer};

use super::{
    Decoder, Error, FailureCause, Format, Next, Transform,
    detect::{self, DecodeFailure},
    gzip, pass, without_extension,
};
use crate::{limits::TRANSFORM_BUFFER_BYTES, policy::ExpansionLimits, transforms::FileInfo};

/// Output that does not count for the ratio: a small file of zeros is no attack.
const RATIO_FREE_BYTES: u64 = 1024 * 1024;

pub struct Decompressor {
    /// `None` for `decompress` until the first bytes show it.
    format: Option<&'static Format>,
    decoder: Option<Decoder>,
    /// First bytes of the file, until they show the format.
    prefix: Vec<u8>,
    /// First bytes of the file, which may show what else it is.
    head: Vec<u8>,
    accepted: Accepted,
    other: Other,
    /// Remaining bytes of a skippable frame at the start of the file. `None` without such a frame.
    skip: Option<u64>,
    in_member: bool,
    members: u64,
    /// Whether only zeros may follow.
    is_padded: bool,
    bounds: Bounds,
    buffer: Box<[u8]>,
}

/// The files that a transform takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepted {
    OneFormat,
    AnyFormat,
    AnyFile,
}

/// What becomes of a file if it is of no known format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    Refused,
    /// It will be copied.
    Accepted,
    /// It is of none, and is copied.
    Copied,
}

/// The bounds of one file's output (K3).
struct Bounds {
    limits: ExpansionLimits,
    /// Bytes of the file before the chain's first transform, so that nested archives have the same bound.
    source_bytes: u64,
    bytes_out: u64,
}

impl Decompressor {
    /// Without a format, the first bytes of each file show it; `or_copy` copies the others.
    pub fn new(
        format: Option<&'static Format>,
        or_copy: bool,
        limits: ExpansionLimits,
    ) -> Result<Self, FailureCause> {
        let decoder = |format: &Format| Ok((format.codec()?.decoder)(limits.decoder_bytes));
        let decoder = format.map(decoder).transpose()?;
        Ok(Self {
            format,
            decoder,
            prefix: Vec::new(),
            head: Vec::new(),
            accepted: match (format, or_copy) {
                (Some(_), _) => Accepted::OneFormat,
                (None, false) => Accepted::AnyFormat,
                (None, true) => Accepted::AnyFile,
            },
            other: Other::Refused,
            skip: None,
            in_member: false,
            members: 0,
            is_padded: false,
            bounds: Bounds { limits, source_bytes: 0, bytes_out: 0 },
            buffer: vec![0; TRANSFORM_BUFFER_BYTES].into(),
        })
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
            let Some(skip) = detect::skippable_bytes(&self.prefix) else {
                return;
            };
            self.prefix.drain(..HEADER_BYTES);
            self.skip = Some(skip);
        }
    }

    /// Detects the format by the prefix, and decodes the prefix.
    fn begin(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        let prefix = std::mem::take(&mut self.prefix);
        let Some(format) = detect::detect(&prefix) else {
            // What was skipped is gone.
            if self.other == Other::Refused || self.skip.is_some() {
                let named = detect::undetected(&self.head);
                return Err(named.map_or(FailureCause::Unknown, FailureCause::Unsupported).into());
            }
            self.other = Other::Copied;
            return next(&prefix);
        };
        self.decoder = Some((format.codec()?.decoder)(self.bounds.limits.decoder_bytes));
        self.format = Some(format);
        self.decode(&prefix, next)
    }

    fn decode(&mut self, mut bytes: &[u8], next: &mut Next<'_>) -> Result<(), Error> {
        while !bytes.is_empty() {
            if !self.in_member {
                if self.is_padding(bytes) {
                    self.is_padded = true;
                    return Ok(());
                }
                if self.is_padded {
                    let source = io::Error::other("data follows the padding");
                    return Err(FailureCause::Corrupt(source).into());
                }
                let Some(decoder) = &mut self.decoder else {
                    return Ok(());
                };
                decoder.reinit().map_err(|source| self.bounds.classify(source))?;
                self.in_member = true;
            }
            let (before, members) = (self.bounds.bytes_out, self.members);
            let used = self.decode_member(bytes, next);
            let is_trailing = members > 0 && self.bounds.bytes_out == before;
            let used = used.map_err(|error| match error.into_own_cause() {
                Ok(FailureCause::Corrupt(source)) if is_trailing => {
                    FailureCause::Trailing { members, source }.into()
                }
                Ok(FailureCause::Corrupt(source)) if members == 0 => {
                    let named = detect::unsupported(&self.head);
                    named.map_or(FailureCause::Corrupt(source), FailureCause::Unsupported).into()
                }
                Ok(cause) => cause.into(),
                Err(error) => error,
            })?;
            bytes = bytes.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    /// Returns whether these bytes are zeros after a gzip member: gzip(1) pads files for tapes.
    fn is_padding(&self, bytes: &[u8]) -> bool {
        let after_one = self.members > 0 && self.format == Some(&gzip::FORMAT);
        after_one && bytes.iter().all(|byte| *byte == 0)
    }

    /// Decodes to the end of the member or of the bytes, and returns the number of used bytes.
    fn decode_member(&mut self, bytes: &[u8], next: &mut Next<'_>) -> Result<usize, Error> {
        let mut input = PartialBuffer::new(bytes);
        loop {
            let Self { decoder: Some(decoder), bounds, buffer, .. } = self else {
                return Ok(bytes.len());
            };
            let mut output = WriteBuffer::new_initialized(buffer);
            let had_input = !input.unwritten().is_empty();
            let is_end = match decoder.decode(&mut input, &mut output) {
                // The last output filled the buffer, and nothing is left: zlib reports an error then. Any
                // other one comes again with the next bytes, or at the end.
                Err(_) if !had_input && output.written().is_empty() => return Ok(bytes.len()),
                is_end => is_end.map_err(|source| bounds.classify(source))?,
            };
            let is_full = output.has_no_spare_space();
            bounds.pass(&output, next)?;
            if is_end {
                self.end_member(next)?;
                return Ok(input.written_len());
            }
            if input.unwritten().is_empty() && !is_full {
                return Ok(input.written_len());
            }
        }
    }

    /// Flushes the decoder. A decoder that cannot finish has truncated input.
    fn end_member(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        loop {
            let Self { decoder: Some(decoder), bounds, buffer, .. } = self else {
                return Ok(());
            };
            let mut output = WriteBuffer::new_initialized(buffer);
            let finished = decoder.finish(&mut output);
            let finished = finished.map_err(|source| bounds.classify(source))?;
            let is_empty = output.written().is_empty();
            bounds.pass(&output, next)?;
            if finished {
                break;
            }
            if is_empty {
                return Err(FailureCause::Truncated.into());
            }
        }
        self.in_member = false;
        self.members += 1;
        Ok(())
    }
}

impl Transform for Decompressor {
    fn start(&mut self, file: &FileInfo<'_>) {
        if self.accepted != Accepted::OneFormat {
            (self.format, self.decoder) = (None, None);
        }
        let takes_any = self.accepted == Accepted::AnyFile;
        let accepts = takes_any && without_extension(file.name().as_bytes()).is_none();
        self.other = if accepts { Other::Accepted } else { Other::Refused };
        self.prefix.clear();
        self.head.clear();
        self.skip = None;
        (self.in_member, self.members, self.is_padded) = (false, 0, false);
        (self.bounds.source_bytes, self.bounds.bytes_out) = (0, 0);
    }

    fn feed(&mut self, bytes: &[u8], next: &mut Next<'_>) -> Result<(), Error> {
        if self.other == Other::Copied {
            return next(bytes);
        }
        let missing = detect::MAGIC_BYTES.saturating_sub(self.head.len());
        self.head.extend(bytes.iter().take(missing));
        if self.decoder.is_some() {
            return self.decode(bytes, next);
        }
        self.prefix.extend_from_slice(bytes);
        self.skip_frames();
        if self.prefix.len() < detect::MAGIC_BYTES {
            return Ok(());
        }
        self.begin(next)
    }

    fn set_source_bytes(&mut self, bytes: u64) {
        self.bounds.source_bytes = bytes;
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        if self.decoder.is_none() && self.other != Other::Copied {
            if self.prefix.is_empty() {
                // An empty file of no format is a copy of itself.
                let is_copy = self.other == Other::Accepted && self.skip.is_none();
                let is_complete = self.skip == Some(0) || is_copy;
                return if is_complete { Ok(()) } else { Err(FailureCause::Truncated.into()) };
            }
            self.begin(next)?;
        }
        if self.in_member {
            self.end_member(next)?;
        }
        if self.other == Other::Copied {
            return Ok(());
        }
        if self.members == 0 { Err(FailureCause::Truncated.into()) } else { Ok(()) }
    }
}

impl Bounds {
    /// Checks the bounds and passes the output to the next transform.
    fn pass(&mut self, output: &WriteBuffer<'_>, next: &mut Next<'_>) -> Result<(), Error> {
        self.bytes_out += output.written_len() as u64;
        let ExpansionLimits { output_bytes, ratio, .. } = self.limits;
        if self.bytes_out > output_bytes {
            return Err(FailureCause::OutputBytes { limit: output_bytes }.into());
        }
        let allowed = self.source_bytes.saturating_mul(ratio).saturating_add(RATIO_FREE_BYTES);
        if self.bytes_out > allowed {
            return Err(FailureCause::Ratio { limit: ratio }.into());
        }
        pass(output, next)
    }

    /// Classifies a decoder's error.
    fn classify(&self, source: io::Error) -> Error {
        let cause = match detect::classify(&source) {
            DecodeFailure::Truncated => FailureCause::Truncated,
            DecodeFailure::Memory => FailureCause::Memory { limit: self.limits.decoder_bytes },
            DecodeFailure::Unsupported(feature) => FailureCause::Unsupported(feature),
            DecodeFailure::Damaged => FailureCause::Corrupt(source),
        };
        cause.into()
    }
}
