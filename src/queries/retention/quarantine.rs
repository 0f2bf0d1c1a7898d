//! Finds the files of a quarantine that are older than the retention.

use std::{collections::BTreeMap, path::Path, time::Duration};

use super::{super::pages, Error, ExpiredFile, Found, Scope};
use crate::{
    ledger::{HistoryQuery, Record, State},
    limits,
    protocol::{
        quarantine::is_reason_of,
        retention::{Match, is_expired, match_moved},
    },
    source::{MovedFile, MovedFiles},
};

/// What a slot has of a record's file.
enum Slot {
    Expired(Box<ExpiredFile>),
    /// The file is gone, and its record is not marked, or its reason file is there.
    Gone,
    /// An interrupted removal took it, and it was changed since.
    Taken(MovedFile),
    /// Nothing is left to do, or another file has the slot.
    Other,
}

/// Searches the slots of the quarantined records of this pipeline.
pub(super) fn search(scope: &Scope<'_>, age: Duration, mut found: Found) -> Result<Found, Error> {
    let before_ns = scope.before_ns(age);
    let query = HistoryQuery { state: Some(State::Quarantined), ..HistoryQuery::default() };
    let mut oldest = BTreeMap::new();
    for records in pages(scope.ledger, query) {
        for record in records? {
            scope.check_stop()?;
            if record.pipeline != scope.id || record.at_ns >= before_ns {
                continue;
            }
            let slot = record.moved_to.as_deref();
            let root = &scope.config.quarantine;
            let Some(path) = slot.and_then(|slot| slot.strip_prefix(root).ok()) else { continue };
            match look(&*found.store, path, &record)? {
                Slot::Expired(expired) => {
                    oldest.insert((record.at_ns, record.id), expired);
                    if oldest.len() > limits::RETENTION_FILES_MAX {
                        oldest.pop_last();
                        found.has_more = true;
                    }
                }
                Slot::Gone if found.gone.len() < limits::RETENTION_FILES_MAX => {
                    found.gone.push(record);
                }
                Slot::Taken(file) => found.taken.push((file, record.id)),
                Slot::Gone | Slot::Other => {}
            }
        }
    }
    found.expired.extend(oldest.into_values().map(|expired: Box<ExpiredFile>| *expired));
    Ok(found)
}

fn look(store: &dyn MovedFiles, path: &Path, record: &Record) -> Result<Slot, Error> {
    let has_reason =
        || store.read_reason(path).is_ok_and(|reason| is_reason_of(&reason, &record.identity));
    let file = match store.look(path)? {
        None => store.taken(path, record.id)?,
        file => file,
    };
    let Some(file) = file else {
        let is_left = !is_expired(record) || has_reason();
        return Ok(if is_left { Slot::Gone } else { Slot::Other });
    };
    let is_it = match match_moved(record, &file.identity, store.may_renumber()) {
        Match::Yes => true,
        // Of a file that could not be read there is no hash: the reason file next to it decides.
        Match::ByContent => has_reason(),
        Match::No => false,
    };
    if file.taken_for.is_some() && !(is_it && file.names == 1) {
        return Ok(Slot::Taken(file));
    }
    if !is_it || file.names > 1 {
        return Ok(Slot::Other);
    }
    let record = record.clone();
    Ok(Slot::Expired(Box::new(ExpiredFile { record, file, by_content: false })))
}
