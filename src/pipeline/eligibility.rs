//! Which files are left alone, by whose they are and how many names they have.

use std::io;

use crate::{
    fs::{self, Dir, FileMetadata},
    policy::{Owners, SourceRules},
};

/// Why this file of this input is left alone, if it is. Discover asks by the name, and claim again
/// by the handle: in between the name may have become another file's.
pub fn refused(trust: SourceRules, input: &Dir, seen: &FileMetadata) -> io::Result<Option<String>> {
    let input_owner = match trust.owners {
        Owners::Any => seen.owner,
        Owners::Same => fs::metadata_of(input)?.owner,
    };
    Ok(trust.refuses(seen.names, seen.owner, input_owner))
}
