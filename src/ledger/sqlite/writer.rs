//! The writing connection: transactions, and the checkpoints between them.
//!
//! SQLite's automatic checkpoint runs within a commit and drops its own errors. One of them is a
//! failed sync of the log, after which the kernel forgets the data that it could not write, and the
//! next commit's sync succeeds: commits that count as durable are not. So checkpoints are made
//! here, and their errors are handled.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::{super::Flush, connection::with_full};
use crate::failpoint;

/// The number of pages (of 4 KiB) in the log from which a checkpoint moves them into the database.
const CHECKPOINT_PAGES: i64 = 1000;
/// How long the last checkpoint waits for readers.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(100);

/// The writing connection. Dropping it closes it.
#[derive(Debug)]
pub struct Writer {
    connection: Connection,
    /// The time of the oldest commit that is not synced.
    unsynced_since: Option<Instant>,
    /// Leaves the log to the service: only that repairs it first.
    makes_checkpoints: bool,
}

impl Writer {
    pub const fn new(connection: Connection) -> Self {
        Self { connection, unsynced_since: None, makes_checkpoints: true }
    }

    /// As [`Self::new`], next to a service or before its start.
    pub const fn without_checkpoints(connection: Connection) -> Self {
        Self { connection, unsynced_since: None, makes_checkpoints: false }
    }

    /// Commits one transaction, and makes a checkpoint if the log is long.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::DiskFull`] and [`ErrorCode::DatabaseBusy`]: nothing is written. Any other: it
    /// is unknown what is durable.
    pub fn commit<T>(
        &mut self,
        when: Flush,
        write: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let result = self.transact(when, write);
        let result = result.map_err(|error| with_full(&self.connection, error))?;
        self.checkpoint_if_long()?;
        Ok(result)
    }

    fn transact<T>(
        &mut self,
        when: Flush,
        write: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let level = match when {
            _ if failpoint::is_skipped("barrier::ledger") => "off",
            Flush::Now => "full",
            Flush::Deferred => "normal",
        };
        self.connection.pragma_update(None, "synchronous", level)?;
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = write(&transaction)?;
        transaction.commit()?;
        match when {
            Flush::Now => self.unsynced_since = None,
            Flush::Deferred => {
                self.unsynced_since.get_or_insert_with(Instant::now);
            }
        }
        Ok(result)
    }

    /// Checks whether a commit has waited for its sync for `wait`.
    pub fn has_waited(&self, wait: Duration) -> bool {
        self.unsynced_since.is_some_and(|since| since.elapsed() >= wait)
    }

    fn checkpoint_if_long(&self) -> rusqlite::Result<()> {
        if !self.makes_checkpoints {
            return Ok(());
        }
        let status = self.connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)").and_then(
            |mut statement| {
                statement.query_row([], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
            },
        );
        let (pages, moved) = match status {
            // The commit before it counts.
            Err(error) if is_transient(&error) => return Ok(()),
            status => status?,
        };
        if pages < CHECKPOINT_PAGES || pages <= moved {
            return Ok(());
        }
        let mut checkpoint = self.connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?;
        let checkpointed = failpoint::hit("ledger::checkpoint")
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
            .and_then(|()| checkpoint.query_row([], |_| Ok(())))
            .map_err(|error| with_full(&self.connection, error));
        match checkpointed {
            // The commit is in the log and stays there: a later checkpoint moves it.
            Err(error) if is_transient(&error) => {
                tracing::warn!(event = "ledger.checkpoint_failed", %error, pages, "ledger checkpoint failed, write-ahead log grows");
                Ok(())
            }
            checkpointed => checkpointed,
        }
    }

    /// Moves the log into the database, so that one file holds all of a stopped service. Parts that
    /// another process reads stay in the log, and the next start moves them.
    pub fn close(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(CLOSE_TIMEOUT)?;
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let result = self.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        match result.map_err(|error| with_full(&self.connection, error)) {
            Ok(0) => Ok(()),
            Ok(_) => {
                tracing::info!(
                    event = "ledger.checkpoint_incomplete",
                    "ledger read by another process, checkpoint incomplete"
                );
                Ok(())
            }
            Err(error) if is_transient(&error) => {
                tracing::warn!(event = "ledger.checkpoint_failed", %error, "ledger checkpoint failed");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Checks whether nothing was lost and a retry may succeed.
fn is_transient(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}
