//! Whether a synced output still has the content that was written.
//!
//! Where the kernel finds no block for what it was given (a damaged block bitmap), it drops the pages.
//! It reports that to who began the write, which may have been its own flusher: the `fsync` after it
//! finds nothing to write, and succeeds. What was dropped reads as zeros from then on.
//!
//! C6: an output whose content was lost on its way to the disk gets no intent.

use std::{io, os::unix::fs::FileExt};

use crate::{failpoint, fs, limits, pipeline::job::Staged, policy::Durability};

/// On the stack: most outputs are smaller.
const BUFFER_BYTES: usize = 16 * 1024;

/// Compares a small output with what was written, from memory; a large one only where it has a hole,
/// because nothing was left out when it was written.
pub fn check(staged: &Staged) -> io::Result<()> {
    if staged.job.context.config.durability == Durability::None
        || failpoint::is_skipped("barrier::content")
    {
        return Ok(());
    }
    let file = staged.temp.file();
    let size = staged.identity.size;
    if size > limits::SMALL_FILE_MAX_BYTES as u64 && !fs::has_hole(file, size)? {
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
    }
    if offset == size && *hasher.finalize().as_bytes() == staged.hashes.output {
        Ok(())
    } else {
        Err(io::Error::other("the file system lost what was written to it, and reported no error"))
    }
}
