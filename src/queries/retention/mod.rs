//! What a retention removes: archived and quarantined files, and old records of the ledger.

mod archive;
mod history;
mod quarantine;
mod removal;

use std::{path::Path, sync::Arc, time::Duration};

pub use self::{
    history::{Examined, History},
    removal::{Removed, remove},
};
use crate::{
    config::{Pipeline, Retention},
    fs::NodeId,
    ledger::{self, Ledger, PipelineId, Record, RecordId},
    policy::{OnSuccess, words},
    source::{MovedFile, MovedFiles, SourceError, Targets, moved_files},
};

words! {
    /// The area of a file that a retention removes.
    Area { Archive = "archive", Quarantine = "quarantine" }
}

/// A failed search or removal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The service stops. The rest is left to a later round.
    #[error("the service stops")]
    Stopped,
}

/// The retention of one pipeline.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "it holds a closure")]
pub struct Scope<'a> {
    pub config: &'a Pipeline,
    pub rules: Retention,
    pub ledger: &'a dyn Ledger,
    /// The pipeline's ID in the ledger.
    pub id: PipelineId,
    /// The time by which ages count, in nanoseconds since the epoch.
    pub now_ns: i64,
    pub targets: &'a Arc<Targets>,
    /// Asked between two files: whether to give up.
    pub is_stopped: &'a (dyn Fn() -> bool + Sync),
}

/// A file that is to be removed, and its record.
#[derive(Debug)]
pub struct ExpiredFile {
    pub record: Record,
    pub file: MovedFile,
    /// Whether its content must be compared first.
    pub by_content: bool,
}

/// What was found in an archive or a quarantine.
#[derive(Debug)]
pub struct Found {
    pub area: Area,
    pub store: Box<dyn MovedFiles>,
    /// What is to be removed, the oldest first; at most
    /// [`limits::RETENTION_FILES_MAX`](crate::limits::RETENTION_FILES_MAX).
    pub expired: Vec<ExpiredFile>,
    /// Whether more files are to be removed than that.
    pub has_more: bool,
    /// Records of quarantined files that are gone.
    gone: Vec<Record>,
    /// Files that an interrupted removal took and that are not removed: with the record's number.
    taken: Vec<(MovedFile, RecordId)>,
    /// The lowest number of a record whose file was found; [`RecordId::MAX`] if there is none.
    pub oldest: RecordId,
    /// The error of the first directory that could not be listed.
    pub error: Option<SourceError>,
}

impl Found {
    fn new(area: Area, store: Box<dyn MovedFiles>) -> Self {
        let (expired, gone, taken) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            area,
            store,
            expired,
            has_more: false,
            gone,
            taken,
            oldest: RecordId::MAX,
            error: None,
        }
    }

    /// Returns the bytes of the files that are to be removed.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.expired.iter().map(|expired| expired.file.identity.size).sum()
    }
}

impl Scope<'_> {
    /// Searches an area; `None` if it has no retention. Walks the entire archive.
    pub fn find(&self, area: Area) -> Result<Option<Found>, Error> {
        let Retention { archive, archive_size, quarantine, .. } = self.rules;
        let instance = NodeId::new(self.ledger.instance());
        match (area, &self.config.on_success) {
            (Area::Archive, OnSuccess::Archive(root))
                if archive.is_some() || archive_size.is_some() =>
            {
                let found = Found::new(area, moved_files(root, &instance, self.targets)?);
                archive::search(self, root, found).map(Some)
            }
            (Area::Quarantine, _) if let Some(age) = quarantine => {
                let root = &self.config.quarantine;
                match moved_files(root, &instance, self.targets) {
                    // Nothing has been quarantined.
                    Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(None),
                    store => quarantine::search(self, age, Found::new(area, store?)).map(Some),
                }
            }
            _ => Ok(None),
        }
    }

    /// Returns the directory of an area; that of an archive is empty without one.
    #[must_use]
    pub fn root(&self, area: Area) -> &Path {
        match (area, &self.config.on_success) {
            (Area::Quarantine, _) => &self.config.quarantine,
            (Area::Archive, OnSuccess::Archive(archive)) => archive,
            (Area::Archive, OnSuccess::Keep | OnSuccess::Delete) => Path::new(""),
        }
    }

    /// Returns the time before which records are older than this.
    fn before_ns(&self, age: Duration) -> i64 {
        before_ns(self.now_ns, age)
    }

    fn check_stop(&self) -> Result<(), Error> {
        if (self.is_stopped)() { Err(Error::Stopped) } else { Ok(()) }
    }
}

fn before_ns(now_ns: i64, age: Duration) -> i64 {
    now_ns.saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX))
}
