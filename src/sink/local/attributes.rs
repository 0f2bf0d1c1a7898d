//! Copies the mode, owner, time and extended attributes of a source that changed after its output was
//! published, as long as the output is still the published one.

use std::{io, path::Path};

use super::{file::occupant, shared::Shared};
use crate::{
    failpoint,
    fingerprint::Fingerprint,
    fs::{self, Dir, ExtendedAttributes, FileMetadata},
    ledger::Output,
    sink::{Attributes, ErrorKind},
};

/// Copies the attributes durably. Extended attributes that the output has in addition stay: a consumer
/// may have set them. Its ACL goes if the source has none, unless the output's directory gave it one. An output that is gone, or that another program replaced, stays as it is.
pub fn update(
    shared: &Shared,
    root: &Dir,
    output: &Output,
    attributes: Attributes<'_>,
) -> io::Result<Option<Fingerprint>> {
    let Attributes { metadata: source, extended } = attributes;
    let (parent, name) = fs::split(&output.path);
    let Ok(dir) = root.open_beneath(parent) else { return Ok(None) };
    let Some(found) = dir.stat(Path::new(name))?.map(|found| occupant(&found)) else {
        return Ok(None);
    };
    if !found.is_file {
        return Ok(None);
    }
    let file = dir.open_file(Path::new(name))?;
    let opened = fs::metadata_of(&file)?;
    let present = ExtendedAttributes::read(&file)?;
    // A user who lost access to the source loses it to the output.
    let loses_acl = present.has_acl() && !extended.has_acl() && !dir.has_default_acl();
    let is_other =
        loses_acl || have_other_attributes(&opened, source) || !present.include(extended);
    let hash = || {
        let hash = dir.open_file(Path::new(name)).and_then(|file| fs::hash_of(&file));
        hash.map_err(ErrorKind::Look.at(dir.path().join(name)))
    };
    if !is_other
        || opened.identity != found.identity
        || !found.is_output(output, hash).map_err(|error| error.source)?
    {
        return Ok(None);
    }
    if loses_acl {
        fs::remove_acl(&file)?;
    }
    let refused = fs::copy_attributes(&file, source, extended, (opened.owner, opened.group))?;
    if let Some(error) = refused {
        shared.warn_of_lost_attributes(&error);
    }
    failpoint::barrier("barrier::attributes", || file.sync_all())?;
    fs::identity_of(&file).map(Some)
}

fn have_other_attributes(output: &FileMetadata, source: &FileMetadata) -> bool {
    let attributes =
        |file: &FileMetadata| (file.mode & 0o777, file.identity.mtime_ns, file.owner, file.group);
    attributes(output) != attributes(source)
}
