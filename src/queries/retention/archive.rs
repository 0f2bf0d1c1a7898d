//! Finds the files of an archive that are older than the retention, or exceed its size.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{Error, ExpiredFile, Found, Scope};
use crate::{
    error::is_unavailable,
    ledger::{Record, RecordId},
    limits,
    protocol::retention::{Match, archived_sources, is_expired, match_archived, match_moved},
    source::{MovedFile, MovedFiles},
};

/// The files of the oldest records, by their times and numbers.
type Oldest = BTreeMap<(i64, RecordId, PathBuf), ExpiredFile>;

/// Searches the archive at this root. Every record is looked up by its path and identity, so that files of
/// others, changed files, and files with further names count for nothing.
pub(super) fn search(scope: &Scope<'_>, root: &Path, mut found: Found) -> Result<Found, Error> {
    let mut oldest = Oldest::new();
    let (mut count, mut bytes) = (0_usize, 0_u64);
    let before_ns = scope.rules.archive.map(|age| scope.before_ns(age));
    let is_old = |record: &Record| before_ns.is_some_and(|before| record.at_ns < before);
    let mut old_count = 0_usize;
    for file in found.store.files() {
        scope.check_stop()?;
        let file = match file {
            // What a directory that cannot be listed has is not known: every record may be needed.
            Err(error) if !is_unavailable(&error.source) => {
                found.oldest = 0;
                found.error.get_or_insert(error);
                continue;
            }
            file => file?,
        };
        if let Some(id) = file.taken_for {
            match scope.ledger.record(id)?.filter(|record| may_finish(record, &file)) {
                Some(record) => {
                    found.expired.push(ExpiredFile { record, file, by_content: false });
                }
                None => found.taken.push((file, id)),
            }
            continue;
        }
        let Some(expired) = find_record(scope, root, &*found.store, file)? else { continue };
        let ExpiredFile { record, file, .. } = &expired;
        (count, bytes) = (count + 1, bytes + file.identity.size);
        old_count += usize::from(is_old(record));
        found.oldest = found.oldest.min(record.id);
        oldest.insert((record.at_ns, record.id, file.path.clone()), expired);
        if oldest.len() > limits::RETENTION_FILES_MAX {
            oldest.pop_last();
        }
    }
    let is_above = |bytes| scope.rules.archive_size.is_some_and(|most| bytes > most);
    let mut compared = 0;
    for expired in oldest.into_values() {
        if !is_old(&expired.record) && !is_above(bytes) {
            break;
        }
        let size = expired.file.identity.size;
        if expired.by_content {
            let is_first = compared == 0;
            compared += size;
            if compared > limits::RETENTION_COMPARED_BYTES_MAX && !is_first {
                found.has_more = true;
                return Ok(found);
            }
        }
        bytes -= size;
        found.expired.push(expired);
    }
    let removed = found.expired.len();
    found.has_more = old_count > removed || removed < count && is_above(bytes);
    Ok(found)
}

/// Checks whether an interrupted removal of this file is to be finished.
fn may_finish(record: &Record, file: &MovedFile) -> bool {
    is_expired(record) && match_moved(record, &file.identity, true) == Match::Yes
}

/// Returns a file with the record that names it.
fn find_record(
    scope: &Scope<'_>,
    root: &Path,
    store: &dyn MovedFiles,
    file: MovedFile,
) -> Result<Option<ExpiredFile>, Error> {
    if file.names > 1 {
        return Ok(None);
    }
    let sources: Vec<_> = archived_sources(&file.path).collect();
    for source in sources {
        let record = scope.ledger.archived(scope.id, &source, &file.identity)?;
        let Some(record) = record else { continue };
        let matches = match_archived(&record, root, &file.identity, store.may_renumber());
        if matches != Match::No {
            let by_content = matches == Match::ByContent;
            return Ok(Some(ExpiredFile { record, file, by_content }));
        }
    }
    Ok(None)
}
