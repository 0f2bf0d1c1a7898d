//! `copy`: leaves the bytes as they are.

use std::{fmt, sync::Arc};

use super::{Effect, Error, FailureCause, FileInfo, Kind, Next, Spec, Transform, without_options};
use crate::policy::ExpansionLimits;

pub const KIND: Kind =
    Kind { words: &["copy"], parse: |word, options| without_options(word, options, Copy) };

#[derive(Debug)]
struct Copy;

impl fmt::Display for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("copy")
    }
}

impl Spec for Copy {
    fn effect(&self) -> Effect {
        Effect::Copies
    }

    fn output_name(&self, input: Vec<u8>) -> Vec<u8> {
        input
    }

    fn inverse(&self) -> Option<Arc<dyn Spec>> {
        Some(Arc::new(Self))
    }

    fn memory_bytes(&self, _: u32, _: u64) -> u64 {
        0
    }

    fn start(&self, _: ExpansionLimits, _: u32) -> Result<Box<dyn Transform>, FailureCause> {
        Ok(Box::new(Self))
    }
}

impl Transform for Copy {
    fn start(&mut self, _: &FileInfo<'_>) {}

    fn feed(&mut self, bytes: &[u8], next: &mut Next<'_>) -> Result<(), Error> {
        next(bytes)
    }

    fn finish(&mut self, _: &mut Next<'_>) -> Result<(), Error> {
        Ok(())
    }
}
