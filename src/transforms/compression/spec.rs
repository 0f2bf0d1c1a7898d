//! The two transforms of a format, as configured.

use std::{fmt, sync::Arc};

use super::{
    FORMATS, Format, MEMBERS, OR_COPY, Settings, decompress::Decompressor, without_extension,
};
use crate::{
    limits::TRANSFORM_BUFFER_BYTES,
    policy::ExpansionLimits,
    transforms::{Effect, FailureCause, Spec, Transform},
};

#[derive(Debug)]
pub struct Compress {
    pub format: &'static Format,
    pub level: i32,
    pub members: bool,
}

impl fmt::Display for Compress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.format.name, self.level)?;
        if self.members { write!(f, ":{MEMBERS}") } else { Ok(()) }
    }
}

impl Spec for Compress {
    fn effect(&self) -> Effect {
        Effect::Compresses(self.format)
    }

    fn output_name(&self, mut name: Vec<u8>) -> Vec<u8> {
        name.push(b'.');
        name.extend_from_slice(self.format.extension.as_bytes());
        name
    }

    fn inverse(&self) -> Option<Arc<dyn Spec>> {
        Some(Arc::new(Decompress { format: Some(self.format), or_copy: false }))
    }

    fn memory_bytes(&self, threads: u32, _: u64) -> u64 {
        (self.format.encoder_bytes)(self.level, threads) + TRANSFORM_BUFFER_BYTES as u64
    }

    fn start(&self, _: ExpansionLimits, threads: u32) -> Result<Box<dyn Transform>, FailureCause> {
        let Self { format, level, members } = *self;
        (format.codec()?.encoder)(Settings { level, members, threads })
    }
}

#[derive(Debug)]
pub struct Decompress {
    /// `None` detects the format.
    pub format: Option<&'static Format>,
    /// Whether a file of no known format, by its content and its name, is left as it is.
    pub or_copy: bool,
}

impl fmt::Display for Decompress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.format.map_or("decompress", |format| format.inverse))?;
        if self.or_copy { write!(f, ":{OR_COPY}") } else { Ok(()) }
    }
}

impl Spec for Decompress {
    fn effect(&self) -> Effect {
        Effect::Decompresses(self.format)
    }

    fn output_name(&self, name: Vec<u8>) -> Vec<u8> {
        let stripped = match self.format {
            Some(format) => format.strip(&name),
            None => without_extension(&name),
        };
        stripped.unwrap_or(name)
    }

    fn memory_bytes(&self, _: u32, decoder_bytes: u64) -> u64 {
        let decoder = |format: &Format| (format.decoder_bytes)(decoder_bytes);
        let bytes = match self.format {
            Some(format) => decoder(format),
            None => FORMATS.iter().map(|format| decoder(format)).max().unwrap_or_default(),
        };
        bytes + TRANSFORM_BUFFER_BYTES as u64
    }

    fn start(&self, limits: ExpansionLimits, _: u32) -> Result<Box<dyn Transform>, FailureCause> {
        Ok(Box::new(Decompressor::new(self.format, self.or_copy, limits)?))
    }
}
