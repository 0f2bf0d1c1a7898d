//! Decides what an earlier output of the same path means for a new one: whether both have the same
//! source, and whether the earlier one is still as this service published it.
//!
//! A source is more than its path. Once the service removed or archived it, any file that appears
//! under its name is another source, and an acknowledged output is never replaced by another
//! source's. A kept source stays the same while its producer rewrites it or puts a new file in its
//! place. If the processed file lives on under another name in its directory, it was rotated away,
//! and the file that has its name now is another source.

use std::{io, path::Path};

use crate::{
    fingerprint::Fingerprint,
    fs::{self, Dir, FileMetadata, Kind},
    ledger::{Output, Record, State},
    limits,
    policy::OnSuccess,
};

/// Checks whether the file found under a record's path is the source of that record. Only the run
/// that left a source in place can be sure of that; a source that recovery left may have been
/// removed before, and another one may have come.
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

/// Checks whether the file with an output's name is the published one: by its identity or, if a
/// move to another disk or a change of its times altered that, by its content.
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
