//! Converts records to rows and back.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, Row, Statement, params, types::Type};

use super::super::{Hash, Output, PipelineDirs, PipelineEnd, PipelineId, Record, Replaced, State};
use crate::{fingerprint::Fingerprint, policy::OnSuccess, reason::Reason};

/// The columns of a record, in the order of [`record`] and [`insert`].
macro_rules! columns {
    () => {
        "id, pipeline, state, at_ns, source, device, inode, size, mtime_ns, ctime_ns, \
         on_success, archive, reason, moved_to, output, temp, out_device, out_inode, out_size, \
         out_mtime_ns, out_ctime_ns, out_hash, source_hash, replaces, transforms, \
         reason_code, output_sum"
    };
}

pub const INSERT: &str = concat!(
    "INSERT OR REPLACE INTO records (",
    columns!(),
    ", source_key) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ",
    "?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28)"
);
pub const SELECT_BY_ID: &str = concat!("SELECT ", columns!(), " FROM records WHERE id = ?1");
pub const SELECT_BY_SOURCE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM records WHERE source_key = ?1 AND pipeline = ?2 AND source = ?3 AND state <> 3",
    " ORDER BY id DESC LIMIT 1"
);
pub const SELECT_PUBLISHED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM records WHERE source_key = ?1 AND pipeline = ?2 AND source = ?3",
    " AND (state = 1 OR state = 2 OR state = 7 OR state = 6 AND output IS NOT NULL) ORDER BY id DESC LIMIT 1"
);
pub const SELECT_OF_INODE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM records WHERE source_key = ?1 AND pipeline = ?2 AND source = ?3 AND inode = ?4",
    " AND (state = 1 OR state = 2 OR state = 7 OR (state = 5 OR state = 6) AND output IS NOT NULL)",
    " ORDER BY id DESC LIMIT 1"
);
pub const SELECT_OF_FILE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM records WHERE source_key = ?1 AND pipeline = ?2 AND source = ?3 AND inode = ?4",
    " AND size = ?5 AND mtime_ns = ?6",
    " AND (state = 1 OR state = 2 OR state = 7) ORDER BY ctime_ns = ?7 DESC, id DESC LIMIT 1"
);
/// Without an index: operators' queries use it, and a file that is in an output's place.
pub const SELECT_BY_OUTPUT: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM records WHERE pipeline = ?1 AND output = ?2",
    " AND state IN (0, 1, 2, 6, 7) ORDER BY id DESC LIMIT 1"
);
pub const SELECT_UNFINISHED: &str =
    concat!("SELECT ", columns!(), " FROM records WHERE state < 2 ORDER BY id");
pub const SELECT_HISTORY: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM records WHERE id <= ?1 AND (?2 IS NULL OR at_ns >= ?2)",
    " AND (?4 IS NULL OR state = ?4) ORDER BY id DESC LIMIT ?3"
);
pub const SELECT_FINISHED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM records WHERE id > ?1 AND state > 1 ORDER BY id LIMIT ?2"
);
pub const SELECT_ARCHIVED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM records WHERE source_key = ?1 AND pipeline = ?2 AND source = ?3 AND size = ?4",
    " AND mtime_ns = ?5 AND state = 2 AND archive IS NOT NULL",
    " ORDER BY inode = ?6 DESC, id DESC LIMIT 1"
);
/// As [`SELECT_HISTORY`], by the index of quarantined records.
pub const SELECT_QUARANTINED: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM records WHERE state = 5 AND id <= ?1 AND (?2 IS NULL OR at_ns >= ?2)",
    " ORDER BY id DESC LIMIT ?3"
);

/// Returns a state's number, as the statements contain it. States 0, 1, 2 and 7 published or may
/// publish; 0 and 1 are unfinished.
pub const fn number(state: State) -> u8 {
    match state {
        State::Intent => 0,
        State::Published => 1,
        State::Done => 2,
        State::Withdrawn => 3,
        State::Skipped => 4,
        State::Quarantined => 5,
        State::Requeued => 6,
        State::Changed => 7,
    }
}

const STATES: [State; 8] = [
    State::Intent,
    State::Published,
    State::Done,
    State::Withdrawn,
    State::Skipped,
    State::Quarantined,
    State::Requeued,
    State::Changed,
];

/// Returns a value of the ledger itself.
pub fn meta(connection: &Connection, name: &str) -> rusqlite::Result<String> {
    connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
}

/// Returns the name of the value that has the inode of an end of a pipeline.
pub fn root_key(pipeline: PipelineId, end: PipelineEnd) -> String {
    match end {
        PipelineEnd::Input => format!("input {pipeline}"),
        PipelineEnd::Output => format!("output {pipeline}"),
    }
}

pub fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn path(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

/// Returns the key of a path: 32 bits of the BLAKE3 of pipeline and directory, then 32 of the
/// name's. Files of one directory are neighbours in the index, so a batch touches few of its pages.
pub fn key(pipeline: PipelineId, path: &Path) -> i64 {
    let parent = path.parent().unwrap_or_else(|| Path::new(""));
    let mut hasher = blake3::Hasher::new();
    hasher.update(&pipeline.to_le_bytes()).update(bytes(parent));
    let directory = first_bits(&hasher.finalize());
    let name = first_bits(&blake3::hash(path.file_name().unwrap_or_default().as_bytes()));
    (i64::from(directory) << 32) | i64::from(name)
}

fn first_bits(hash: &blake3::Hash) -> u32 {
    u32::from_le_bytes(hash.as_bytes().first_chunk().copied().unwrap_or_default())
}

/// Converts an unsigned number, keeping its bits.
const fn to_signed(number: u64) -> i64 {
    number.cast_signed()
}

pub fn insert(statement: &mut Statement<'_>, record: &Record) -> rusqlite::Result<()> {
    let Record { id, pipeline, source, identity, output, on_success, .. } = record;
    let (disposition, archive) = match on_success {
        OnSuccess::Keep => ("keep", None),
        OnSuccess::Delete => ("delete", None),
        OnSuccess::Archive(dir) => ("archive", Some(bytes(dir))),
    };
    let out = output.as_ref();
    let out_identity = out.map(|output| output.identity);
    statement.execute(params![
        id,
        pipeline,
        number(record.state),
        record.at_ns,
        bytes(source),
        to_signed(identity.device),
        to_signed(identity.inode),
        to_signed(identity.size),
        identity.mtime_ns,
        identity.ctime_ns,
        disposition,
        archive,
        record.reason_text(),
        record.moved_to.as_deref().map(bytes),
        out.map(|output| bytes(&output.path)),
        out.map(|output| output.temp.as_bytes()),
        out_identity.map(|identity| to_signed(identity.device)),
        out_identity.map(|identity| to_signed(identity.inode)),
        out_identity.map(|identity| to_signed(identity.size)),
        out_identity.map(|identity| identity.mtime_ns),
        out_identity.map(|identity| identity.ctime_ns),
        out.map(|output| output.hash),
        out.map(|output| output.source_hash),
        out.and_then(|output| output.replaces).map(|replaced| pack_replaced(&replaced)),
        out.map(|output| output.transforms.as_str()),
        record.reason.as_ref().map(|reason| reason.code.as_str()),
        out.and_then(|output| output.sha256),
        key(*pipeline, source),
    ])?;
    Ok(())
}

pub fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let state: u8 = row.get(2)?;
    let disposition: String = row.get(10)?;
    let archive: Option<Vec<u8>> = row.get(11)?;
    let on_success = match (disposition.as_str(), archive) {
        ("keep", _) => OnSuccess::Keep,
        ("delete", _) => OnSuccess::Delete,
        ("archive", Some(dir)) => OnSuccess::Archive(path(dir)),
        _ => return Err(unknown(10, Type::Text)),
    };
    let moved_to: Option<Vec<u8>> = row.get(13)?;
    Ok(Record {
        id: row.get(0)?,
        pipeline: row.get(1)?,
        state: *STATES.get(usize::from(state)).ok_or_else(|| unknown(2, Type::Integer))?,
        at_ns: row.get(3)?,
        source: path(row.get(4)?),
        identity: identity(row, 5)?,
        on_success,
        reason: reason(row)?,
        moved_to: moved_to.map(path),
        output: output(row)?,
    })
}

fn reason(row: &Row<'_>) -> rusqlite::Result<Option<Reason>> {
    let (text, code): (Option<String>, Option<String>) = (row.get(12)?, row.get(25)?);
    Ok(text.map(|text| Reason::stored(code.as_deref(), text)))
}

fn output(row: &Row<'_>) -> rusqlite::Result<Option<Output>> {
    let Some(output) = row.get::<_, Option<Vec<u8>>>(14)? else {
        return Ok(None);
    };
    let replaces: Option<Vec<u8>> = row.get(23)?;
    let transforms: Option<String> = row.get(24)?;
    Ok(Some(Output {
        path: path(output),
        temp: OsString::from_vec(row.get(15)?),
        identity: identity(row, 16)?,
        hash: row.get::<_, Hash>(21)?,
        source_hash: row.get::<_, Hash>(22)?,
        replaces: replaces.as_deref().map(unpack_replaced),
        transforms: transforms.unwrap_or_default(),
        sha256: row.get(26)?,
    }))
}

fn identity(row: &Row<'_>, first: usize) -> rusqlite::Result<Fingerprint> {
    let unsigned = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
    Ok(Fingerprint {
        device: unsigned(first)?,
        inode: unsigned(first + 1)?,
        size: unsigned(first + 2)?,
        mtime_ns: row.get(first + 3)?,
        ctime_ns: row.get(first + 4)?,
    })
}

/// Packs the fields that are always read together: five numbers, little-endian, the hash and the digest
/// of the checksum file, as far as they are known. The length shows which: a zero byte is before a digest alone.
fn pack_replaced(replaced: &Replaced) -> Vec<u8> {
    let Fingerprint { device, inode, size, mtime_ns, ctime_ns } = replaced.identity;
    let numbers = [device, inode, size, mtime_ns.cast_unsigned(), ctime_ns.cast_unsigned()];
    let mut packed: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
    packed.extend(replaced.hash.iter().flatten());
    if replaced.hash.is_none() && replaced.sha256.is_some() {
        packed.push(0);
    }
    packed.extend(replaced.sha256.iter().flatten());
    packed
}

fn unpack_replaced(packed: &[u8]) -> Replaced {
    let number = |index: usize| {
        let bytes = packed.get(index * 8..).and_then(|rest| rest.first_chunk());
        u64::from_le_bytes(bytes.copied().unwrap_or_default())
    };
    let identity = Fingerprint {
        device: number(0),
        inode: number(1),
        size: number(2),
        mtime_ns: number(3).cast_signed(),
        ctime_ns: number(4).cast_signed(),
    };
    let bytes = |start| packed.get(start..).and_then(|rest| rest.first_chunk::<32>()).copied();
    let (hash, sha256) = match packed.len() {
        73 => (None, bytes(41)),
        _ => (bytes(40), bytes(72)),
    };
    Replaced { identity, hash, sha256 }
}

pub fn roots(row: &Row<'_>) -> rusqlite::Result<PipelineDirs> {
    Ok(PipelineDirs {
        id: row.get(0)?,
        name: row.get(1)?,
        input: path(row.get(2)?),
        output: path(row.get(3)?),
    })
}

fn unknown(column: usize, kind: Type) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, "value unknown to this version".into())
}
