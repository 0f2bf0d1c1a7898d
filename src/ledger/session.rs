//! The use of a ledger by one run of the service, and the numbers that it gives.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
};

use super::RecordId;
use crate::sync::Mutex;

/// The largest valid record number: no ledger reaches it.
pub(super) const LAST_ID: RecordId = RecordId::MAX / 2;

/// An opened ledger's session. It begins with [`Ledger::join`](super::Ledger::join) and ends with
/// [`Ledger::leave`](super::Ledger::leave); an opened ledger that only reads, or writes next to a
/// service, never joins.
#[derive(Debug)]
pub struct Session {
    last_id: AtomicI64,
    /// The first record since the ledger was opened has this number or a higher one.
    run_first_id: RecordId,
    /// The first record since the machine booted has this number or a higher one.
    boot_first_id: AtomicI64,
    /// The machine's boot in which it joined.
    boot: Mutex<String>,
    recovered: AtomicBool,
    /// The number of [`OpenWork`] that has not ended.
    open_work: Arc<AtomicUsize>,
}

/// Work that can leave something on disk that no unfinished record names: a source under its private
/// name, a temporary file. Dropping it without [`Self::end`] makes the stop unclean, so that the next
/// start searches.
#[derive(Debug)]
#[must_use = "work that does not end makes the stop unclean"]
pub struct OpenWork(Arc<AtomicUsize>);

impl OpenWork {
    /// Notes that the work left nothing.
    pub fn end(self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Session {
    pub(super) fn new(last_id: RecordId, boot_first_id: RecordId) -> Self {
        Self {
            last_id: AtomicI64::new(last_id),
            run_first_id: last_id + 1,
            boot_first_id: AtomicI64::new(boot_first_id),
            boot: Mutex::new(String::new()),
            recovered: AtomicBool::new(false),
            open_work: Arc::default(),
        }
    }

    /// Notes that it joined in this boot, whose first record has this number.
    pub(super) fn joined(&self, boot: &str, boot_first_id: RecordId) {
        boot.clone_into(&mut self.boot.lock());
        self.boot_first_id.store(boot_first_id, Ordering::Release);
    }

    /// Returns the number that the next record gets, if none is skipped.
    pub(super) fn upcoming_id(&self) -> RecordId {
        self.last_id.load(Ordering::Relaxed) + 1
    }

    /// Returns the boot of a clean end: recovery is complete and all work has ended, so the session
    /// leaves nothing unfinished but what it recorded.
    pub(super) fn clean_end(&self) -> Option<String> {
        let is_clean =
            self.recovered.load(Ordering::Acquire) && self.open_work.load(Ordering::Acquire) == 0;
        is_clean.then(|| self.boot.lock().clone())
    }

    /// Notes work that makes the stop unclean until it ends.
    pub fn begin_work(&self) -> OpenWork {
        self.open_work.fetch_add(1, Ordering::AcqRel);
        OpenWork(Arc::clone(&self.open_work))
    }

    /// Notes that recovery is complete: from now on the session can end cleanly.
    pub fn mark_recovered(&self) {
        self.recovered.store(true, Ordering::Release);
    }

    /// Checks whether a record was made since the machine booted: no power loss can have undone its
    /// work.
    #[must_use]
    pub fn is_of_this_boot(&self, id: RecordId) -> bool {
        id >= self.boot_first_id.load(Ordering::Acquire)
    }

    /// Checks whether a record was made since this ledger was opened.
    #[must_use]
    pub const fn is_of_this_run(&self, id: RecordId) -> bool {
        id >= self.run_first_id
    }

    /// Makes new records get numbers above `last`: a ledger restored from a backup does not have
    /// the numbers that it gave after the backup.
    pub fn skip_ids(&self, last: RecordId) {
        if (0..=LAST_ID).contains(&last) {
            self.last_id.fetch_max(last, Ordering::Relaxed);
        }
    }

    /// Returns a number that no record has. Not durable: an unused one is a gap.
    pub fn next_id(&self) -> RecordId {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }
}
