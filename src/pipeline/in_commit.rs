//! Sources that are being published and then removed, by what they are and not by their names: one that
//! is renamed meanwhile, or is in a directory that is, comes back under a new name.

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

/// The sources of one pipeline from the last look at their names to the end of their disposal.
/// Clones are the same table.
#[derive(Clone, Debug, Default)]
pub struct InCommit(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    committing: HashMap<FileId, Fingerprint>,
    /// Those whose name was gone when they were to be removed.
    renamed: HashMap<FileId, Renamed>,
    /// The same by record, the oldest first.
    order: VecDeque<(FileId, RecordId)>,
}

#[derive(Debug)]
struct Renamed {
    record: Record,
    gone_ns: i64,
}

/// What is known of a file that has a name the ledger does not know.
#[derive(Debug)]
pub enum Known {
    /// Its output is about to be published under the name it had.
    Committing,
    /// Its output was published under the name it had, which is gone: only its disposal is left, where
    /// its content is the same.
    Renamed(Box<Record>),
}

/// Held by the job. Dropping it ends the entry.
#[derive(Debug)]
pub struct CommitGuard {
    table: InCommit,
    id: FileId,
}

impl InCommit {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use = "dropping it ends the entry"]
    pub fn begin(&self, source: Fingerprint) -> CommitGuard {
        let id = source.file_id();
        self.lock().committing.insert(id, source);
        CommitGuard { table: self.clone(), id }
    }

    /// The name of an acknowledged output's source is gone, or another file's, and was so at this time:
    /// the change time of the directory that had it, by the file system's own clock. At most
    /// [`limits::RENAMED_MAX`] of these are kept: most are never seen again.
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

    /// What is known of a file under another name. A rename moves the change time, and no further than
    /// to the time at which the old name was found gone: a file that has a later one is another, which
    /// got the inode. So is one that has more names: each link is a delivery of its own.
    #[must_use]
    pub fn known(&self, found: &FileMetadata) -> Option<Known> {
        let table = self.lock();
        let identity = &found.identity;
        let id = identity.file_id();
        if table.committing.get(&id).is_some_and(|known| known.matches_content(identity)) {
            return Some(Known::Committing);
        }
        let Renamed { record, gone_ns } = table.renamed.get(&id)?;
        let unmoved = record.identity.changed_ns == identity.changed_ns;
        let is_it = record.identity.matches_content(identity)
            && found.names == 1
            && (unmoved || identity.changed_ns <= *gone_ns);
        is_it.then(|| Known::Renamed(Box::new(record.clone())))
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

    fn seen(identity: Fingerprint) -> FileMetadata {
        FileMetadata { kind: Kind::File, identity, mode: 0o644, owner: 0, group: 0, names: 1 }
    }

    #[test]
    fn a_source_is_known_by_what_it_is_until_its_job_ends() {
        let table = InCommit::default();
        let guard = table.begin(identity(7));
        assert!(matches!(table.known(&seen(identity(7))), Some(Known::Committing)));
        let renamed = Fingerprint { changed_ns: 61, ..identity(7) };
        assert!(matches!(table.known(&seen(renamed)), Some(Known::Committing)));
        let another = Fingerprint { modified_ns: 51, ..renamed };
        assert!(table.known(&seen(another)).is_none(), "a new file may have its inode");
        drop(guard);
        assert!(table.known(&seen(identity(7))).is_none());
    }

    #[test]
    fn a_source_that_was_renamed_is_known_after_its_job_and_the_oldest_are_forgotten() {
        let table = InCommit::default();
        let guard = table.begin(identity(7));
        table.renamed(&record(7), 70);
        drop(guard);
        for changed_ns in [60, 61, 70] {
            let found = seen(Fingerprint { changed_ns, ..identity(7) });
            assert!(matches!(table.known(&found), Some(Known::Renamed(_))), "{changed_ns}");
        }
        let another = seen(Fingerprint { changed_ns: 71, ..identity(7) });
        assert!(table.known(&another).is_none(), "a file that came later has its inode");
        let linked = FileMetadata { names: 2, ..seen(identity(7)) };
        assert!(table.known(&linked).is_none(), "each link is a delivery of its own");
        // Its job under the new name ends before it is disposed of.
        drop(table.begin(identity(7)));
        assert!(matches!(table.known(&seen(identity(7))), Some(Known::Renamed(_))));
        // Noted again, it is as old as it was noted last.
        table.renamed(&Record { id: 2, ..record(7) }, 70);
        for inode in 0..limits::RENAMED_MAX as u64 - 1 {
            table.renamed(&record(100 + inode), 70);
        }
        assert!(table.known(&seen(identity(7))).is_some());
        table.renamed(&record(99), 70);
        assert!(table.known(&seen(identity(7))).is_none());
    }
}
