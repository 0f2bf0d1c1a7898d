//! A copy of a whole file on another file system, checked and durable before it has a name.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek, Write},
    path::Path,
    sync::Arc,
};

use super::{Dir, Kind, NodeId, Temp, identity_of, seen_of};
use crate::limits;

/// Copies a file of `from` into a temp of `to`: content, mode, times and, where the process may, the
/// owner. The copy is durable and was compared with what was read. `moved` is called after each chunk
/// that was written or read back.
///
/// # Errors
///
/// Besides those of the calls: it is no regular file, it changed meanwhile, or what was written is
/// not what is read back.
pub fn copy(
    (from, name): (&Dir, &OsStr),
    to: &Arc<Dir>,
    instance: &NodeId,
    moved: impl Fn(),
) -> io::Result<Temp> {
    let mut source = from.open_file(Path::new(name))?;
    let seen = seen_of(&source)?;
    if seen.kind != Kind::File {
        return Err(io::Error::other("it is no regular file any more"));
    }
    let temp = Temp::create(to, instance)?;
    let mut copy = temp.file();
    let hash = hashed(&mut source, |chunk| copy.write_all(chunk).map(|()| moved()))?;
    temp.copy_attributes(&seen)?;
    copy.sync_all()?;
    copy.rewind()?;
    let read_back = hashed(copy, |_| {
        moved();
        Ok(())
    })?;
    if read_back != hash {
        return Err(io::Error::other("the copy has another content than the source"));
    }
    if !seen.identity.matches_content(&identity_of(&source)?) {
        return Err(io::Error::other("it changed while it was copied"));
    }
    Ok(temp)
}

/// Whether two files have the same content. Where one of them is no regular file they have not.
pub fn have_same_content(one: (&Dir, &OsStr), other: (&Dir, &OsStr)) -> io::Result<bool> {
    let open = |(dir, name): (&Dir, &OsStr)| -> io::Result<Option<(File, u64)>> {
        let file = dir.open_file(Path::new(name))?;
        let seen = seen_of(&file)?;
        Ok((seen.kind == Kind::File).then_some((file, seen.identity.size)))
    };
    let (Some((one, size)), Some((other, other_size))) = (open(one)?, open(other)?) else {
        return Ok(false);
    };
    Ok(size == other_size && hashed(one, |_| Ok(()))? == hashed(other, |_| Ok(()))?)
}

/// The hash of what a name's file holds; an error where it is no regular file.
pub fn content_hash(dir: &Dir, name: &OsStr) -> io::Result<[u8; 32]> {
    let file = dir.open_file(Path::new(name))?;
    if seen_of(&file)?.kind != Kind::File {
        return Err(io::Error::other("it is no regular file any more"));
    }
    Ok(*hashed(file, |_| Ok(()))?.as_bytes())
}

/// Hands a file on in chunks, from where it stands to its end, and gives its hash.
pub(super) fn hashed(
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
        let moved = Cell::new(0);
        let count = || moved.set(moved.get() + 1);
        drop(copy((&dir, OsStr::new("a")), &dir, &NodeId::new("test"), count).unwrap());
        assert!(moved.get() >= 6, "{}", moved.get());
    }
}
