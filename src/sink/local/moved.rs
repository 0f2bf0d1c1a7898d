//! Detects directories that are moved away while outputs are published into them.
//!
//! A consumer may take an entire directory by renaming it. Its handle stays valid, so an output
//! renamed through it then gets its name in the consumer's directory. So the commit looks each directory
//! up by its path before the intents, and again after the names and before the acknowledgement (C7).

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
};

use super::{file::LocalFile, root::Root};
use crate::{
    failpoint,
    fs::{self, Dir, NodeId, PatientWalk},
    ledger::Output,
    sink::{self, Error, Staged},
};

/// Checks each output, and each directory of the batch once.
pub fn are_displaced(root: &Root, outputs: &[(&dyn Staged, &Path)]) -> Vec<bool> {
    let mut moved: HashMap<(&Path, u64), bool> = HashMap::new();
    let is_displaced = |&(staged, target)| {
        let Some(file) = LocalFile::of(staged) else { return false };
        let inode = file.dir().id().map_or(0, |id| id.inode);
        let (parent, _) = fs::split(target);
        *moved.entry((parent, inode)).or_insert_with(|| is_moved(root, file.dir(), parent))
    };
    outputs.iter().map(is_displaced).collect()
}

fn is_moved(root: &Root, dir: &Dir, parent: &Path) -> bool {
    if failpoint::is_skipped("barrier::moved_directory") {
        return false;
    }
    match root.is_current(dir, parent) {
        Ok(is_same) => !is_same,
        // The directory's sync reports other errors.
        Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

/// Searches the tree for temps that are not in their directories. One that is not found is an error where
/// a directory could not be searched.
pub fn were_displaced(
    root: &Arc<Dir>,
    instance: &NodeId,
    outputs: &[&Output],
) -> Vec<Result<bool, Error>> {
    let mut temps = HashMap::new();
    let mut failed = None;
    for entry in PatientWalk::start(root) {
        match entry {
            Ok(entry) => {
                let (_, name) = fs::split(&entry.path);
                if instance.is_temp(name) {
                    temps.insert(name.to_owned(), entry.path);
                }
            }
            // A directory without access for this process holds none of its files.
            Err((_, error)) if error.kind() == ErrorKind::PermissionDenied => {}
            Err((path, error)) => failed = Some((root.path().join(path), error.kind())),
        }
    }
    let is_displaced = |output: &&Output| match (temps.get(&output.temp), &failed) {
        (Some(temp), _) => Ok(!is_linked(root, temp, &output.path)),
        (None, Some((path, kind))) => {
            Err(sink::ErrorKind::List.at(path.clone())(io::Error::from(*kind)))
        }
        (None, None) => Ok(false),
    };
    outputs.iter().map(is_displaced).collect()
}

/// Checks whether the output got its final name by a link before the directory was moved: a
/// consumer has it.
fn is_linked(root: &Dir, temp: &Path, output: &Path) -> bool {
    let inode = |path: &Path| root.stat(path).ok().flatten().map(|found| found.identity.inode);
    let (parent, _) = fs::split(temp);
    let (_, name) = fs::split(output);
    inode(temp).is_some_and(|temp| inode(&parent.join(name)) == Some(temp))
}
