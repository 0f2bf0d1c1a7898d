//! Which files are skipped, by their size, their owner, their number of names and their marker.

use crate::{
    fs::FileMetadata,
    policy::{Owners, SourceRules},
    source::{Result, Source},
};

/// Returns the reason to skip this file of this input, if there is one. Discover checks by name, and
/// claim again by handle: meanwhile the name may have become another file's.
pub fn skip_reason(
    rules: SourceRules,
    input: &dyn Source,
    metadata: &FileMetadata,
) -> Result<Option<String>> {
    let input_owner = match rules.owners {
        Owners::Any => metadata.owner,
        Owners::Same => input.metadata()?.owner,
    };
    let sizes = (metadata.identity.size, metadata.names);
    Ok(rules.skip_reason(sizes, (metadata.owner, input_owner)))
}

/// Checks whether a marker is older than the content of its file: it belonged to an earlier file.
///
/// The content's time is the earlier one of the file's two, because a rename moves the change time
/// and a producer may set the modification time to one in the future.
#[must_use]
pub fn is_stale(marker: &FileMetadata, file: &FileMetadata) -> bool {
    let marker = marker.identity;
    let written_ns = file.identity.mtime_ns.min(file.identity.ctime_ns);
    marker.mtime_ns.max(marker.ctime_ns) < written_ns
}
