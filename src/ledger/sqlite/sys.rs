//! The one call of SQLite that its bindings leave unsafe.

#![expect(unsafe_code, reason = "no safe binding has this call")]

use std::io;

use rusqlite::{Connection, ffi};

/// Returns the system's error behind the last failure to read, write or open a file of the database
/// (`sqlite3_system_errno`).
pub(super) fn cause(connection: &Connection) -> io::Error {
    // SAFETY: the connection is open for as long as it is borrowed, and the call only reads a number.
    io::Error::from_raw_os_error(unsafe { ffi::sqlite3_system_errno(connection.handle()) })
}
