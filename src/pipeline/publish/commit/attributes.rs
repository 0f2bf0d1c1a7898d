//! Copies the mode, owner and time of a source that changed after its output was published, as long
//! as the output is still the published one.

use std::{io, path::Path};

use crate::{
    failpoint,
    fingerprint::Fingerprint,
    fs::{self, Dir, FileMetadata},
    ledger::Output,
    observe::display_path,
    protocol::earlier_output,
};

/// Copies changed attributes of the source to its output and returns the output as it is
/// afterwards. An output that is gone, that another program replaced or that cannot be changed
/// stays as it is; an error is logged.
pub fn update_output(root: &Dir, output: Output, source: &FileMetadata) -> Output {
    match copy_if_changed(root, &output, source) {
        Ok(Some(identity)) => Output { identity, ..output },
        Ok(None) => output,
        Err(error) => {
            tracing::warn!(event = "file.attributes_failed", output = %display_path(&output.path), %error, "cannot copy changed attributes to the output");
            output
        }
    }
}

/// Copies the attributes durably: the ledger forgets the change after this.
fn copy_if_changed(
    root: &Dir,
    output: &Output,
    source: &FileMetadata,
) -> io::Result<Option<Fingerprint>> {
    let (parent, name) = fs::split(&output.path);
    let Ok(dir) = root.open_beneath(parent) else { return Ok(None) };
    let Some(found) = dir.stat(Path::new(name))? else { return Ok(None) };
    if !have_other_attributes(&found, source)
        || !earlier_output::is_as_published(output, &found, &dir)?
    {
        return Ok(None);
    }
    let file = dir.open_file(Path::new(name))?;
    let opened = fs::metadata_of(&file)?;
    if opened.identity != found.identity {
        return Ok(None);
    }
    fs::copy_attributes(&file, source, (opened.owner, opened.group))?;
    failpoint::barrier("barrier::attributes", || file.sync_all())?;
    tracing::info!(event = "file.attributes_copied", output = %display_path(&output.path), "changed attributes copied to the output");
    fs::identity_of(&file).map(Some)
}

fn have_other_attributes(output: &FileMetadata, source: &FileMetadata) -> bool {
    let attributes = |file: &FileMetadata| {
        (file.mode & 0o777, file.identity.modified_ns, file.owner, file.group)
    };
    attributes(output) != attributes(source)
}
