//! The outcome of a file that was delivered into an input.

use std::path::Path;

use crate::{
    fingerprint::Fingerprint,
    ledger::{self, Ledger, PipelineDirs, Record, RecordId, State},
};

/// Returns the pair of directories whose input has this path, and the path below it; of several, the nearest.
#[must_use]
pub fn pipeline_of<'a, 'p>(
    roots: &'a [PipelineDirs],
    path: &'p Path,
) -> Option<(&'a PipelineDirs, &'p Path)> {
    let below = |dirs: &'a PipelineDirs| Some((dirs, path.strip_prefix(&dirs.input).ok()?));
    // Among equal ones the first: those of the configuration come first.
    roots.iter().filter_map(below).min_by_key(|(_, source)| source.components().count())
}

/// Returns the record of this delivery if it is finished: its output is published, or it is in quarantine or was
/// skipped. Only records after `after` count, the newest one of the path before the delivery: an earlier delivery
/// can have had the same size, time and inode.
pub fn outcome(
    ledger: &dyn Ledger,
    dirs: &PipelineDirs,
    source: &Path,
    delivered: &Fingerprint,
    after: Option<RecordId>,
) -> ledger::Result<Option<Record>> {
    let is_it = |record: &Record| {
        let same = delivered.matches_content(&record.identity);
        // Where inode numbers do not last.
        let is_later = after.is_none_or(|after| record.id > after);
        is_later && (same || delivered.is_copy_of(&record.identity))
    };
    let newest = ledger.latest(dirs.id, source)?.filter(is_it);
    let record = match newest {
        None => ledger.latest_of_file(dirs.id, source, delivered)?.filter(is_it),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_pipelines_with_one_input_the_configured_one_is_meant() {
        let dirs = |id, input: &str| PipelineDirs {
            id,
            name: "main".to_owned(),
            input: input.into(),
            output: "/out".into(),
        };
        let roots = [dirs(2, "/in"), dirs(1, "/in"), dirs(3, "/in/below")];
        let id = |path: &str| pipeline_of(&roots, path.as_ref()).map(|(dirs, _)| dirs.id);
        assert_eq!(id("/in/a"), Some(2));
        assert_eq!(id("/in/below/a"), Some(3));
        assert_eq!(id("/elsewhere/a"), None);
    }
}
