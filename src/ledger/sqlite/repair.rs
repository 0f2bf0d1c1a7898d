//! Makes durable what an interrupted run may have failed to write.
//!
//! After a failed sync the content that is not on the disk is in the kernel's memory, as if it were written
//! (`page_cache.rs`). SQLite would read the log there, append to it, and sync: after a power loss the log would
//! have a hole, and every commit behind it would be lost.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use rusqlite::OpenFlags;

use super::{
    super::Result,
    connection::{connect, ledger_error, make_durable, with_full},
    writer::Writer,
};
use crate::page_cache::{drop_cached, rewrite};

/// Writes the log again, and moves it into the database. A clean stop leaves no log. Other processes can read
/// meanwhile, and see no change; a transaction that writes is waited for.
pub fn repair(path: &Path) -> Result<()> {
    let failed = |error| ledger_error(path, "repair", error);
    // SQLite follows a link, and keeps the log where it leads.
    let target = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        target => target.map_err(failed)?,
    };
    let mut log = target.into_os_string();
    log.push("-wal");
    match fs::metadata(&log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found if found.as_ref().is_ok_and(|log| log.len() == 0) => return Ok(()),
        found => found.map_err(failed)?,
    };
    // Closed after the connection: closing it drops all locks that this process has on the file.
    let database = File::open(path).map_err(failed)?;
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    make_durable(path, &connection)?;
    let execute = |sql| {
        let executed = connection.execute_batch(sql).map_err(|error| with_full(&connection, error));
        executed.map_err(|error| ledger_error(path, "repair", error))
    };
    execute("BEGIN IMMEDIATE")?;
    File::options()
        .read(true)
        .write(true)
        .open(log)
        .and_then(|log| rewrite(&log, 0).and_then(|()| log.sync_data()))
        // What a checkpoint failed to write is in the log. Its next one allocates it again.
        .and_then(|()| database.sync_data())
        .and_then(|()| drop_cached(&database))
        .map_err(failed)?;
    execute("ROLLBACK")?;
    Writer::new(connection).close().map_err(|error| ledger_error(path, "repair", error))
}
