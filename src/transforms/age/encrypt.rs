//! The running transform `age`.

use std::{
    io::{self, Write},
    mem::take,
    sync::Arc,
};

use age::stream::StreamWriter;

use super::{PART_BYTES, key_files::Recipients};
use crate::{
    sync::Mutex,
    transforms::{Error, FailureCause, FileInfo, Next, Transform},
};

/// Encrypts one file after another. Dropping it leaves an unfinished file, which cannot be decrypted.
pub struct Encryptor {
    recipients: Arc<Recipients>,
    /// `None` before the first byte of a file, and after its end.
    writer: Option<StreamWriter<Output>>,
    output: Output,
}

/// What the writer made since the last look. The writer holds a clone of it.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    /// Passes on what was made, and keeps the buffer.
    fn pass(&self, next: &mut Next<'_>) -> Result<(), Error> {
        let mut bytes = take(&mut *self.0.lock());
        let passed = if bytes.is_empty() { Ok(()) } else { next(&bytes) };
        bytes.clear();
        *self.0.lock() = bytes;
        passed
    }
}

impl Encryptor {
    pub fn new(recipients: Arc<Recipients>) -> Self {
        Self { recipients, writer: None, output: Output::default() }
    }

    /// Takes the writer of the file. A new one has a new random key, and writes the header.
    fn writer(&mut self) -> Result<StreamWriter<Output>, Error> {
        if let Some(writer) = self.writer.take() {
            return Ok(writer);
        }
        let recipients = self.recipients.iter().map(|one| one as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients)
            .map_err(|_| FailureCause::Failed(io::Error::other("no header for the recipients")))?;
        Ok(encryptor.wrap_output(self.output.clone())?)
    }
}

impl Transform for Encryptor {
    fn start(&mut self, _: &FileInfo<'_>) {
        self.writer = None;
        self.output.0.lock().clear();
    }

    fn feed(&mut self, bytes: &[u8], next: &mut Next<'_>) -> Result<(), Error> {
        let mut writer = self.writer()?;
        for piece in bytes.chunks(PART_BYTES) {
            writer.write_all(piece)?;
            self.output.pass(next)?;
        }
        self.writer = Some(writer);
        Ok(())
    }

    fn finish(&mut self, next: &mut Next<'_>) -> Result<(), Error> {
        // Without the last part it would be a truncated file.
        self.writer()?.finish()?;
        self.output.pass(next)
    }
}
