//! A file's content, and its names in a directory.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::unix::{ffi::OsStrExt, fs::FileExt},
    path::Path,
};

use rustix::fs::{Dir as Entries, FileType};

use super::Dir;
use crate::fingerprint::Fingerprint;

/// Returns the BLAKE3 hash of a file's content, from its current offset to its end.
pub fn hash_of(file: &File) -> io::Result<[u8; 32]> {
    Ok(*super::copy::hash_chunks(file, |_| Ok(()))?.as_bytes())
}

/// Reads from an offset until the buffer is full or the file ends; returns the number of bytes.
pub fn fill(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let requested = rest.len();
        match file.read_at(rest, offset + filled as u64) {
            // A regular file returns fewer bytes than requested only at its end.
            Ok(count) if count < requested => return Ok(filled + count),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Checks whether a directory has this file, unchanged, under any of its first `max_names` names that
/// count; true if it has more names. The inode alone is no proof: a new file may have it.
pub fn keeps_file(
    dir: &Dir,
    wanted: &Fingerprint,
    max_names: usize,
    counts: impl Fn(&OsStr) -> bool,
) -> io::Result<bool> {
    for (number, entry) in Entries::read_from(dir)?.enumerate() {
        let entry = entry?;
        if number >= max_names {
            return Ok(true);
        }
        let is_file = matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown);
        if !is_file || entry.ino() != wanted.inode {
            continue;
        }
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if !counts(name) {
            continue;
        }
        let found = dir.stat(Path::new(name))?;
        if found.is_some_and(|found| found.identity.matches_content(wanted)) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Overwrite;

    #[test]
    fn a_renamed_file_is_found_and_a_removed_one_is_not() {
        let root = tempfile::tempdir().expect("temporary directory");
        let dir = Dir::open(root.path()).expect("open");
        std::fs::write(root.path().join("a"), "content").expect("write");
        let metadata = dir.stat(Path::new("a")).expect("stat").expect("exists");
        dir.rename("a".as_ref(), &dir, "b".as_ref(), Overwrite::Never).expect("rename");
        let keeps = |max_names| {
            keeps_file(&dir, &metadata.identity, max_names, |name| name != "a~").expect("list")
        };
        assert!(keeps(100));
        dir.rename("b".as_ref(), &dir, "a~".as_ref(), Overwrite::Never).expect("rename");
        assert!(!keeps(100), "a backup");
        dir.rename("a~".as_ref(), &dir, "b".as_ref(), Overwrite::Never).expect("rename");
        std::fs::write(root.path().join("b"), "other content").expect("write");
        assert!(!keeps(100), "another file with the same inode");
        dir.unlink("b".as_ref()).expect("remove");
        assert!(!keeps(100));
        std::fs::write(root.path().join("c"), "").expect("write");
        assert!(keeps(1), "a longer directory is not read to its end");
    }

    #[test]
    fn a_hash_covers_the_entire_content() {
        let file = tempfile::NamedTempFile::new().expect("create");
        std::fs::write(file.path(), "content").expect("write");
        let file = File::open(file.path()).expect("open");
        assert_eq!(hash_of(&file).expect("read"), *blake3::hash(b"content").as_bytes());
    }
}
