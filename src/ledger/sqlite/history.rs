//! The history: its pages, and the removal of records that nothing needs.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    super::{HistoryQuery, PipelineId, Record, RecordId, State},
    rows,
};
use crate::{fingerprint::Fingerprint, reason::Reason};

/// The newest record stays, because it has the highest number that was given.
const DELETE: &str = "DELETE FROM records WHERE id = ?1 AND state > 1
    AND id < (SELECT max(id) FROM records)
    AND NOT EXISTS (SELECT 1 FROM records AS older
        WHERE older.source_key = records.source_key AND older.id < records.id
        AND older.pipeline = records.pipeline AND older.source = records.source)";

pub fn page(connection: &Connection, query: &HistoryQuery) -> rusqlite::Result<Vec<Record>> {
    let HistoryQuery { state, since_ns, limit, before } = query;
    let limit = limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let last = before.map_or(RecordId::MAX, |before| before.saturating_sub(1));
    if *state == Some(State::Quarantined) {
        let mut statement = connection.prepare_cached(rows::SELECT_QUARANTINED)?;
        let values = params![last, since_ns, limit];
        return statement.query_map(values, rows::record)?.collect();
    }
    let mut statement = connection.prepare_cached(rows::SELECT_HISTORY)?;
    let values = params![last, since_ns, limit, state.map(rows::number)];
    let records = statement.query_map(values, rows::record)?;
    records.collect()
}

pub fn finished(
    connection: &Connection,
    after: RecordId,
    limit: u64,
) -> rusqlite::Result<Vec<Record>> {
    let mut statement = connection.prepare_cached(rows::SELECT_FINISHED)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    statement.query_map([after, limit], rows::record)?.collect()
}

pub fn archived(
    connection: &Connection,
    (pipeline, source): (PipelineId, &std::path::Path),
    found: &Fingerprint,
) -> rusqlite::Result<Option<Record>> {
    let mut statement = connection.prepare_cached(rows::SELECT_ARCHIVED)?;
    let (key, source) = (rows::key(pipeline, source), rows::bytes(source));
    let (inode, size) = (found.inode.cast_signed(), found.size.cast_signed());
    let values = params![key, pipeline, source, size, found.mtime_ns, inode];
    statement.query_row(values, rows::record).optional()
}

pub fn set_reasons(
    connection: &Connection,
    reasons: &[(RecordId, Option<Reason>)],
) -> rusqlite::Result<()> {
    let sql = "UPDATE records SET reason = ?2, reason_code = ?3 WHERE id = ?1 AND state > 1";
    let mut statement = connection.prepare_cached(sql)?;
    reasons.iter().try_for_each(|(id, reason)| {
        let text = reason.as_ref().map(|reason| reason.text.as_str());
        let code = reason.as_ref().map(|reason| reason.code.as_str());
        statement.execute(params![id, text, code]).map(drop)
    })
}

/// Removes records in the order of their numbers; returns the number of those that it removed.
pub fn remove(connection: &Connection, ids: &[RecordId]) -> rusqlite::Result<u64> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    let mut statement = connection.prepare_cached(DELETE)?;
    ids.iter().try_fold(0, |removed, id| Ok(removed + statement.execute([id])? as u64))
}
