//! What an earlier output of the same path means for a new one: whether it is of the same source,
//! and whether it is still what this service published.
//!
//! A source is more than its path. Once the service removed or archived it, whatever comes under its
//! name is another source, and an acknowledged output is never replaced by another source's. A source
//! that is kept stays the same while its producer rewrites it, or puts a new file in its place; where
//! the file that was processed lives on under another name of its directory, it was rotated away, and
//! what has its name now is another source.

use std::{io, path::Path};

use crate::{
    fingerprint::Fingerprint,
    fs::{self, Dir, FileMetadata, Kind},
    ledger::{Output, Record, State},
    limits,
    policy::OnSuccess,
};

/// Whether the file that was found under a record's path is the source that the record is of. Only a
/// run itself knows of the sources that it left where they were; of one that was left by recovery
/// nobody knows whether it was removed before and another came.
pub fn is_same_source(
    record: &Record,
    found: &Fingerprint,
    input: &Dir,
    is_of_this_run: bool,
) -> io::Result<bool> {
    let same_inode = record.identity.inode == found.inode;
    match (&record.on_success, record.state) {
        (_, State::Changed) => Ok(same_inode && is_of_this_run),
        (OnSuccess::Keep, _) if same_inode => Ok(true),
        (OnSuccess::Keep, _) => {
            let (parent, _) = fs::split(&record.source);
            let dir = input.open_beneath(parent)?;
            Ok(!fs::keeps_file(&dir, &record.identity, limits::RENAMED_LOOKS_MAX)?)
        }
        (OnSuccess::Delete | OnSuccess::Archive(_), _) => Ok(false),
    }
}

/// Whether what has an output's name is what was published: by its identity, or, where a move to
/// another disk or a change of its times took that, by its content.
pub fn is_as_published(output: &Output, found: &FileMetadata, dir: &Dir) -> io::Result<bool> {
    if found.kind != Kind::File || found.identity.size != output.identity.size {
        return Ok(false);
    }
    if output.identity.matches_content(&found.identity) {
        return Ok(true);
    }
    let (_, name) = fs::split(&output.path);
    let file = dir.open_file(Path::new(name))?;
    Ok(fs::hash_of(&file)? == output.hash)
}
