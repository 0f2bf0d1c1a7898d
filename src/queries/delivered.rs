//! The outcome of a file that was delivered into an input.

use std::path::Path;

use crate::{
    fingerprint::Fingerprint,
    ledger::{self, Ledger, PipelineDirs, Record, State},
};

/// Returns the pair of directories whose input has this path, and the path below it; of several, the nearest.
#[must_use]
pub fn pipeline_of<'a, 'p>(
    roots: &'a [PipelineDirs],
    path: &'p Path,
) -> Option<(&'a PipelineDirs, &'p Path)> {
    let below = |dirs: &'a PipelineDirs| Some((dirs, path.strip_prefix(&dirs.input).ok()?));
    // Among equal ones the first: those of the configuration come first.
    roots.iter().rev().filter_map(below).min_by_key(|(_, source)| source.components().count())
}

/// Returns the record of this delivery if it is finished: its output is published, or it is in quarantine or was
/// skipped. Its output may have been published under an older record if the same file was delivered before.
pub fn outcome(
    ledger: &dyn Ledger,
    dirs: &PipelineDirs,
    source: &Path,
    delivered: &Fingerprint,
) -> ledger::Result<Option<Record>> {
    let is_it = |record: &Record| {
        let same = delivered.matches_content(&record.identity);
        // Where inode numbers do not last.
        same || delivered.is_copy_of(&record.identity)
    };
    let newest = ledger.latest(dirs.id, source)?.filter(is_it);
    let record = match newest {
        None => ledger.latest_of_file(dirs.id, source, delivered)?,
        newest => newest,
    };
    let is_finished = |record: &Record| match record.state {
        State::Published | State::Done | State::Changed | State::Skipped | State::Quarantined => {
            true
        }
        State::Intent | State::Withdrawn | State::Requeued => false,
    };
    Ok(record.filter(is_finished))
}
