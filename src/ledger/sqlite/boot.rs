//! Finds the records that were made since the machine booted.

use rusqlite::Connection;

use super::RecordId;

/// Returns the number of the first record of this boot, which is stored with the boot's identifier;
/// a boot without one begins with each start.
pub fn first_record(
    connection: &Connection,
    boot: &str,
    next: RecordId,
) -> rusqlite::Result<RecordId> {
    let sql = "SELECT value FROM meta WHERE name = 'boot'";
    let stored: String = connection.query_row(sql, [], |row| row.get(0))?;
    if stored == boot && !boot.is_empty() {
        let sql = "SELECT value FROM meta WHERE name = 'boot_first_id'";
        let first: String = connection.query_row(sql, [], |row| row.get(0))?;
        return Ok(first.parse().unwrap_or(next));
    }
    let sql = "UPDATE meta SET value = ?2 WHERE name = ?1";
    connection.execute(sql, ["boot", boot])?;
    connection.execute(sql, ["boot_first_id", &next.to_string()])?;
    Ok(next)
}
