//! How a database file is made and opened, and what its errors say.

use std::{fs::File, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::super::{Error, ErrorKind, Result};

/// How long another process's write, that of `tidemill requeue`, may hold one up. After that nothing
/// of the write is done, and its files wait.
pub(super) const BUSY: Duration = Duration::from_secs(5);

/// Private to its owner: it names files that others may not list.
pub(super) fn create(path: &Path) -> std::io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}

pub(super) fn sync_parent(path: &Path) -> std::io::Result<()> {
    File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
}

pub(super) fn connect(path: &Path, mode: OpenFlags) -> Result<Connection> {
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| failed(path, "open", error))?;
    connection.busy_timeout(BUSY).map_err(|error| failed(path, "set up", error))?;
    connection.set_prepared_statement_cache_capacity(32);
    // Without this SQLite plans a statement anew for each bound value, because of the partial index.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(|error| failed(path, "set up", error))?;
    Ok(connection)
}

pub(super) fn failed(
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
