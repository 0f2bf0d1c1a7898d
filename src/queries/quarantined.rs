//! Lists quarantined files and returns them to the intake.

use std::{
    ffi::OsStr,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;

use crate::{
    config::Pipeline,
    fs::{self, Dir, NodeId, Overwrite, SecondName},
    ledger::{self, Flush, HistoryQuery, Ledger, PipelineDirs, Record, RecordId, State},
    observe::display_path,
    protocol::quarantine::reason_name,
};

/// Limit for reading a reason file; this service writes shorter ones.
const REASON_BYTES_MAX: u64 = 64 * 1024;

/// A quarantined file that waits for the operator's decision.
#[derive(Clone, Debug)]
pub struct Quarantined {
    pub record: Record,
    pub roots: PipelineDirs,
}

/// The reason for which a file was not returned to the intake.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no quarantined file has this number")]
    Unknown,
    #[error("{what}")]
    Place { what: String, source: std::io::Error },
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

/// The facts that the reason file next to a quarantined file adds to its record.
#[derive(Debug, Default, Deserialize)]
pub struct Reason {
    pub stage: Option<String>,
    pub attempts: Option<u32>,
}

impl Quarantined {
    /// Returns its original path.
    #[must_use]
    pub fn source(&self) -> PathBuf {
        self.roots.input.join(&self.record.source)
    }

    /// Returns its current path.
    #[must_use]
    pub fn kept_at(&self) -> PathBuf {
        self.record.moved_to.clone().unwrap_or_else(|| self.source())
    }

    /// Reads its reason file, as far as possible: any process may have changed that.
    #[must_use]
    pub fn reason(&self, pipelines: &[Pipeline]) -> Reason {
        let has_dirs = |pipeline: &&Pipeline| {
            pipeline.input == self.roots.input && pipeline.output == self.roots.output
        };
        let quarantined = match &self.record.moved_to {
            Some(moved_to) => Some(moved_to.clone()),
            None => pipelines
                .iter()
                .find(has_dirs)
                .map(|pipeline| pipeline.quarantine.join(&self.record.source)),
        };
        quarantined.and_then(|path| read_reason(&path)).unwrap_or_default()
    }
}

fn read_reason(quarantined: &Path) -> Option<Reason> {
    let (parent, name) = fs::split(quarantined);
    let file = Dir::open(parent).ok()?.open_file(Path::new(&reason_name(name))).ok()?;
    let mut text = Vec::new();
    file.take(REASON_BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Returns all quarantined files, newest first.
pub fn all(ledger: &dyn Ledger) -> ledger::Result<Vec<Quarantined>> {
    let roots = ledger.roots()?;
    let query = HistoryQuery { state: Some(State::Quarantined), ..HistoryQuery::default() };
    let mut found = Vec::new();
    for record in ledger.history(&query)? {
        if is_quarantined(ledger, &record)? {
            let dirs = roots.iter().find(|roots| roots.id == record.pipeline).cloned();
            found.extend(dirs.map(|roots| Quarantined { record, roots }));
        }
    }
    Ok(found)
}

/// Returns the quarantined file of this record.
pub fn read(ledger: &dyn Ledger, id: RecordId) -> Result<Quarantined, Error> {
    let record = ledger.record(id)?.filter(|record| record.state == State::Quarantined);
    let record = record.ok_or(Error::Unknown)?;
    if !is_quarantined(ledger, &record)? {
        return Err(Error::Unknown);
    }
    let roots = ledger.roots()?.into_iter().find(|roots| roots.id == record.pipeline);
    roots.map(|roots| Quarantined { record, roots }).ok_or(Error::Unknown)
}

/// Checks whether a record is the newest of its source, or its file is in quarantine. A file that
/// was moved there stays, whatever has come under its name since.
fn is_quarantined(ledger: &dyn Ledger, record: &Record) -> ledger::Result<bool> {
    let newest = ledger.latest(record.pipeline, &record.source)?;
    let is_newest = newest.is_some_and(|newest| newest.id == record.id);
    Ok(is_newest || record.moved_to.as_ref().is_some_and(|path| path.exists()))
}

/// Returns a file to the intake, which the caller requests to scan.
pub fn requeue(ledger: &dyn Ledger, file: &Quarantined) -> Result<(), Error> {
    return_to_input(&file.record, &file.roots, &NodeId::new(ledger.instance()))?;
    ledger.mark(&[(file.record.id, State::Requeued, None)], Flush::Now)?;
    Ok(())
}

/// Restores the original name of a moved file; one that stayed in place has it.
fn return_to_input(record: &Record, roots: &PipelineDirs, instance: &NodeId) -> Result<(), Error> {
    let Some(moved_to) = &record.moved_to else {
        return Ok(());
    };
    let failed = |what: String| move |source| Error::Place { what, source };
    let (parent, name) = fs::split(moved_to);
    let (source_parent, source_name) = fs::split(&record.source);
    let from_dir =
        Dir::open(parent).map_err(failed(format!("cannot open {}", display_path(parent))))?;
    let input = Dir::open(&roots.input)
        .map_err(failed(format!("cannot open the input {}", display_path(&roots.input))))?;
    let input_dir = input
        .make_beneath(source_parent, fs::SHARED_DIR_MODE)
        .map_err(failed("cannot create its directory in the input".to_owned()))?;
    let to_dir = Arc::new(input_dir);
    let moved = match from_dir.rename(name, &to_dir, source_name, Overwrite::Never) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            copy_back((&from_dir, name), (&to_dir, source_name), instance)
        }
        moved => moved,
    };
    moved.map_err(failed(format!("cannot move it back from {}", display_path(moved_to))))?;
    // The history has the reason as well; a missing reason file is no loss.
    drop(from_dir.unlink(&reason_name(name)));
    to_dir
        .sync()
        .and_then(|()| from_dir.sync())
        .map_err(failed("cannot make the move durable".to_owned()))
}

/// Moves a file from another file system: the copy is durable before the file is removed.
fn copy_back(
    (from, name): (&Dir, &OsStr),
    (to, source_name): (&Arc<Dir>, &OsStr),
    instance: &NodeId,
) -> io::Result<()> {
    let copy = fs::copy((from, name), to, instance, || ())?;
    let second_name = copy.publish(source_name, Overwrite::Never).map_err(|(_, error)| error)?;
    to.sync()?;
    second_name.as_ref().map_or(Ok(()), SecondName::remove)?;
    from.unlink(name)
}
