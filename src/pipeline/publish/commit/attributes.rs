//! Mode, owner and time of a source that changed after its output was published: they follow, as
//! long as the output is the one that was published.

use std::{io, path::Path};

use super::earlier_output;
use crate::{
    failpoint,
    fingerprint::Fingerprint,
    fs::{self, Dir, FileMetadata},
    ledger::Output,
    observe::display_path,
};

/// What the output is afterwards. It stays as it is where it is gone, is another's, or cannot be
/// changed: the log says so.
pub fn follow(root: &Dir, output: Output, source: &FileMetadata) -> Output {
    match bring_up(root, &output, source) {
        Ok(Some(identity)) => Output { identity, ..output },
        Ok(None) => output,
        Err(error) => {
            tracing::warn!(event = "file.attributes_failed", output = %display_path(&output.path), %error, "cannot copy changed attributes to the output");
            output
        }
    }
}

/// Durable before it returns: the ledger forgets the change after this.
fn bring_up(root: &Dir, output: &Output, source: &FileMetadata) -> io::Result<Option<Fingerprint>> {
    let (parent, name) = fs::split(&output.path);
    let Ok(dir) = root.open_beneath(parent) else { return Ok(None) };
    let Some(seen) = dir.stat(Path::new(name))? else { return Ok(None) };
    if !differ(&seen, source) || !earlier_output::is_as_published(output, &seen, &dir)? {
        return Ok(None);
    }
    let file = dir.open_file(Path::new(name))?;
    let opened = fs::seen_of(&file)?;
    if opened.identity != seen.identity {
        return Ok(None);
    }
    fs::copy_attributes(&file, source, (opened.owner, opened.group))?;
    failpoint::barrier("barrier::attributes", || file.sync_all())?;
    tracing::info!(event = "file.attributes_copied", output = %display_path(&output.path), "changed attributes copied to the output");
    fs::identity_of(&file).map(Some)
}

fn differ(output: &FileMetadata, source: &FileMetadata) -> bool {
    let of = |seen: &FileMetadata| {
        (seen.mode & 0o777, seen.identity.modified_ns, seen.owner, seen.group)
    };
    of(output) != of(source)
}
