//! Finds the records that are older than the retention and that nothing needs.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{super::open_input, Error, before_ns};
use crate::{
    config::Pipeline,
    fs::Kind,
    ledger::{Ledger, PipelineEnd, PipelineId, Record, RecordId, State},
    limits,
    policy::OnSuccess,
    protocol::retention::{Needs, is_expired, may_remove, was_published},
    sink::{self, Sink, SinkOptions},
    source::{Source, SourceError},
};

/// The opened directories of a pipeline, by which its records are judged.
#[derive(Debug)]
struct Ends {
    input: Arc<dyn Source>,
    sink: Arc<dyn Sink>,
    /// The archive, if it has a retention, and the lowest number of a record with a file there.
    archive: Option<(PathBuf, RecordId)>,
}

/// A search for old records, of all pipelines, in the order of their numbers.
#[derive(Debug)]
pub struct History<'a> {
    ledger: &'a dyn Ledger,
    before_ns: i64,
    ends: HashMap<PipelineId, Ends>,
}

/// One page of the search.
#[derive(Debug, Default)]
pub struct Examined {
    /// The records that nothing needs.
    pub removable: Vec<RecordId>,
    /// How many records were examined.
    pub count: u64,
    /// The last one of them; `None` at the end of the old records.
    pub last: Option<RecordId>,
}

impl<'a> History<'a> {
    #[must_use]
    pub fn new(ledger: &'a dyn Ledger, now_ns: i64, age: Duration) -> Self {
        Self { ledger, before_ns: before_ns(now_ns, age), ends: HashMap::new() }
    }

    /// Adds a pipeline with its ID: records of others stay. `oldest_archived` is the lowest number of a record
    /// whose file is in the archive ([`RecordId::MAX`] if there is none), if that has a retention. Returns false for a pipeline with a directory
    /// that is not mounted, or of which that is not known: its records stay, too.
    pub fn add(
        &mut self,
        (config, id): (&Pipeline, PipelineId),
        oldest_archived: Option<RecordId>,
    ) -> Result<bool, Error> {
        let input = open_input(&config.input, self.ledger.instance())?;
        let options = SinkOptions::offline(&config.name, &config.output, self.ledger.instance());
        let failed = |source| SourceError { path: config.output.clone(), source };
        let sink = sink::open(options).map_err(failed)?;
        let recorded = |end| self.ledger.root_inode(id, end);
        let root = input.metadata()?.identity.inode;
        let is_mounted = recorded(PipelineEnd::Input)?.is_some_and(|inode| inode == root)
            && recorded(PipelineEnd::Output)?.is_some_and(|inode| !sink.is_unmounted(inode));
        if !is_mounted {
            return Ok(false);
        }
        let archive = match &config.on_success {
            OnSuccess::Archive(archive) => oldest_archived.map(|oldest| (archive.clone(), oldest)),
            OnSuccess::Keep | OnSuccess::Delete => None,
        };
        self.ends.insert(id, Ends { input, sink, archive });
        Ok(true)
    }

    /// Examines the records after this one, at most
    /// [`limits::HISTORY_BATCH_RECORDS`]. Blocks.
    pub fn examine(&self, after: RecordId) -> Result<Examined, Error> {
        let records = self.ledger.finished(after, limits::HISTORY_BATCH_RECORDS)?;
        let mut examined = Examined { count: records.len() as u64, ..Examined::default() };
        // Numbers grow with time, unless a clock was set back.
        if records.iter().any(|record| record.at_ns < self.before_ns) {
            examined.last = records.last().map(|record| record.id);
        }
        let mut hidden = HashMap::new();
        for record in records.iter().filter(|record| record.at_ns < self.before_ns) {
            let Some(ends) = self.ends.get(&record.pipeline) else { continue };
            if may_remove(record, self.needs(ends, record, &mut hidden)?) {
                examined.removable.push(record.id);
            }
        }
        Ok(examined)
    }

    fn needs(
        &self,
        ends: &Ends,
        record: &Record,
        hidden: &mut HashMap<PathBuf, bool>,
    ) -> Result<Needs, Error> {
        Ok(Needs {
            source: self.is_source_there(ends, record, hidden)?,
            output: self.is_output_there(ends, record)?,
            archived: is_archived(ends, record),
        })
    }

    fn is_source_there(
        &self,
        ends: &Ends,
        record: &Record,
        hidden: &mut HashMap<PathBuf, bool>,
    ) -> Result<bool, Error> {
        let latest = self.ledger.latest(record.pipeline, &record.source)?;
        let is_superseded =
            record.state == State::Withdrawn || latest.is_some_and(|latest| latest.id > record.id);
        if let Some(found) = ends.input.stat_fresh(&record.source)? {
            return Ok(!is_superseded || found.identity.matches_content(&record.identity));
        }
        // The service saw, or made, the end of the others.
        let may_be_there = record.state != State::Changed && record.on_success == OnSuccess::Keep;
        if is_superseded || !may_be_there {
            return Ok(false);
        }
        let parent = record.source.parent().unwrap_or_else(|| Path::new("")).to_path_buf();
        if let Some(known) = hidden.get(&parent) {
            return Ok(*known);
        }
        let is_hidden = may_hide_files(&*ends.input, &parent)?;
        hidden.insert(parent, is_hidden);
        Ok(is_hidden)
    }

    fn is_output_there(&self, ends: &Ends, record: &Record) -> Result<bool, Error> {
        let Some(output) = record.output.as_ref().filter(|_| was_published(record)) else {
            return Ok(false);
        };
        let latest = self.ledger.latest_published(record.pipeline, &record.source)?;
        let is_replaced = latest
            .filter(|latest| latest.id > record.id)
            .is_some_and(|latest| latest.output.is_some_and(|newer| newer.path == output.path));
        let failed = |error: sink::Error| SourceError { path: error.path, source: error.source };
        Ok(!is_replaced && ends.sink.has(&output.path).map_err(failed)?)
    }
}

/// Checks whether the files of a directory may be there and not be seen: it, or the directory above it that
/// is left, is empty, as a mount point without its mount. The root itself is known to be mounted.
fn may_hide_files(input: &dyn Source, directory: &Path) -> Result<bool, Error> {
    let below_root = |path: &&Path| !path.as_os_str().is_empty();
    for directory in directory.ancestors().filter(below_root) {
        let Some(found) = input.stat_fresh(directory)? else { continue };
        if found.kind == Kind::Directory {
            let page = input.list(directory.to_path_buf(), &Arc::from([])).next_page(1, &|_| true);
            return Ok(page.files.is_empty());
        }
        return Ok(false);
    }
    Ok(false)
}

/// Checks whether the file of a record may be in an archive that has a retention.
fn is_archived(ends: &Ends, record: &Record) -> bool {
    let Some((root, oldest)) = &ends.archive else { return false };
    let is_there = matches!(&record.on_success, OnSuccess::Archive(archive) if archive == root);
    let is_disposed_of = record.state == State::Done && !is_expired(record);
    is_there && is_disposed_of && record.id >= *oldest
}
