//! The interface between two transforms of a chain.

use async_compression::core::util::WriteBuffer;

use super::Error;

/// Receives the output of a transform.
pub type Next<'a> = dyn FnMut(&[u8]) -> Result<(), Error> + 'a;

/// Passes the written bytes to the next transform.
pub fn pass(output: &WriteBuffer<'_>, next: &mut Next<'_>) -> Result<(), Error> {
    if output.written().is_empty() { Ok(()) } else { next(output.written()) }
}
