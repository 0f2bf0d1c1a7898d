//! Removes expired files: marks their records, durably, then removes each file that is still what its record
//! names.

use std::collections::BTreeMap;

use super::{Area, Error, ExpiredFile, Found, Scope};
use crate::{
    error::is_unavailable,
    failpoint, fs,
    ledger::{Record, RecordId},
    limits,
    protocol::{
        quarantine::is_reason_of,
        retention::{expired_reason, is_expired},
    },
    reason::Reason,
    source::{Removal, SourceError},
};

/// What a round removed from one area.
#[derive(Debug, Default)]
pub struct Removed {
    pub files: u64,
    pub bytes: u64,
    /// Files that were changed or moved since they were found.
    pub changed: u64,
    /// Files that cannot be removed.
    pub failed: u64,
    /// The error of the first one of them.
    pub error: Option<SourceError>,
}

impl Removed {
    /// Returns a result, or `None` after noting the error of one file: the others can be removed.
    fn passing<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Err(Error::Source(error)) if !is_unavailable(&error.source) => {
                self.failed += 1;
                self.error.get_or_insert(error);
                Ok(None)
            }
            result => result.map(Some),
        }
    }
}

/// Removes what was found. Blocks; a stop is noticed between two files, and then what was removed until then
/// is complete.
///
/// # Errors
///
/// The ledger, or a file system that is unavailable; an error of one file is in the result.
pub fn remove(scope: &Scope<'_>, found: &Found) -> Result<Removed, Error> {
    let mut removed = Removed::default();
    for (file, id) in &found.taken {
        scope.check_stop()?;
        let record = scope.ledger.record(*id)?;
        let path = record.as_ref().map(|record| record.moved_to.as_ref().unwrap_or(&record.source));
        let name = path.map(|path| fs::split(path).1.to_owned());
        let name = name.unwrap_or_else(|| format!("record-{id}").into());
        let restored = found.store.restore(file, &name).map_err(Error::from);
        removed.changed += u64::from(removed.passing(restored)?.is_some());
    }
    note_gone(scope, found)?;
    for batch in found.expired.chunks(limits::RETENTION_BATCH_FILES) {
        scope.check_stop()?;
        remove_batch(scope, found, batch, &mut removed)?;
    }
    Ok(removed)
}

/// Marks the records of quarantined files that an operator or an interrupted round removed, and removes their
/// reason files.
fn note_gone(scope: &Scope<'_>, found: &Found) -> Result<(), Error> {
    let unmarked = found.gone.iter().filter(|record| !is_expired(record));
    mark(scope, unmarked)?;
    for record in &found.gone {
        remove_reason(scope, found, record)?;
    }
    Ok(())
}

fn mark<'a>(scope: &Scope<'_>, records: impl Iterator<Item = &'a Record>) -> Result<(), Error> {
    let reasons: Vec<(RecordId, Option<Reason>)> = records
        .filter(|record| !is_expired(record))
        .map(|record| (record.id, Some(expired_reason(record))))
        .collect();
    if !reasons.is_empty() {
        scope.ledger.set_reasons(&reasons)?;
    }
    Ok(())
}

fn remove_batch(
    scope: &Scope<'_>,
    found: &Found,
    batch: &[ExpiredFile],
    removed: &mut Removed,
) -> Result<(), Error> {
    let mut equal = Vec::with_capacity(batch.len());
    for expired in batch {
        scope.check_stop()?;
        match removed.passing(is_recorded_content(found, expired))? {
            Some(true) => equal.push(expired),
            Some(false) => removed.changed += 1,
            None => {}
        }
    }
    mark(scope, equal.iter().map(|expired| &expired.record))?;
    failpoint::pass("retention::marked");
    let mut stays = Vec::new();
    let mut directories = BTreeMap::new();
    let mut result = Ok(());
    for expired in equal {
        let ExpiredFile { record, file, .. } = expired;
        let removal =
            scope.check_stop().and_then(|()| removed.passing(remove_file(scope, found, expired)));
        match removal {
            Ok(Some(Removal::Removed)) => {
                removed.files += 1;
                removed.bytes += file.identity.size;
                directories.insert(fs::split(&file.path).0, &file.path);
            }
            // It may be back in the input: its record is no longer that of a removed file.
            Ok(Some(Removal::Missing | Removal::Changed)) => {
                removed.changed += 1;
                stays.push((record.id, record.reason.clone()));
            }
            Ok(None) => stays.push((record.id, record.reason.clone())),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    if !stays.is_empty() {
        scope.ledger.set_reasons(&stays)?;
    }
    for path in directories.into_values() {
        found.store.sync(path)?;
    }
    result
}

fn is_recorded_content(found: &Found, expired: &ExpiredFile) -> Result<bool, Error> {
    let hash = expired.record.output.as_ref().map(|output| output.source_hash);
    Ok(!expired.by_content || hash == Some(found.store.content_hash(&expired.file.path)?))
}

fn remove_file(
    scope: &Scope<'_>,
    found: &Found,
    ExpiredFile { record, file, .. }: &ExpiredFile,
) -> Result<Removal, Error> {
    let removal = found.store.remove(file, record.id)?;
    if removal == Removal::Removed {
        failpoint::pass("retention::removed");
        remove_reason(scope, found, record)?;
    }
    Ok(removal)
}

/// Removes the reason file that was written for a quarantined file.
fn remove_reason(scope: &Scope<'_>, found: &Found, record: &Record) -> Result<(), Error> {
    let slot = record.moved_to.as_deref().filter(|_| found.area == Area::Quarantine);
    let path = slot.and_then(|slot| slot.strip_prefix(&scope.config.quarantine).ok());
    let Some(path) = path else { return Ok(()) };
    let reason = found.store.read_reason(path);
    if reason.is_ok_and(|reason| is_reason_of(&reason, &record.identity)) {
        found.store.remove_reason(path)?;
    }
    Ok(())
}
