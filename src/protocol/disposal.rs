//! The end of a held source: removed, archived, or moved to quarantine, each after its marker.

use std::{ffi::OsStr, io, sync::Arc};

use super::{held_source::HeldSource, marker};
use crate::{
    failpoint,
    fs::{self, Dir},
    ledger::Record,
    policy::OnSuccess,
};

/// Removes or archives a held source, after its marker; on an error the source gets its name back.
pub fn finish_source(held: HeldSource, record: &Record, marker: Option<&str>) -> io::Result<()> {
    let (parent, name) = fs::split(&record.source);
    let marker_done = match marker.filter(|_| !held.is_name_taken()) {
        Some(marker) => failpoint::barrier("barrier::marker", || {
            marker::dispose(held.dir(), name, marker, (parent, &record.on_success))
        }),
        None => Ok(()),
    };
    if let Err(error) = marker_done {
        return Err(held.put_back().err().map_or(error, |(_, second)| second));
    }
    let finished = match &record.on_success {
        OnSuccess::Delete | OnSuccess::Keep => held.remove(),
        OnSuccess::Archive(archive) => {
            match Dir::open(archive)
                .and_then(|archive| archive.make_beneath(parent, fs::SHARED_DIR_MODE))
            {
                Ok(to) => held.move_to(&Arc::new(to), name).map(drop),
                Err(error) => Err((held, error)),
            }
        }
    };
    finished.map_err(|(held, error)| held.put_back().err().map_or(error, |(_, second)| second))
}

/// Moves a held source to its slot in quarantine, after its marker.
pub fn quarantine_source(
    held: HeldSource,
    (to, name): (&Arc<Dir>, &OsStr),
    marker: Option<&str>,
) -> Result<(), (HeldSource, io::Error)> {
    if let Some(marker) = marker.filter(|_| !held.is_name_taken())
        && let Err(error) = marker::quarantine(held.dir(), held.name(), marker, (to, name))
    {
        return Err((held, error));
    }
    held.move_to(to, name).map(drop)
}
