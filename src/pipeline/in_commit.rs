//! Sources whose output is being published before they are removed, by inode, size and time and not by
//! name: a source that a producer renames meanwhile, or whose directory it renames, reappears under a new
//! name. The inode alone would not do: a source that its producer replaced leaves its number to the next
//! file while its own job still runs.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::{Arc, MutexGuard},
};

use crate::{
    fingerprint::{FileId, Fingerprint},
    fs::FileMetadata,
    ledger::{PipelineId, Record},
    limits,
    sync::Mutex,
};

/// The sources of one pipeline from the last check of their names to the end of their disposal.
/// Clones share one table.
#[derive(Clone, Debug, Default)]
pub struct InCommit(Arc<Mutex<Table>>);

/// The tables of all pipelines by their IDs in the ledger. They last as long as the process: a source
/// can be renamed while its pipeline is reloaded. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct InCommitTables(Arc<Mutex<HashMap<PipelineId, InCommit>>>);

impl InCommitTables {
    /// Returns the table of a pipeline.
    #[must_use]
    pub fn of(&self, pipeline: PipelineId) -> InCommit {
        let mut tables = self.0.lock();
        tables.entry(pipeline).or_default().clone()
    }
}

/// What [`Fingerprint::matches_content`] compares, and the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key(FileId, u64, i64);

impl Key {
    const fn of(file: &Fingerprint) -> Self {
        Self(file.file_id(), file.size, file.mtime_ns)
    }
}

#[derive(Debug, Default)]
struct Table {
    /// Sources of running jobs, each with the number of its [`CommitGuard`]s: one for each hard link.
    committing: HashMap<Key, usize>,
    /// Sources whose name was gone after their publication, and those whose disposal waits for
    /// another attempt: they may be renamed until then.
    renamed: HashMap<Key, Renamed>,
    /// The keys of `renamed` by whether their disposal waits and by their numbers: those that are
    /// forgotten first come first.
    order: BTreeMap<(bool, u64), Key>,
    /// The number of the next entry.
    next: u64,
}

/// The `gone_ns` of a source that may be renamed at any time.
const AWAITS_DISPOSAL: i64 = i64::MAX;

#[derive(Debug)]
struct Renamed {
    record: Record,
    gone_ns: i64,
    number: u64,
}

/// An earlier job of a file that has a name without a record.
#[derive(Debug)]
pub enum EarlierJob {
    /// Its output is about to be published under the file's earlier name.
    Committing,
    /// Its output was published under the file's earlier name, which is gone: if the content is the
    /// same, only the disposal remains.
    Renamed(Box<Record>),
}

/// The table entry of a job, which holds it. Dropping it removes the entry.
#[derive(Debug)]
pub struct CommitGuard {
    table: InCommit,
    key: Key,
    /// Whether the output has an intent, which only recovery can finish if the job is dropped: then the
    /// entry stays until the process ends.
    pub has_intent: bool,
}

impl InCommit {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock()
    }

    /// Adds the source of a job to the table.
    #[must_use = "dropping it removes the entry"]
    pub fn begin(&self, source: Fingerprint) -> CommitGuard {
        let key = Key::of(&source);
        *self.lock().committing.entry(key).or_default() += 1;
        CommitGuard { table: self.clone(), key, has_intent: false }
    }

    /// Records that the name of an acknowledged output's source is gone, or belongs to another file,
    /// since `gone_ns` at the latest: the change time of its directory, by the file system's clock. The
    /// table keeps at most [`limits::RENAMED_MAX`] of these, most of which never reappear, and as many that
    /// await their disposal.
    pub fn renamed(&self, record: &Record, gone_ns: i64) {
        let key = Key::of(&record.identity);
        self.forget(&record.identity);
        let mut table = self.lock();
        let number = table.next;
        table.next += 1;
        table.renamed.insert(key, Renamed { record: record.clone(), gone_ns, number });
        let awaits = gone_ns == AWAITS_DISPOSAL;
        table.order.insert((awaits, number), key);
        let of_its_kind = (awaits, 0)..=(awaits, u64::MAX);
        if table.order.range(of_its_kind.clone()).count() > limits::RENAMED_MAX
            && let Some((oldest, key)) =
                table.order.range(of_its_kind).next().map(|(a, b)| (*a, *b))
        {
            table.order.remove(&oldest);
            table.renamed.remove(&key);
        }
    }

    /// Records a source whose disposal waits for another attempt, which looks for it under its old
    /// name only. It may be renamed at any time until then.
    pub fn awaits_disposal(&self, record: &Record) {
        self.renamed(record, AWAITS_DISPOSAL);
    }

    /// Removes what [`Self::renamed`] recorded of a file: it is disposed of, and another file may get
    /// its inode, or it is to be processed again.
    pub fn forget(&self, file: &Fingerprint) {
        let mut table = self.lock();
        if let Some(entry) = table.renamed.remove(&Key::of(file)) {
            table.order.remove(&(entry.gone_ns == AWAITS_DISPOSAL, entry.number));
        }
    }

    /// Finds the earlier job of a file under another name. A rename moves the change time, but not past
    /// the time at which the old name was found gone: a later change time belongs to another file that
    /// got the inode. A file with several names does not match either: each link is a separate delivery.
    #[must_use]
    pub fn earlier_job(&self, found: &FileMetadata) -> Option<EarlierJob> {
        let table = self.lock();
        let identity = &found.identity;
        let key = Key::of(identity);
        if table.committing.contains_key(&key) {
            return Some(EarlierJob::Committing);
        }
        let Renamed { record, gone_ns, .. } = table.renamed.get(&key)?;
        let same_ctime = record.identity.ctime_ns == identity.ctime_ns;
        let is_same = found.names == 1 && (same_ctime || identity.ctime_ns <= *gone_ns);
        is_same.then(|| EarlierJob::Renamed(Box::new(record.clone())))
    }
}

impl Drop for CommitGuard {
    fn drop(&mut self) {
        if self.has_intent {
            return;
        }
        if let Entry::Occupied(mut guards) = self.table.lock().committing.entry(self.key) {
            *guards.get_mut() -= 1;
            if *guards.get() == 0 {
                guards.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fs::Kind, ledger, policy::OnSuccess};

    fn identity(inode: u64) -> Fingerprint {
        Fingerprint { device: 1, inode, size: 3, mtime_ns: 50, ctime_ns: 60 }
    }

    fn record(inode: u64) -> Record {
        Record {
            id: 1,
            pipeline: 1,
            source: "batch/a".into(),
            identity: identity(inode),
            output: None,
            on_success: OnSuccess::Delete,
            state: ledger::State::Published,
            reason: None,
            moved_to: None,
            at_ns: 0,
        }
    }

    fn metadata(identity: Fingerprint) -> FileMetadata {
        FileMetadata { kind: Kind::File, identity, mode: 0o644, owner: 0, group: 0, names: 1 }
    }

    #[test]
    fn a_source_is_found_by_its_file_id_until_its_job_ends() {
        let table = InCommit::default();
        let guard = table.begin(identity(7));
        assert!(matches!(table.earlier_job(&metadata(identity(7))), Some(EarlierJob::Committing)));
        let renamed = Fingerprint { ctime_ns: 61, ..identity(7) };
        assert!(matches!(table.earlier_job(&metadata(renamed)), Some(EarlierJob::Committing)));
        let another = Fingerprint { mtime_ns: 51, ..renamed };
        assert!(table.earlier_job(&metadata(another)).is_none(), "a new file may have its inode");
        drop(guard);
        assert!(table.earlier_job(&metadata(identity(7))).is_none());
    }

    /// A producer replaces a source in flight, and its next file gets the inode. The jobs of both end in
    /// either order.
    #[test]
    fn a_file_that_got_the_inode_of_another_one_has_entries_of_its_own() {
        let (older, newer) = (identity(7), Fingerprint { mtime_ns: 90, ..identity(7) });
        let record_of = |identity| Record { identity, ..record(7) };
        let is_found = |table: &InCommit| table.earlier_job(&metadata(newer)).is_some();
        let table = InCommit::default();
        let guards = [older, newer].map(|source| table.begin(source));
        let [of_older, of_newer] = guards;
        drop(of_older);
        assert!(is_found(&table), "the older job took the newer one's entry with it");
        drop(of_newer);
        assert!(!is_found(&table));
        for source in [newer, older] {
            table.renamed(&record_of(source), 90);
        }
        assert!(is_found(&table), "the older record replaced the newer one");
        table.forget(&older);
        assert!(is_found(&table));
        table.forget(&newer);
        assert!(table.lock().order.is_empty());
    }

    #[test]
    fn each_link_of_a_file_has_a_guard() {
        let table = InCommit::default();
        let [first, second] = [(); 2].map(|()| table.begin(identity(7)));
        drop(first);
        assert!(table.earlier_job(&metadata(identity(7))).is_some());
        drop(second);
        assert!(table.earlier_job(&metadata(identity(7))).is_none());
        assert!(table.lock().committing.is_empty());
    }

    #[test]
    fn a_renamed_source_is_found_after_its_job_and_the_oldest_are_dropped() {
        let table = InCommit::default();
        let guard = table.begin(identity(7));
        table.renamed(&record(7), 70);
        drop(guard);
        for ctime_ns in [60, 61, 70] {
            let found = metadata(Fingerprint { ctime_ns, ..identity(7) });
            assert!(
                matches!(table.earlier_job(&found), Some(EarlierJob::Renamed(_))),
                "{ctime_ns}"
            );
        }
        let another = metadata(Fingerprint { ctime_ns: 71, ..identity(7) });
        assert!(table.earlier_job(&another).is_none(), "a later file got the inode");
        let linked = FileMetadata { names: 2, ..metadata(identity(7)) };
        assert!(table.earlier_job(&linked).is_none(), "each link is a separate delivery");
        // Its job under the new name ends before the disposal.
        drop(table.begin(identity(7)));
        assert!(matches!(table.earlier_job(&metadata(identity(7))), Some(EarlierJob::Renamed(_))));
        // A repeated entry counts from its latest recording.
        table.renamed(&Record { id: 2, ..record(7) }, 70);
        for inode in 0..limits::RENAMED_MAX as u64 - 1 {
            table.renamed(&record(100 + inode), 70);
        }
        assert!(table.earlier_job(&metadata(identity(7))).is_some());
        table.renamed(&record(99), 70);
        assert!(table.earlier_job(&metadata(identity(7))).is_none());
    }

    #[test]
    fn a_source_whose_disposal_waits_is_found_after_any_rename_until_it_is_taken() {
        let table = InCommit::default();
        for _ in 0..2 * limits::RENAMED_MAX {
            table.awaits_disposal(&record(7));
        }
        assert_eq!(table.lock().order.len(), 1, "one entry, however often it is tried");
        let renamed = metadata(Fingerprint { ctime_ns: 1 << 60, ..identity(7) });
        assert!(matches!(table.earlier_job(&renamed), Some(EarlierJob::Renamed(_))));
        for inode in 0..2 * limits::RENAMED_MAX as u64 {
            table.renamed(&record(100 + inode), 70);
        }
        assert!(table.earlier_job(&renamed).is_some(), "those that may never reappear go first");
        table.forget(&identity(7));
        (0..2 * limits::RENAMED_MAX as u64).for_each(|inode| table.forget(&identity(100 + inode)));
        assert!(table.earlier_job(&renamed).is_none());
        assert!(table.lock().order.is_empty());
    }

    /// Recovery has yet to finish the output: under another name its source waits.
    #[test]
    fn a_job_that_is_dropped_after_its_intent_leaves_its_entry() {
        let table = InCommit::default();
        let mut guard = table.begin(identity(7));
        guard.has_intent = true;
        drop(guard);
        assert!(matches!(table.earlier_job(&metadata(identity(7))), Some(EarlierJob::Committing)));
        let mut withdrawn = table.begin(identity(8));
        withdrawn.has_intent = true;
        withdrawn.has_intent = false;
        drop(withdrawn);
        assert!(table.earlier_job(&metadata(identity(8))).is_none());
    }

    #[test]
    fn sources_that_await_disposal_take_no_room_from_renamed_ones() {
        let table = InCommit::default();
        (0..2 * limits::RENAMED_MAX as u64)
            .for_each(|inode| table.awaits_disposal(&record(100 + inode)));
        for inode in [7, 8] {
            table.renamed(&record(inode), 70);
        }
        for inode in [7, 8] {
            let found = Fingerprint { ctime_ns: 70, ..identity(inode) };
            assert!(table.earlier_job(&metadata(found)).is_some(), "{inode}");
        }
    }
}
