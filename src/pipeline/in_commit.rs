//! Sources whose output is being published before they are removed, by file ID and not by name: a
//! source that a producer renames meanwhile, or whose directory it renames, reappears under a new name.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    fingerprint::{FileId, Fingerprint},
    fs::FileMetadata,
    ledger::{Record, RecordId},
    limits,
};

/// The sources of one pipeline from the last check of their names to the end of their disposal.
/// Clones share one table.
#[derive(Clone, Debug, Default)]
pub struct InCommit(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// Sources of running jobs; a [`CommitGuard`] removes its entry.
    committing: HashMap<FileId, Fingerprint>,
    /// Sources whose name was gone when dispose wanted to remove them.
    renamed: HashMap<FileId, Renamed>,
    /// The keys and records of `renamed`, the oldest first.
    order: VecDeque<(FileId, RecordId)>,
}

#[derive(Debug)]
struct Renamed {
    record: Record,
    gone_ns: i64,
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
    id: FileId,
}

impl InCommit {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the source of a job to the table.
    #[must_use = "dropping it removes the entry"]
    pub fn begin(&self, source: Fingerprint) -> CommitGuard {
        let id = source.file_id();
        self.lock().committing.insert(id, source);
        CommitGuard { table: self.clone(), id }
    }

    /// Records that the name of an acknowledged output's source is gone, or belongs to another file,
    /// since `gone_ns` at the latest: the change time of its directory, by the file system's clock. The
    /// table keeps at most [`limits::RENAMED_MAX`] of these: most never reappear.
    pub fn renamed(&self, record: &Record, gone_ns: i64) {
        let mut table = self.lock();
        let (id, record_id) = (record.identity.file_id(), record.id);
        table.renamed.insert(id, Renamed { record: record.clone(), gone_ns });
        table.order.push_back((id, record_id));
        if table.order.len() > limits::RENAMED_MAX
            && let Some((oldest, record_id)) = table.order.pop_front()
            && table.renamed.get(&oldest).is_some_and(|entry| entry.record.id == record_id)
        {
            table.renamed.remove(&oldest);
        }
    }

    /// Finds the earlier job of a file under another name. A rename moves the change time, but not past
    /// the time at which the old name was found gone: a later change time belongs to another file that
    /// got the inode. A file with several names does not match either: each link is a separate delivery.
    #[must_use]
    pub fn earlier_job(&self, found: &FileMetadata) -> Option<EarlierJob> {
        let table = self.lock();
        let identity = &found.identity;
        let id = identity.file_id();
        if table.committing.get(&id).is_some_and(|source| source.matches_content(identity)) {
            return Some(EarlierJob::Committing);
        }
        let Renamed { record, gone_ns } = table.renamed.get(&id)?;
        let same_ctime = record.identity.changed_ns == identity.changed_ns;
        let is_same = record.identity.matches_content(identity)
            && found.names == 1
            && (same_ctime || identity.changed_ns <= *gone_ns);
        is_same.then(|| EarlierJob::Renamed(Box::new(record.clone())))
    }
}

impl Drop for CommitGuard {
    fn drop(&mut self) {
        self.table.lock().committing.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fs::Kind, ledger, policy::OnSuccess};

    fn identity(inode: u64) -> Fingerprint {
        Fingerprint { device: 1, inode, size: 3, modified_ns: 50, changed_ns: 60 }
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
        let renamed = Fingerprint { changed_ns: 61, ..identity(7) };
        assert!(matches!(table.earlier_job(&metadata(renamed)), Some(EarlierJob::Committing)));
        let another = Fingerprint { modified_ns: 51, ..renamed };
        assert!(table.earlier_job(&metadata(another)).is_none(), "a new file may have its inode");
        drop(guard);
        assert!(table.earlier_job(&metadata(identity(7))).is_none());
    }

    #[test]
    fn a_renamed_source_is_found_after_its_job_and_the_oldest_are_dropped() {
        let table = InCommit::default();
        let guard = table.begin(identity(7));
        table.renamed(&record(7), 70);
        drop(guard);
        for changed_ns in [60, 61, 70] {
            let found = metadata(Fingerprint { changed_ns, ..identity(7) });
            assert!(
                matches!(table.earlier_job(&found), Some(EarlierJob::Renamed(_))),
                "{changed_ns}"
            );
        }
        let another = metadata(Fingerprint { changed_ns: 71, ..identity(7) });
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
}
