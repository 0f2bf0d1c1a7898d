//! The ledger as an embedded SQLite database, in write-ahead mode.
//!
//! One connection writes and one reads, so that a look-up never waits for an `fsync` of a writer. A
//! [`Flush::Now`] write commits with `synchronous=FULL`: SQLite syncs its log before the commit
//! returns, and with it every earlier commit (sqlite.org/wal.html, sqlite.org/pragma.html). A
//! [`Flush::Deferred`] write commits with `synchronous=NORMAL`: it is in the log, where a kill of
//! the process cannot take it, and the next `Now`, checkpoint or [`Ledger::flush`] syncs it.

mod boot;
mod connection;
mod history;
mod repair;
mod rows;
mod schema;
mod sys;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension, ToSql, params};

use super::{
    ErrorKind, Flush, HistoryQuery, Ledger, PipelineDirs, PipelineEnd, PipelineId,
    PreviousShutdown, Record, RecordId, Result, Session, StateUpdate, session::LAST_ID,
};
use crate::{failpoint, fingerprint::Fingerprint, reason::Reason, sync::Mutex};
use connection::{connect, create, ledger_error, make_durable, migrate, sync_parent};
use repair::repair;
use writer::Writer;

/// The first value of `in_use` in `meta`. It is [`IN_USE`] during use, and the boot of a clean stop
/// after that.
const NEVER_USED: &str = "0";
/// The value of `in_use` during use.
const IN_USE: &str = "1";

/// The embedded ledger. Dropping it closes the database; [`Ledger::leave`] marks a clean stop first.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    instance: String,
    writer: Mutex<Writer>,
    reader: Mutex<Connection>,
    session: Session,
    /// A durable write failed: it is unknown how much reached the disk, so nothing more is written.
    broken: AtomicBool,
}

impl Sqlite {
    /// Opens the ledger, creates it if it does not exist, and migrates its schema.
    pub fn open(path: &Path) -> Result<Self> {
        let is_new = !path.exists();
        if is_new {
            create(path).map_err(|error| ledger_error(path, "create", error))?;
        }
        failpoint::barrier("barrier::rewritten_ledger", || repair(path))?;
        let mut writer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        make_durable(path, &writer)?;
        migrate(path, &mut writer)?;
        if is_new {
            failpoint::barrier("barrier::ledger_directory", || sync_parent(path))
                .map_err(|error| ledger_error(path, "make durable", error))?;
        }
        Self::with_writer(path, Writer::new(writer))
    }

    /// Opens an existing ledger to write to it next to a service that may use it, also an older one:
    /// the schema stays as it is.
    ///
    /// # Errors
    ///
    /// Another version made the schema.
    pub fn open_existing(path: &Path) -> Result<Self> {
        let writer = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        schema::check(&writer).map_err(|error| ledger_error(path, "use", error))?;
        writer
            .pragma_update(None, "wal_autocheckpoint", 0)
            .map_err(|error| ledger_error(path, "set up", error))?;
        Self::with_writer(path, Writer::without_checkpoints(writer))
    }

    /// Opens the ledger read-only, next to a service that uses it.
    pub fn open_read_only(path: &Path) -> Result<Self> {
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        schema::check(&connection).map_err(|error| ledger_error(path, "read", error))?;
        Self::with_writer(path, Writer::without_checkpoints(connection))
    }

    fn with_writer(path: &Path, writer: Writer) -> Result<Self> {
        let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let read = || -> rusqlite::Result<(String, i64, String)> {
            let sql = "SELECT coalesce(max(id), 0) FROM records";
            let last_id = reader.query_row(sql, [], |row| row.get(0))?;
            Ok((rows::meta(&reader, "instance")?, last_id, rows::meta(&reader, "boot_first_id")?))
        };
        let (instance, last_id, boot_first_id) =
            read().map_err(|error| ledger_error(path, "read", error))?;
        if !(0..=LAST_ID).contains(&last_id) {
            let damaged = format!("record number {last_id} is out of range: the ledger is damaged");
            return Err(ledger_error(path, "read", damaged));
        }
        Ok(Self {
            path: path.to_path_buf(),
            instance,
            writer: Mutex::new(writer),
            reader: Mutex::new(reader),
            session: Session::new(last_id, boot_first_id.parse().unwrap_or(LAST_ID)),
            broken: AtomicBool::new(false),
        })
    }

    fn read<T>(
        &self,
        action: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        read(&self.reader.lock()).map_err(|error| ledger_error(&self.path, action, error))
    }

    /// Returns the record that a statement selects by a source path and further values.
    fn of_source(
        &self,
        select: &str,
        (pipeline, source): (PipelineId, &Path),
        more: &[i64],
    ) -> Result<Option<Record>> {
        self.read("look up a source in", |connection| {
            let mut statement = connection.prepare_cached(select)?;
            let (key, source) = (rows::key(pipeline, source), rows::bytes(source));
            let mut values: [&dyn ToSql; 7] = [&key, &pipeline, &source, &0, &0, &0, &0];
            for (place, value) in values.iter_mut().skip(3).zip(more) {
                *place = value;
            }
            let values = values.get(..3 + more.len()).unwrap_or_default();
            statement.query_row(values, rows::record).optional()
        })
    }

    /// Runs one transaction. If the disk is full, or another process writes, none of it counts;
    /// after any other failed commit the result is unknown, and the ledger is broken from then on.
    fn write<T>(
        &self,
        action: &'static str,
        when: Flush,
        write: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut writer = self.writer.lock();
        if self.broken.load(Ordering::Acquire) {
            return Err(ledger_error(
                &self.path,
                action,
                "an earlier write failed and its durability is unknown; hint: restart the service",
            ));
        }
        writer.commit(when, write).map_err(|error| {
            let error = ledger_error(&self.path, action, error);
            if error.kind == ErrorKind::Failed {
                self.broken.store(true, Ordering::Release);
            }
            error
        })
    }
}

impl Ledger for Sqlite {
    fn instance(&self) -> &str {
        &self.instance
    }

    fn session(&self) -> &Session {
        &self.session
    }

    fn join(&self, boot: &str) -> Result<PreviousShutdown> {
        let next = self.session.upcoming_id();
        let (stop, first) = self.write("begin to use", Flush::Now, |connection| {
            let in_use = rows::meta(connection, "in_use")?;
            connection.execute("UPDATE meta SET value = ?1 WHERE name = 'in_use'", [IN_USE])?;
            let same_boot = in_use == boot && !boot.is_empty();
            let same_boot = same_boot || failpoint::is_skipped("barrier::boot");
            let is_clean = in_use == NEVER_USED || (in_use != IN_USE && same_boot);
            let stop = if is_clean { PreviousShutdown::Clean } else { PreviousShutdown::Unclean };
            Ok((stop, boot::first_record(connection, boot, next)?))
        })?;
        self.session.joined(boot, first);
        Ok(stop)
    }

    fn leave(&self) -> Result<()> {
        if let Some(boot) = self.session.clean_end() {
            let result = self.write("mark a clean stop in", Flush::Now, |connection| {
                let sql = "UPDATE meta SET value = ?1 WHERE name = 'in_use'";
                connection.execute(sql, [boot]).map(drop)
            });
            match result {
                Err(error) if error.kind != ErrorKind::Failed => {
                    tracing::warn!(event = "ledger.stop_not_recorded", error = %error.source, "cannot record the clean stop, next start recovers");
                }
                result => result?,
            }
        }
        let writer = self.writer.lock();
        writer.close().map_err(|error| ledger_error(&self.path, "close", error))
    }

    fn root_inode(&self, pipeline: PipelineId, end: PipelineEnd) -> Result<Option<u64>> {
        self.read("look up a directory in", |connection| {
            let found = rows::meta(connection, &rows::root_key(pipeline, end)).optional()?;
            Ok(found.and_then(|inode| inode.parse().ok()))
        })
    }

    fn set_root_inode(&self, pipeline: PipelineId, end: PipelineEnd, inode: u64) -> Result<()> {
        if self.root_inode(pipeline, end)? == Some(inode) {
            return Ok(());
        }
        self.write("store a directory in", Flush::Now, |connection| {
            let sql = "INSERT OR REPLACE INTO meta VALUES (?1, ?2)";
            let values = params![rows::root_key(pipeline, end), inode.to_string()];
            connection.execute(sql, values).map(drop)
        })
    }

    fn flush(&self, wait: Duration) -> Result<()> {
        let has_waited = |writer: &Writer| writer.has_waited(wait);
        // A thread that is writing now need not be waited for: the next call flushes.
        if !self.writer.try_lock().is_some_and(|writer| has_waited(&writer)) {
            return Ok(());
        }
        let flushed = self.write("flush", Flush::Now, |connection| {
            // A transaction without a change is not written, and syncs nothing.
            let sql = "INSERT INTO meta VALUES ('flushes', '1')
                       ON CONFLICT (name) DO UPDATE SET value = value + 1";
            connection.execute(sql, []).map(drop)
        });
        match flushed {
            Err(error) if error.kind != ErrorKind::Failed => Ok(()),
            flushed => flushed,
        }
    }

    fn register_pipeline(&self, name: &str, input: &Path, output: &Path) -> Result<PipelineId> {
        self.write("register a pipeline in", Flush::Now, |connection| {
            let sql = "INSERT INTO pipelines (name, input, output) VALUES (?1, ?2, ?3)
                       ON CONFLICT (input, output) DO UPDATE SET name = ?1 RETURNING id";
            let paths = params![name, rows::bytes(input), rows::bytes(output)];
            connection.query_row(sql, paths, |row| row.get(0))
        })
    }

    fn pipelines(&self) -> Result<Vec<PipelineDirs>> {
        self.read("list the pipelines of", |connection| {
            let mut statement =
                connection.prepare("SELECT id, name, input, output FROM pipelines")?;
            let roots = statement.query_map([], rows::roots)?;
            roots.collect()
        })
    }

    fn append(&self, records: &[Record], when: Flush) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        self.write("append to", when, |connection| {
            let mut statement = connection.prepare_cached(rows::INSERT)?;
            records.iter().try_for_each(|record| rows::insert(&mut statement, record))
        })
    }

    fn set_states(&self, updates: &[StateUpdate], when: Flush) -> Result<()> {
        if updates.is_empty() {
            return Ok(());
        }
        self.write("update", when, |connection| {
            // A postponed publication update undoes no later update.
            let sql = "UPDATE records SET state = ?2, reason = coalesce(?3, reason),
                           reason_code = coalesce(?4, reason_code)
                       WHERE id = ?1 AND (?2 <> 1 OR state = 0)";
            let mut statement = connection.prepare_cached(sql)?;
            updates.iter().try_for_each(|(id, state, reason)| {
                let text = reason.as_ref().map(|reason| reason.text.as_str());
                let code = reason.as_ref().map(|reason| reason.code.as_str());
                statement.execute(params![id, rows::number(*state), text, code]).map(drop)
            })
        })
    }

    fn record(&self, id: RecordId) -> Result<Option<Record>> {
        self.read("look up a record in", |connection| {
            let mut statement = connection.prepare_cached(rows::SELECT_BY_ID)?;
            statement.query_row([id], rows::record).optional()
        })
    }

    fn latest_of_each(
        &self,
        pipeline: PipelineId,
        sources: &[&Path],
    ) -> Result<Vec<Option<Record>>> {
        self.read("look up sources in", |connection| {
            // Each statement alone would lock the log twice.
            let _view =
                (sources.len() > 1).then(|| connection.unchecked_transaction()).transpose()?;
            let mut statement = connection.prepare_cached(rows::SELECT_BY_SOURCE)?;
            let mut latest = Vec::with_capacity(sources.len());
            for source in sources {
                let values = params![rows::key(pipeline, source), pipeline, rows::bytes(source)];
                latest.push(statement.query_row(values, rows::record).optional()?);
            }
            Ok(latest)
        })
    }

    fn latest_of_inode(
        &self,
        pipeline: PipelineId,
        source: &Path,
        inode: u64,
    ) -> Result<Option<Record>> {
        self.of_source(rows::SELECT_OF_INODE, (pipeline, source), &[inode.cast_signed()])
    }

    fn latest_of_file(
        &self,
        pipeline: PipelineId,
        source: &Path,
        found: &Fingerprint,
    ) -> Result<Option<Record>> {
        let Fingerprint { inode, size, mtime_ns, ctime_ns, .. } = *found;
        let file = [inode.cast_signed(), size.cast_signed(), mtime_ns, ctime_ns];
        self.of_source(rows::SELECT_OF_FILE, (pipeline, source), &file)
    }

    fn latest_published(&self, pipeline: PipelineId, source: &Path) -> Result<Option<Record>> {
        self.of_source(rows::SELECT_PUBLISHED, (pipeline, source), &[])
    }

    fn latest_for_output(&self, pipeline: PipelineId, output: &Path) -> Result<Option<Record>> {
        self.read("look up an output in", |connection| {
            let mut statement = connection.prepare_cached(rows::SELECT_BY_OUTPUT)?;
            let values = params![pipeline, rows::bytes(output)];
            statement.query_row(values, rows::record).optional()
        })
    }

    fn first_record_ns(&self, pipeline: PipelineId) -> Result<Option<i64>> {
        let sql = "SELECT at_ns FROM records WHERE pipeline = ?1 ORDER BY id LIMIT 1";
        self.read("find the first record of", |connection| {
            connection.query_row(sql, [pipeline], |row| row.get(0)).optional()
        })
    }

    fn last_record_ns(&self, pipeline: PipelineId) -> Result<Option<i64>> {
        let sql = "SELECT at_ns FROM records WHERE pipeline = ?1 ORDER BY id DESC LIMIT 1";
        self.read("find the last record of", |connection| {
            connection.query_row(sql, [pipeline], |row| row.get(0)).optional()
        })
    }

    fn unfinished(&self) -> Result<Vec<Record>> {
        self.read("list the unfinished records of", |connection| {
            let mut statement = connection.prepare(rows::SELECT_UNFINISHED)?;
            let records = statement.query_map([], rows::record)?;
            records.collect()
        })
    }

    fn history(&self, query: &HistoryQuery) -> Result<Vec<Record>> {
        self.read("read the history of", |connection| history::page(connection, query))
    }

    fn finished(&self, after: RecordId, limit: u64) -> Result<Vec<Record>> {
        self.read("read the history of", |connection| history::finished(connection, after, limit))
    }

    fn archived(
        &self,
        pipeline: PipelineId,
        source: &Path,
        found: &Fingerprint,
    ) -> Result<Option<Record>> {
        let source = (pipeline, source);
        self.read("look up a file in", |connection| history::archived(connection, source, found))
    }

    fn set_reasons(&self, reasons: &[(RecordId, Option<Reason>)]) -> Result<()> {
        self.write("update", Flush::Now, |connection| history::set_reasons(connection, reasons))
    }

    fn remove_records(&self, ids: &[RecordId]) -> Result<u64> {
        self.write("remove from", Flush::Deferred, |connection| history::remove(connection, ids))
    }
}

#[cfg(test)]
mod tests;
