//! The receiver of a chain's output.

/// Receives the output of the last transform.
pub trait Sink {
    /// Receives the next bytes, or stops the transformation.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stopped>;
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// The sink stopped the transformation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;
