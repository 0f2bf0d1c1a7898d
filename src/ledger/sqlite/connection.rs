//! Creates and opens database files, and maps their errors.

use std::{fs::File, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::super::{Error, ErrorKind, Result};

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
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(|error| ledger_error(path, "set up", error))?;
    Ok(connection)
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
        _ => ErrorKind::Failed,
    };
    Error { path: path.to_path_buf(), action, kind, source }
}
