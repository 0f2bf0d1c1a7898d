//! The receiver of a chain's output.

/// Receives the output of the last transform.
pub trait Receiver {
    /// Receives the next bytes, or stops the transformation.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stopped>;
}

impl Receiver for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// The receiver stopped the transformation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;
