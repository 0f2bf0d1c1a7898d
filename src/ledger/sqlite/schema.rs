//! The database's schema, as a list of migrations.

use rusqlite::Connection;

/// Migration N brings a database of version N to version N + 1. A released migration is never
/// changed.
///
/// Sources are found by a 64-bit hash of pipeline and path; the path is compared after that. The
/// two lowest states are those that recovery must finish.
const MIGRATIONS: [&str; 7] = [
    "
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('instance', lower(hex(randomblob(4)))), ('in_use', '0');

CREATE TABLE pipelines (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    input  BLOB NOT NULL,
    output BLOB NOT NULL,
    UNIQUE (input, output)
);

CREATE TABLE records (
    id              INTEGER PRIMARY KEY,
    pipeline        INTEGER NOT NULL REFERENCES pipelines (id),
    state           INTEGER NOT NULL,
    at_ns           INTEGER NOT NULL,
    source_key      INTEGER NOT NULL,
    source          BLOB NOT NULL,
    device          INTEGER NOT NULL,
    inode           INTEGER NOT NULL,
    size            INTEGER NOT NULL,
    modified_ns     INTEGER NOT NULL,
    changed_ns      INTEGER NOT NULL,
    on_success      TEXT NOT NULL,
    archive         BLOB,
    reason          TEXT,
    moved_to        BLOB,
    output          BLOB,
    temp            BLOB,
    out_device      INTEGER,
    out_inode       INTEGER,
    out_size        INTEGER,
    out_modified_ns INTEGER,
    out_changed_ns  INTEGER,
    out_hash        BLOB,
    source_hash     BLOB,
    replaces        BLOB
);
CREATE INDEX by_source ON records (source_key);
CREATE INDEX unfinished ON records (state) WHERE state < 2;
",
    "
CREATE INDEX quarantined ON records (state) WHERE state = 5;
",
    // A frequent name has many records: the look-ups by inode and by state need not read them. With
    // `IN` SQLite would build a table of the list for each row that is written.
    "
ALTER TABLE records ADD COLUMN steps TEXT;
CREATE INDEX published_inodes ON records (source_key, inode) WHERE (state = 1 OR state = 2 OR state = 7);
INSERT INTO meta VALUES ('boot', ''), ('boot_first_id', '0');
",
    "
ALTER TABLE records RENAME COLUMN steps TO transforms;
",
    "
ALTER TABLE records ADD COLUMN reason_code TEXT;
",
    "
ALTER TABLE records RENAME COLUMN modified_ns TO mtime_ns;
ALTER TABLE records RENAME COLUMN changed_ns TO ctime_ns;
ALTER TABLE records RENAME COLUMN out_modified_ns TO out_mtime_ns;
ALTER TABLE records RENAME COLUMN out_changed_ns TO out_ctime_ns;
DROP INDEX published_inodes;
CREATE INDEX published_inodes ON records (source_key, inode) WHERE (state = 1 OR state = 2 OR state = 7 OR (state = 5 OR state = 6) AND output IS NOT NULL);
",
    "
ALTER TABLE records ADD COLUMN output_sum BLOB;
",
];

#[expect(clippy::cast_possible_truncation, reason = "a short list")]
const VERSION: u32 = MIGRATIONS.len() as u32;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "a newer Tidemill made it (schema {found}, this version supports {supported}); hint: use that version or another state directory"
    )]
    Newer { found: u32, supported: u32 },
    #[error("an older Tidemill made it; hint: start the service once to migrate it")]
    Older,
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

fn version(connection: &Connection) -> Result<u32, Error> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > VERSION {
        return Err(Error::Newer { found, supported: VERSION });
    }
    Ok(found)
}

/// Migrates the database to the newest version, one transaction for each migration.
pub fn migrate(connection: &mut Connection) -> Result<(), Error> {
    let found = version(connection)?;
    for (number, migration) in (0..).zip(MIGRATIONS).skip_while(|(number, _)| *number < found) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", number + 1_u32)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Checks whether this version can read the schema.
pub fn check(connection: &Connection) -> Result<(), Error> {
    if version(connection)? == VERSION { Ok(()) } else { Err(Error::Older) }
}
