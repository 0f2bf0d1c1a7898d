//! Buffers that go round between two stages of one large file, so that none is made anew.

use std::sync::{Arc, Mutex, PoisonError};

/// The buffers nobody uses now: never more than the channel between the stages and their hands
/// hold. Clones share them; dropping the last one frees them.
#[derive(Clone, Debug, Default)]
pub struct Spare(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spare {
    /// A used one, with its content, or an empty one.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub fn give(&self, buffer: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}
