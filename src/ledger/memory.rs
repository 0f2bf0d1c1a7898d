//! A ledger in memory, for tests of what is built on one. It keeps what a [`Sqlite`] database
//! keeps when the process is killed; nothing survives the process.
//!
//! [`Sqlite`]: super::sqlite::Sqlite

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use super::{
    Flush, HistoryQuery, Ledger, PipelineDirs, PipelineEnd, PipelineId, PreviousShutdown, Record,
    RecordId, Result, Session, State, StateUpdate,
};
use crate::{fingerprint::Fingerprint, policy::OnSuccess, reason::Reason, sync::Mutex};

/// What is kept between two uses. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Store(Arc<Mutex<Tables>>);

#[derive(Debug, Default)]
struct Tables {
    records: BTreeMap<RecordId, Record>,
    pipelines: Vec<PipelineDirs>,
    root_inodes: BTreeMap<(PipelineId, PipelineEnd), u64>,
    use_state: UseState,
    boot: String,
    boot_first_id: RecordId,
}

#[derive(Debug, Default)]
enum UseState {
    #[default]
    Never,
    InUse,
    /// A clean stop in this boot.
    Ended(String),
}

/// One use of a [`Store`].
#[derive(Debug)]
pub struct Memory {
    store: Store,
    session: Session,
}

impl Store {
    #[must_use]
    pub fn open(&self) -> Memory {
        let tables = self.tables();
        let last_id = tables.records.keys().next_back().copied().unwrap_or(0);
        Memory { store: self.clone(), session: Session::new(last_id, tables.boot_first_id) }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock()
    }
}

impl Memory {
    /// Returns the newest record that matches.
    fn newest(&self, matches: impl Fn(&Record) -> bool) -> Option<Record> {
        self.store.tables().records.values().rev().find(|record| matches(record)).cloned()
    }
}

/// Whether a record's output was published.
fn is_published(record: &Record) -> bool {
    matches!(record.state, State::Published | State::Done | State::Changed)
}

impl Ledger for Memory {
    fn instance(&self) -> &'static str {
        "00000000"
    }

    fn session(&self) -> &Session {
        &self.session
    }

    fn join(&self, boot: &str) -> Result<PreviousShutdown> {
        let mut tables = self.store.tables();
        let is_clean = match &tables.use_state {
            UseState::Never => true,
            UseState::InUse => false,
            UseState::Ended(ended) => !boot.is_empty() && ended == boot,
        };
        tables.use_state = UseState::InUse;
        if boot.is_empty() || tables.boot != boot {
            boot.clone_into(&mut tables.boot);
            tables.boot_first_id = self.session.upcoming_id();
        }
        self.session.joined(boot, tables.boot_first_id);
        Ok(if is_clean { PreviousShutdown::Clean } else { PreviousShutdown::Unclean })
    }

    fn leave(&self) -> Result<()> {
        if let Some(boot) = self.session.clean_end() {
            self.store.tables().use_state = UseState::Ended(boot);
        }
        Ok(())
    }

    fn register_pipeline(&self, name: &str, input: &Path, output: &Path) -> Result<PipelineId> {
        let mut tables = self.store.tables();
        let known =
            tables.pipelines.iter_mut().find(|dirs| dirs.input == input && dirs.output == output);
        if let Some(dirs) = known {
            name.clone_into(&mut dirs.name);
            return Ok(dirs.id);
        }
        let id = tables.pipelines.last().map_or(1, |dirs| dirs.id + 1);
        let (input, output) = (input.to_path_buf(), output.to_path_buf());
        tables.pipelines.push(PipelineDirs { id, name: name.to_owned(), input, output });
        Ok(id)
    }

    fn pipelines(&self) -> Result<Vec<PipelineDirs>> {
        Ok(self.store.tables().pipelines.clone())
    }

    fn root_inode(&self, pipeline: PipelineId, end: PipelineEnd) -> Result<Option<u64>> {
        Ok(self.store.tables().root_inodes.get(&(pipeline, end)).copied())
    }

    fn set_root_inode(&self, pipeline: PipelineId, end: PipelineEnd, inode: u64) -> Result<()> {
        self.store.tables().root_inodes.insert((pipeline, end), inode);
        Ok(())
    }

    fn flush(&self, _: Duration) -> Result<()> {
        Ok(())
    }

    fn append(&self, records: &[Record], _: Flush) -> Result<()> {
        let records = records.iter().map(|record| (record.id, record.clone()));
        self.store.tables().records.extend(records);
        Ok(())
    }

    fn set_states(&self, updates: &[StateUpdate], _: Flush) -> Result<()> {
        let mut tables = self.store.tables();
        for (id, state, reason) in updates {
            let record = tables.records.get_mut(id);
            let is_late =
                |record: &Record| *state == State::Published && record.state != State::Intent;
            if let Some(record) = record.filter(|record| !is_late(record)) {
                record.state = *state;
                record.reason = reason.clone().or_else(|| record.reason.take());
            }
        }
        Ok(())
    }

    fn record(&self, id: RecordId) -> Result<Option<Record>> {
        Ok(self.store.tables().records.get(&id).cloned())
    }

    fn latest_of_each(
        &self,
        pipeline: PipelineId,
        sources: &[&Path],
    ) -> Result<Vec<Option<Record>>> {
        let latest = |source: &&Path| {
            self.newest(|record| {
                let is_counted = record.state != State::Withdrawn;
                record.pipeline == pipeline && record.source == **source && is_counted
            })
        };
        Ok(sources.iter().map(latest).collect())
    }

    fn latest_of_inode(
        &self,
        pipeline: PipelineId,
        source: &Path,
        inode: u64,
    ) -> Result<Option<Record>> {
        Ok(self.newest(|record| {
            let is_same = record.source == source && record.identity.inode == inode;
            let was_published = is_published(record)
                || matches!(record.state, State::Quarantined | State::Requeued)
                    && record.output.is_some();
            record.pipeline == pipeline && is_same && was_published
        }))
    }

    fn latest_of_file(
        &self,
        pipeline: PipelineId,
        source: &Path,
        found: &Fingerprint,
    ) -> Result<Option<Record>> {
        let is_same = |record: &Record| {
            let is_same = record.source == source && record.identity.matches_content(found);
            record.pipeline == pipeline && is_same && is_published(record)
        };
        let is_exact = |record: &Record| record.identity.ctime_ns == found.ctime_ns;
        let exact = self.newest(|record| is_same(record) && is_exact(record));
        Ok(exact.or_else(|| self.newest(is_same)))
    }

    fn latest_published(&self, pipeline: PipelineId, source: &Path) -> Result<Option<Record>> {
        Ok(self.newest(|record| {
            let was_published = record.state == State::Requeued && record.output.is_some();
            let is_published = is_published(record) || was_published;
            record.pipeline == pipeline && record.source == source && is_published
        }))
    }

    fn latest_for_output(&self, pipeline: PipelineId, output: &Path) -> Result<Option<Record>> {
        Ok(self.newest(|record| {
            let path = record.output.as_ref().map(|output| &output.path);
            let may_publish =
                is_published(record) || matches!(record.state, State::Intent | State::Requeued);
            record.pipeline == pipeline && path.is_some_and(|path| path == output) && may_publish
        }))
    }

    fn first_record_ns(&self, pipeline: PipelineId) -> Result<Option<i64>> {
        let tables = self.store.tables();
        let mut records = tables.records.values();
        Ok(records.find(|record| record.pipeline == pipeline).map(|record| record.at_ns))
    }

    fn last_record_ns(&self, pipeline: PipelineId) -> Result<Option<i64>> {
        let tables = self.store.tables();
        let mut records = tables.records.values().rev();
        Ok(records.find(|record| record.pipeline == pipeline).map(|record| record.at_ns))
    }

    fn unfinished(&self) -> Result<Vec<Record>> {
        let tables = self.store.tables();
        Ok(tables.records.values().filter(|record| record.state.is_unfinished()).cloned().collect())
    }

    fn history(&self, query: &HistoryQuery) -> Result<Vec<Record>> {
        let HistoryQuery { state, since_ns, limit, before } = *query;
        let tables = self.store.tables();
        let found = tables.records.values().rev().filter(|record| {
            before.is_none_or(|before| record.id < before)
                && since_ns.is_none_or(|since| record.at_ns >= since)
                && state.is_none_or(|state| record.state == state)
        });
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found.take(limit).cloned().collect())
    }

    fn finished(&self, after: RecordId, limit: u64) -> Result<Vec<Record>> {
        let tables = self.store.tables();
        let later = tables.records.range(after.saturating_add(1)..).map(|(_, record)| record);
        let finished = later.filter(|record| !record.state.is_unfinished());
        Ok(finished.take(usize::try_from(limit).unwrap_or(usize::MAX)).cloned().collect())
    }

    fn archived(
        &self,
        pipeline: PipelineId,
        source: &Path,
        found: &Fingerprint,
    ) -> Result<Option<Record>> {
        let is_it = |record: &Record| {
            let is_archived = matches!(record.on_success, OnSuccess::Archive(_));
            record.pipeline == pipeline
                && record.source == source
                && record.identity.is_copy_of(found)
                && record.state == State::Done
                && is_archived
        };
        let is_same = |record: &Record| record.identity.inode == found.inode;
        let same = self.newest(|record| is_it(record) && is_same(record));
        Ok(same.or_else(|| self.newest(is_it)))
    }

    fn set_reasons(&self, reasons: &[(RecordId, Option<Reason>)]) -> Result<()> {
        let mut tables = self.store.tables();
        for (id, reason) in reasons {
            let record = tables.records.get_mut(id);
            if let Some(record) = record.filter(|record| !record.state.is_unfinished()) {
                record.reason.clone_from(reason);
            }
        }
        Ok(())
    }

    fn remove_records(&self, ids: &[RecordId]) -> Result<u64> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        let records = &mut self.store.tables().records;
        let newest = records.keys().next_back().copied();
        let mut removed = 0;
        for id in ids {
            let Some(record) = records.get(&id) else { continue };
            let is_older =
                |older: &Record| older.pipeline == record.pipeline && older.source == record.source;
            let has_older = records.range(..id).any(|(_, older)| is_older(older));
            if Some(id) == newest || record.state.is_unfinished() || has_older {
                continue;
            }
            records.remove(&id);
            removed += 1;
        }
        Ok(removed)
    }
}
