//! A look at a path, which must not lead into the service's own directories.

use std::{io, path::Path};

use super::super::{Look, NamedBy};
use crate::{
    fingerprint::FileId,
    fs::{self, Dir, Kind},
};

pub(super) fn look(root: &Dir, path: &Path, named_by: NamedBy, own: &[FileId]) -> io::Result<Look> {
    let metadata = match named_by {
        NamedBy::Event => root.stat_fresh(path)?,
        NamedBy::Listing => root.stat(path)?,
    };
    let Some(metadata) = metadata else {
        return Ok(Look::Missing);
    };
    if own.contains(&metadata.identity.file_id()) {
        return Ok(Look::OwnDirectory(path.to_path_buf()));
    }
    if named_by == NamedBy::Event
        && let Some(found) = own_parent(root, path, own)?
    {
        return Ok(found);
    }
    if metadata.kind == Kind::Directory && fs::is_state_dir(root, path)? {
        return Ok(Look::StateDirectory(path.to_path_buf()));
    }
    if named_by == NamedBy::Event
        && let Some(directory) = fs::state_dir_of(root, path)?
    {
        return Ok(Look::StateDirectory(directory.to_path_buf()));
    }
    Ok(Look::Found(metadata))
}

/// Checks whether a parent of the path is one of the service's own directories. inotify has one watch
/// for each directory, whatever its paths, and names it by one of them.
fn own_parent(root: &Dir, path: &Path, own: &[FileId]) -> io::Result<Option<Look>> {
    for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
        let Some(metadata) = root.stat(parent)? else { continue };
        let id = metadata.identity.file_id();
        if own.contains(&id) {
            let is_input = fs::identity_of(root)?.file_id() == id;
            let inner_path = path.strip_prefix(parent).ok().filter(|_| is_input);
            return Ok(Some(match inner_path {
                Some(path) => Look::InNestedInput(path.to_path_buf()),
                None => Look::OwnDirectory(parent.to_path_buf()),
            }));
        }
    }
    Ok(None)
}
