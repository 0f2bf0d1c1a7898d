//! Finds the names that an earlier run of this instance made in a source and did not remove.

use std::{path::PathBuf, sync::Arc};

use super::super::{Leftover, Result, SourceError, Taken};
use crate::fs::{self, Dir, Kind, NodeId, PatientWalk};

/// Walks the entire source. Only the probe at the start makes temps in it.
pub(super) fn find(dir: &Arc<Dir>, instance: &NodeId) -> Vec<Result<Leftover>> {
    let leftover = |path: PathBuf| {
        let (_, name) = fs::split(&path);
        if let Some(id) = instance.private_id(name) {
            return Some(Leftover::Taken(Taken { id, path }));
        }
        instance.is_temp(name).then_some(Leftover::Temp(path))
    };
    PatientWalk::start(dir)
        .filter_map(|entry| match entry {
            Ok(entry) if entry.kind == Kind::File => leftover(entry.path).map(Ok),
            Ok(_) => None,
            Err((path, source)) => Some(Err(SourceError { path: dir.path().join(path), source })),
        })
        .collect()
}
