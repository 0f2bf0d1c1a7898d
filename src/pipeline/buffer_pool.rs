//! Buffers that circulate between two stages of one large file, so that none is allocated again.

use std::sync::Arc;

use crate::sync::Mutex;

/// The idle buffers: at most as many as the two stages and the channel between them hold. Clones share
/// the buffers; dropping the last clone frees them.
#[derive(Clone, Debug, Default)]
pub struct BufferPool(Arc<Mutex<Vec<Vec<u8>>>>);

impl BufferPool {
    /// Returns a used buffer, with its old content, or an empty new one.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        self.0.lock().pop().unwrap_or_default()
    }

    pub fn put_back(&self, buffer: Vec<u8>) {
        self.0.lock().push(buffer);
    }
}
