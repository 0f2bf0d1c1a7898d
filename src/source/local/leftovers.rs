//! Finds the names that an earlier run of this instance made in a source and did not remove.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    super::{Leftover, Result, SourceError, Taken},
    delivery,
};
use crate::{
    fs::{self, Dir, Kind, NodeId, PatientWalk},
    limits,
};

/// Walks the entire source. Only the probe at the start makes temps in it, and `tidemill put`, which may have
/// been killed.
pub(super) fn find(dir: &Arc<Dir>, instance: &NodeId) -> Vec<Result<Leftover>> {
    let now = SystemTime::now();
    let leftover = |path: PathBuf| {
        let (_, name) = fs::split(&path);
        if let Some(id) = instance.private_id(name) {
            return Some(Leftover::Taken(Taken { id, path }));
        }
        let is_ours = instance.is_temp(name) || is_abandoned(dir, &path, now);
        is_ours.then_some(Leftover::Temp(path))
    };
    PatientWalk::start(dir)
        .filter_map(|entry| match entry {
            Ok(entry) if entry.kind == Kind::File => leftover(entry.path).map(Ok),
            Ok(_) => None,
            Err((path, source)) => Some(Err(SourceError { path: dir.path().join(path), source })),
        })
        .collect()
}

/// Checks whether this is the temp of a delivery that ended long ago.
fn is_abandoned(dir: &Dir, path: &Path, now: SystemTime) -> bool {
    if !delivery::is_temp(fs::split(path).1) {
        return false;
    }
    let Ok(Some(found)) = dir.stat(path) else { return false };
    let written = Duration::from_nanos(u64::try_from(found.identity.ctime_ns).unwrap_or(0));
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(written) >= limits::ABANDONED_DELIVERY_AGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_abandoned_after_a_day() {
        let root = tempfile::tempdir().expect("temporary directory");
        for name in ["a.tmp", ".tidemill-put-Z6zk5oCk.tmp"] {
            std::fs::write(root.path().join(name), "").expect("write");
        }
        let dir = Dir::open(root.path()).expect("open");
        let is_abandoned =
            |name: &str, after| is_abandoned(&dir, name.as_ref(), SystemTime::now() + after);
        let day = limits::ABANDONED_DELIVERY_AGE;
        assert!(!is_abandoned(".tidemill-put-Z6zk5oCk.tmp", Duration::ZERO));
        assert!(is_abandoned(".tidemill-put-Z6zk5oCk.tmp", day));
        assert!(!is_abandoned("a.tmp", day));
    }
}
