//! Decides whether an earlier output of the same path has the same source as a new one.
//!
//! A source is more than its path. Once the service removed or archived it, any file that appears
//! under its name is another source, and an acknowledged output is never replaced by another
//! source's. A kept source stays the same while its producer rewrites it or puts a new file in its
//! place. If the processed file lives on under another name in its directory, it was rotated away,
//! and the file that has its name now is another source; so it is if the name was free for a while.

use std::io;

use crate::{
    fingerprint::Fingerprint,
    fs,
    ledger::{Record, State},
    limits,
    policy::OnSuccess,
    source::Source,
};

/// Checks whether the file found under a record's path is the source of that record. Only the run
/// that left a source in place can be sure of that; a source that recovery left may have been
/// removed before, and another one may have come.
pub fn is_same_source(
    record: &Record,
    found: &Fingerprint,
    input: &dyn Source,
    is_of_this_run: bool,
) -> io::Result<bool> {
    let same_inode = record.identity.inode == found.inode;
    match (&record.on_success, record.state) {
        // Its name was free for a while: the producer deleted it or moved it away.
        (OnSuccess::Keep, State::Changed) => Ok(false),
        (_, State::Changed) if same_inode && is_of_this_run => {
            // A file that came after it may have got its inode.
            let born_ns = match input.born_ns(&record.source) {
                // It lost its name since it was read.
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => None,
                // FAT has a finer time of creation than of change.
                _ if input.may_renumber() => None,
                born_ns => born_ns.map_err(|error| error.source)?,
            };
            Ok(born_ns.is_none_or(|born_ns| born_ns <= record.identity.ctime_ns))
        }
        (_, State::Changed) => Ok(false),
        (OnSuccess::Keep, _) if same_inode => Ok(true),
        (OnSuccess::Keep, _) => {
            let (parent, _) = fs::split(&record.source);
            let keeps = input.keeps(parent, &record.identity, limits::RENAMED_LOOKS_MAX);
            keeps.map(|keeps| !keeps).map_err(|error| error.source)
        }
        (OnSuccess::Delete | OnSuccess::Archive(_), _) => Ok(false),
    }
}
