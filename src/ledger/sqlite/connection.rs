//! Creates and opens database files, and maps their errors.

use std::{fs::File, io, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig, ffi};

use super::{
    super::{Error, ErrorKind, Result},
    schema, sys,
};

/// How long another process's write, such as `tidemill requeue`, may hold up a write. After that
/// nothing is written, and its files wait.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Creates the file, private to its owner: it names files that others may not list.
pub(super) fn create(path: &Path) -> std::io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}

pub(super) fn sync_parent(path: &Path) -> std::io::Result<()> {
    File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
}

pub(super) fn connect(path: &Path, mode: OpenFlags) -> Result<Connection> {
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|error| ledger_error(path, "open", error))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| ledger_error(path, "set up", error))?;
    connection.set_prepared_statement_cache_capacity(32);
    // Without this SQLite plans a statement again for each bound value, because of the partial
    // index.
    // A connection that closes would also make a checkpoint, drop its errors, and remove the log.
    for option in
        [DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE]
    {
        let set = connection.set_db_config(option, true);
        set.map_err(|error| ledger_error(path, "set up", error))?;
    }
    Ok(connection)
}

/// Makes each commit durable, and leaves the checkpoints to the writer.
pub(super) fn make_durable(path: &Path, writer: &Connection) -> Result<()> {
    writer
        .pragma_update(None, "journal_mode", "wal")
        .and_then(|()| writer.pragma_update(None, "synchronous", "full"))
        .and_then(|()| writer.pragma_update(None, "wal_autocheckpoint", 0))
        .map_err(|error| with_full(writer, error))
        .map_err(|error| ledger_error(path, "set up", error))
}

/// Migrates the schema to the newest version.
pub(super) fn migrate(path: &Path, writer: &mut Connection) -> Result<()> {
    schema::migrate(writer).map_err(|error| match error {
        schema::Error::Sqlite(error) => ledger_error(path, "migrate", with_full(writer, error)),
        error => ledger_error(path, "migrate", error),
    })
}

/// Returns [`ErrorCode::DiskFull`](rusqlite::ErrorCode::DiskFull) for every write that found no space.
/// SQLite itself returns it for ENOSPC only, and not for its `-shm` file. Not for a sync: it is unknown
/// what that made durable.
pub(super) fn with_full(connection: &Connection, error: rusqlite::Error) -> rusqlite::Error {
    let is_write = error.sqlite_error().is_some_and(|error| {
        matches!(error.extended_code, ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE)
    });
    if !is_write {
        return error;
    }
    let cause = sys::cause(connection);
    if is_full(&cause) {
        let full = ffi::Error::new(ffi::SQLITE_FULL);
        rusqlite::Error::SqliteFailure(full, Some(cause.to_string()))
    } else {
        error
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

pub(super) fn ledger_error(
    path: &Path,
    action: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    let source = source.into();
    let code =
        source.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    let kind = match code {
        Some(rusqlite::ErrorCode::DiskFull) => ErrorKind::Full,
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
            ErrorKind::Busy
        }
        _ if source.downcast_ref::<io::Error>().is_some_and(is_full) => ErrorKind::Full,
        _ => ErrorKind::Failed,
    };
    Error { path: path.to_path_buf(), action, kind, source }
}
