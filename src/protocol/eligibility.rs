//! Which files are skipped, by their owner and their number of names.

use std::io;

use crate::{
    fs::{self, Dir, FileMetadata},
    policy::{Owners, SourceRules},
};

/// Returns the reason to skip this file of this input, if there is one. Discover checks by name, and
/// claim again by handle: meanwhile the name may have become another file's.
pub fn skip_reason(
    rules: SourceRules,
    input: &Dir,
    metadata: &FileMetadata,
) -> io::Result<Option<String>> {
    let input_owner = match rules.owners {
        Owners::Any => metadata.owner,
        Owners::Same => fs::metadata_of(input)?.owner,
    };
    Ok(rules.skip_reason(metadata.names, metadata.owner, input_owner))
}
