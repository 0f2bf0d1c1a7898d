//! Sources that are being published and then removed, by what they are and not by their names: one that
//! is renamed meanwhile, or is in a directory that is, comes back under a new name.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    identity::{FileId, Identity},
    ledger::Record,
    limits,
};

/// The sources of one pipeline from the last look at their names to the end of their disposal.
/// Clones are the same table.
#[derive(Clone, Debug, Default)]
pub struct InCommit(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<FileId, (Identity, State)>,
    /// Those whose name was gone when they were to be removed, the oldest first.
    renamed: VecDeque<FileId>,
}

#[derive(Debug)]
enum State {
    Committing,
    Renamed { record: Box<Record>, gone_ns: i64 },
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

/// Held by the job. Dropping it ends the entry, unless the source was renamed.
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
    pub fn begin(&self, source: Identity) -> CommitGuard {
        let id = source.file_id();
        self.lock().entries.insert(id, (source, State::Committing));
        CommitGuard { table: self.clone(), id }
    }

    /// The name of an acknowledged output's source is gone, or another file's, and was so at this time
    /// (nanoseconds since the epoch). At most [`limits::RENAMED_MAX`] of these are kept: most are never
    /// seen again.
    pub fn renamed(&self, record: &Record, gone_ns: i64) {
        let mut table = self.lock();
        let id = record.identity.file_id();
        let state = State::Renamed { record: Box::new(record.clone()), gone_ns };
        table.entries.insert(id, (record.identity, state));
        table.renamed.push_back(id);
        if table.renamed.len() > limits::RENAMED_MAX
            && let Some(oldest) = table.renamed.pop_front()
        {
            table.entries.remove(&oldest);
        }
    }

    /// What is known of a file under another name. A rename moves the change time, and no further than
    /// to the time at which the old name was found gone: a file that has a later one is another, which
    /// got the inode.
    #[must_use]
    pub fn known(&self, found: &Identity) -> Option<Known> {
        let table = self.lock();
        let (identity, state) = table.entries.get(&found.file_id())?;
        match state {
            _ if !identity.matches_content(found) => None,
            State::Committing => Some(Known::Committing),
            State::Renamed { record, gone_ns } => {
                let unmoved = identity.changed_ns == found.changed_ns;
                let renamed = unmoved || found.changed_ns <= *gone_ns;
                renamed.then(|| Known::Renamed(record.clone()))
            }
        }
    }
}

impl Drop for CommitGuard {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        if matches!(table.entries.get(&self.id), Some((_, State::Committing))) {
            table.entries.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ledger, policy::OnSuccess};

    fn identity(inode: u64) -> Identity {
        Identity { device: 1, inode, size: 3, modified_ns: 50, changed_ns: 60 }
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

    #[test]
    fn a_source_is_known_by_what_it_is_until_its_job_ends() {
        let table = InCommit::default();
        let guard = table.begin(identity(7));
        assert!(matches!(table.known(&identity(7)), Some(Known::Committing)));
        let renamed = Identity { changed_ns: 61, ..identity(7) };
        assert!(matches!(table.known(&renamed), Some(Known::Committing)));
        let another = Identity { modified_ns: 51, ..renamed };
        assert!(table.known(&another).is_none(), "a new file may have its inode");
        drop(guard);
        assert!(table.known(&identity(7)).is_none());
    }

    #[test]
    fn a_source_that_was_renamed_is_known_after_its_job_and_the_oldest_are_forgotten() {
        let table = InCommit::default();
        let guard = table.begin(identity(7));
        table.renamed(&record(7), 70);
        drop(guard);
        for changed_ns in [60, 61, 70] {
            let found = Identity { changed_ns, ..identity(7) };
            assert!(matches!(table.known(&found), Some(Known::Renamed(_))), "{changed_ns}");
        }
        let another = Identity { changed_ns: 71, ..identity(7) };
        assert!(table.known(&another).is_none(), "a file that came later has its inode");
        for inode in 0..limits::RENAMED_MAX as u64 {
            table.renamed(&record(100 + inode), 70);
        }
        assert!(table.known(&identity(7)).is_none());
    }
}
