//! Copies an entire file to another file system, checked and durable before it has a name.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek, Write},
    path::Path,
    sync::Arc,
};

use super::{Dir, ExtendedAttributes, Kind, NodeId, Temp, identity_of, metadata_of};
use crate::{error::of_target, failpoint, limits};

/// Copies a file of `from` into a temp of `to`: content, mode, times and, where the process and the
/// file system may, the owner, the extended attributes and the ACL. The copy is durable and was
/// compared with the data read. `on_chunk` is called after each chunk that was written or read back.
///
/// # Errors
///
/// In addition to those of the calls, of which those on the copy's side are marked by
/// [`of_target`]: the source is no regular file, it changed during the copy, or the data read back
/// differs from the data written.
pub fn copy(
    (from, name): (&Dir, &OsStr),
    to: &Arc<Dir>,
    instance: &NodeId,
    on_chunk: impl Fn(),
) -> io::Result<Temp> {
    let mut source = from.open_file(Path::new(name))?;
    let metadata = metadata_of(&source)?;
    if metadata.kind != Kind::File {
        return Err(io::Error::other("the source is no longer a regular file"));
    }
    let temp = Temp::create(to, instance).map_err(of_target)?;
    let mut copy = temp.file();
    let hash = hash_chunks(&mut source, |chunk| {
        copy.write_all(chunk).map(|()| on_chunk()).map_err(of_target)
    })?;
    let extended = ExtendedAttributes::read(&source)?;
    temp.copy_attributes(&metadata, &extended).map_err(of_target)?;
    failpoint::barrier("barrier::copied_source", || copy.sync_all()).map_err(of_target)?;
    copy.rewind().map_err(of_target)?;
    let read_back = hash_chunks(copy, |_| {
        on_chunk();
        Ok(())
    });
    let read_back = read_back.map_err(of_target)?;
    if read_back != hash {
        return Err(io::Error::other("the copy differs from the source"));
    }
    if !metadata.identity.matches_content(&identity_of(&source)?) {
        return Err(io::Error::other("the source changed during the copy"));
    }
    Ok(temp)
}

/// Checks whether two files have the same content; false if one of them is no regular file.
pub fn have_same_content(one: (&Dir, &OsStr), other: (&Dir, &OsStr)) -> io::Result<bool> {
    let open = |(dir, name): (&Dir, &OsStr)| -> io::Result<Option<(File, u64)>> {
        let file = dir.open_file(Path::new(name))?;
        let metadata = metadata_of(&file)?;
        Ok((metadata.kind == Kind::File).then_some((file, metadata.identity.size)))
    };
    let (Some((one, size)), Some((other, other_size))) = (open(one)?, open(other)?) else {
        return Ok(false);
    };
    Ok(size == other_size && hash_chunks(one, |_| Ok(()))? == hash_chunks(other, |_| Ok(()))?)
}

/// Returns the hash of a file's content; an error if it is no regular file.
pub fn content_hash(dir: &Dir, name: &OsStr) -> io::Result<[u8; 32]> {
    let file = dir.open_file(Path::new(name))?;
    if metadata_of(&file)?.kind != Kind::File {
        return Err(io::Error::other("the source is no longer a regular file"));
    }
    Ok(*hash_chunks(file, |_| Ok(()))?.as_bytes())
}

/// Reads a file in chunks, from its current offset to its end, passes each to `each` and returns
/// the hash.
pub(super) fn hash_chunks(
    mut file: impl Read,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; limits::CHUNK_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize()),
            Ok(count) => {
                let chunk = buffer.get(..count).unwrap_or_default();
                hasher.update(chunk);
                each(chunk)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn every_chunk_of_a_copy_counts_when_it_is_written_and_when_it_is_read_back() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("a"), vec![7; 3 * limits::CHUNK_BYTES]).unwrap();
        let dir = Arc::new(Dir::open(root.path()).unwrap());
        let chunks = Cell::new(0);
        let count = || chunks.set(chunks.get() + 1);
        drop(copy((&dir, OsStr::new("a")), &dir, &NodeId::new("test"), count).unwrap());
        assert!(chunks.get() >= 6, "{}", chunks.get());
    }
}
