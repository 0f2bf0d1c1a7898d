//! What the next transformation of a chain takes from the one before it.

use async_compression::core::util::WriteBuffer;

use super::Error;

/// Takes the bytes that come out of a transformation.
pub type Next<'a> = dyn FnMut(&[u8]) -> Result<(), Error> + 'a;

pub fn pass(output: &WriteBuffer<'_>, next: &mut Next<'_>) -> Result<(), Error> {
    if output.written().is_empty() { Ok(()) } else { next(output.written()) }
}
