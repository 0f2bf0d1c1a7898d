//! A transform that compresses with an encoder of the library, on one thread or with its threads.

use async_compression::core::util::{PartialBuffer, WriteBuffer};

use super::{Encoder, Settings, pass};
use crate::{
    limits,
    transforms::{Error, FailureCause, FileInfo, Next, Transform},
};

/// Creates an encoder.
pub type Create = fn(Settings) -> Result<Encoder, FailureCause>;

pub struct Compressor {
    settings: Settings,
    create: Create,
    encoder: Encoder,
    /// Whether the encoder can start a new file.
    is_fresh: bool,
    /// Whether a finished encoder can begin a new file.
    is_reusable: bool,
    buffer: Box<[u8]>,
}

impl Compressor {
    /// Makes the transform of a format whose encoder is created again for each file.
    pub fn boxed(settings: Settings, create: Create) -> Result<Box<dyn Transform>, FailureCause> {
        Ok(Box::new(Self::new(settings, create)?))
    }

    /// Makes the transform of a format whose encoder can start a file after a finished one.
    pub fn boxed_reusable(
        settings: Settings,
        create: Create,
    ) -> Result<Box<dyn Transform>, FailureCause> {
        Ok(Box::new(Self { is_reusable: true, ..Self::new(settings, create)? }))
    }

    fn new(settings: Settings, create: Create) -> Result<Self, FailureCause> {
        let (encoder, buffer) = (create(settings)?, vec![0; limits::TRANSFORM_BUFFER_BYTES].into());
        Ok(Self { settings, create, encoder, is_fresh: true, is_reusable: false, buffer })
    }
}

impl Transform for Compressor {
    fn start(&mut self, _: &FileInfo<'_>) {
        if self.is_fresh {
            return;
        }
        // Creating it with the same settings succeeded before.
        if let Ok(encoder) = (self.create)(self.settings) {
            self.encoder = encoder;
        }
        self.is_fresh = true;
    }

    fn feed(&mut self, bytes: &[u8], next: &mut Next<'_>) -> Result<(), Error> {
        self.is_fresh = false;
        let mut input = PartialBuffer::new(bytes);
        while !input.unwritten().is_empty() {
            let mut output = WriteBuffer::new_initialized(&mut self.buffer);
            self.encoder.encode(&mut input, &mut output)?;
            pass(&output, next)?;
        }
        Ok(())
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        self.is_fresh = false;
        loop {
            let mut output = WriteBuffer::new_initialized(&mut self.buffer);
            let is_finished = self.encoder.finish(&mut output)?;
            pass(&output, next)?;
            if is_finished {
                break;
            }
        }
        self.is_fresh = self.is_reusable;
        Ok(())
    }
}
