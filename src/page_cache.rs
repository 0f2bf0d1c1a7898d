//! The kernel's copy of a file. After a failed write the kernel goes on to show the content that is not
//! on the disk, and the next sync, even of another process, succeeds.

use std::{fs::File, io, num::NonZeroU64, os::unix::fs::FileExt};

use rustix::{
    fs::{Advice, fadvise},
    io::Errno,
};

/// The largest unit in which the kernel keeps content. It drops a unit only as a whole.
const CHUNK_BYTES: u64 = 2 * 1024 * 1024;

/// Drops the pages of a synced file, so that they are read from the disk again. A file system without a
/// page cache has none to drop.
pub fn drop_cached(file: &File) -> io::Result<()> {
    drop_range(file, 0, None)
}

fn drop_range(file: &File, offset: u64, length: Option<NonZeroU64>) -> io::Result<()> {
    match fadvise(file, offset, length, Advice::DontNeed) {
        Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => Ok(()),
        dropped => Ok(dropped?),
    }
}

/// Writes the content from this offset again, unchanged, for the next sync to make durable what an earlier
/// one may have failed to. The pages are dropped first: to ext4 a page whose write failed has its place on the
/// disk, which reads as zeros when it is written again and not allocated again.
///
/// # Errors
///
/// Also that of an earlier write, if nobody was informed of it.
pub fn rewrite(file: &File, from: u64) -> io::Result<()> {
    // Only clean pages can be dropped.
    file.sync_data()?;
    let length = file.metadata()?.len();
    let mut chunk = Vec::new();
    let mut offset = from / CHUNK_BYTES * CHUNK_BYTES;
    while offset < length {
        chunk.resize(usize::try_from(CHUNK_BYTES.min(length - offset)).unwrap_or(0), 0);
        file.read_exact_at(&mut chunk, offset)?;
        drop_range(file, offset, NonZeroU64::new(CHUNK_BYTES))?;
        file.write_all_at(&chunk, offset)?;
        offset += CHUNK_BYTES;
    }
    Ok(())
}
