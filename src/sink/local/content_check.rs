//! Checks that a synced output still has the written content.
//!
//! If the kernel finds no block for a dirty page (a damaged block bitmap), it drops the page. It reports
//! the error to the caller that started the writeback, which may be its own flusher: the `fsync` after
//! it finds no dirty page and succeeds. The dropped pages read as zeros from then on.
//!
//! C6: an output whose content was lost on its way to the disk gets no intent.

use std::{fs::File, io, os::unix::fs::FileExt};

use crate::{failpoint, fs, ledger::Hash, limits, page_cache};

/// The size of the read buffer, which is on the stack: most outputs are smaller.
const BUFFER_BYTES: usize = 16 * 1024;

/// Compares an output of this size with the hash of the written content, from the page cache; a large
/// output only if it has a hole, because it was written without one. If outputs are verified, it compares
/// each one, and reads a large one from the disk.
///
/// `on_progress` is called for each buffer that was read.
pub fn check(
    (file, size): (&File, u64),
    hash: &Hash,
    verify: bool,
    on_progress: &dyn Fn(),
) -> io::Result<()> {
    if failpoint::is_skipped("barrier::content") {
        return Ok(());
    }
    let is_large = size > limits::SMALL_FILE_MAX_BYTES as u64;
    if is_large && verify {
        page_cache::drop_cached(file)?;
    } else if is_large && !fs::has_hole(file, size)? {
        return Ok(());
    }
    let mut hasher = blake3::Hasher::new();
    let (mut buffer, mut offset) = ([0; BUFFER_BYTES], 0);
    while offset < size {
        let count = file.read_at(&mut buffer, offset)?;
        if count == 0 {
            break;
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        offset += count as u64;
        on_progress();
    }
    if offset == size && *hasher.finalize().as_bytes() == *hash {
        Ok(())
    } else {
        Err(io::Error::other("the file system lost written content and reported no error"))
    }
}
