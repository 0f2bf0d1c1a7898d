//! What is in quarantine, and the way back to the intake.

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
    pipeline::publish::dispose::quarantine::reason_name,
};

/// A reason that is longer is none of ours.
const REASON_BYTES: u64 = 64 * 1024;

/// A file that waits for a person's decision.
#[derive(Clone, Debug)]
pub struct Quarantined {
    pub record: Record,
    pub roots: PipelineDirs,
}

/// Why a file did not go back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no file with this number is in quarantine")]
    Unknown,
    #[error("{what}")]
    Place { what: String, source: std::io::Error },
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
}

/// What the reason that stands beside a quarantined file adds to its record.
#[derive(Debug, Default, Deserialize)]
pub struct Reason {
    pub stage: Option<String>,
    pub attempts: Option<u32>,
}

impl Quarantined {
    /// Where it came from.
    #[must_use]
    pub fn source(&self) -> PathBuf {
        self.roots.input.join(&self.record.source)
    }

    /// Where it is now.
    #[must_use]
    pub fn kept_at(&self) -> PathBuf {
        self.record.moved_to.clone().unwrap_or_else(|| self.source())
    }

    /// What stands beside it, as far as it can be read: any hand may have changed that.
    #[must_use]
    pub fn reason(&self, pipelines: &[Pipeline]) -> Reason {
        let of = |pipeline: &&Pipeline| {
            pipeline.input == self.roots.input && pipeline.output == self.roots.output
        };
        let place = match &self.record.moved_to {
            Some(moved_to) => Some(moved_to.clone()),
            None => pipelines
                .iter()
                .find(of)
                .map(|pipeline| pipeline.quarantine.join(&self.record.source)),
        };
        place.and_then(|place| read_reason(&place)).unwrap_or_default()
    }
}

fn read_reason(beside: &Path) -> Option<Reason> {
    let (parent, name) = fs::split(beside);
    let file = Dir::open(parent).ok()?.open_file(Path::new(&reason_name(name))).ok()?;
    let mut text = Vec::new();
    file.take(REASON_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Everything in quarantine, newest first.
pub fn all(ledger: &dyn Ledger) -> ledger::Result<Vec<Quarantined>> {
    let roots = ledger.roots()?;
    let query = HistoryQuery { state: Some(State::Quarantined), ..HistoryQuery::default() };
    let mut found = Vec::new();
    for record in ledger.history(&query)? {
        if is_there(ledger, &record)? {
            let of = roots.iter().find(|roots| roots.id == record.pipeline).cloned();
            found.extend(of.map(|roots| Quarantined { record, roots }));
        }
    }
    Ok(found)
}

/// The one of this record.
pub fn read(ledger: &dyn Ledger, id: RecordId) -> Result<Quarantined, Error> {
    let record = ledger.record(id)?.filter(|record| record.state == State::Quarantined);
    let record = record.ok_or(Error::Unknown)?;
    if !is_there(ledger, &record)? {
        return Err(Error::Unknown);
    }
    let roots = ledger.roots()?.into_iter().find(|roots| roots.id == record.pipeline);
    roots.map(|roots| Quarantined { record, roots }).ok_or(Error::Unknown)
}

/// Whether it is the newest record of its source. A file that was moved away stays there, whatever
/// has come under its name since.
fn is_there(ledger: &dyn Ledger, record: &Record) -> ledger::Result<bool> {
    let newest = ledger.latest(record.pipeline, &record.source)?;
    let is_newest = newest.is_some_and(|newest| newest.id == record.id);
    Ok(is_newest || record.moved_to.as_ref().is_some_and(|path| path.exists()))
}

/// Gives it back to the intake, which must be told to scan.
pub fn requeue(ledger: &dyn Ledger, file: &Quarantined) -> Result<(), Error> {
    return_to_input(&file.record, &file.roots, &NodeId::new(ledger.instance()))?;
    ledger.mark(&[(file.record.id, State::Requeued, None)], Flush::Now)?;
    Ok(())
}

/// Gives a file that was moved its old name back; one that stayed in place has it.
fn return_to_input(record: &Record, roots: &PipelineDirs, instance: &NodeId) -> Result<(), Error> {
    let Some(moved_to) = &record.moved_to else {
        return Ok(());
    };
    let failed = |what: String| move |source| Error::Place { what, source };
    let (parent, name) = fs::split(moved_to);
    let (source_parent, source_name) = fs::split(&record.source);
    let from =
        Dir::open(parent).map_err(failed(format!("cannot open {}", display_path(parent))))?;
    let input = Dir::open(&roots.input)
        .map_err(failed(format!("cannot open the input {}", display_path(&roots.input))))?;
    let to = input
        .make_beneath(source_parent, fs::SHARED)
        .map_err(failed("cannot make its directory".to_owned()))?;
    let to = Arc::new(to);
    let moved = match from.rename(name, &to, source_name, Overwrite::Never) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            copy_back((&from, name), (&to, source_name), instance)
        }
        moved => moved,
    };
    moved.map_err(failed(format!("cannot move it back from {}", display_path(moved_to))))?;
    // The reason is told in the history as well; a missing file of it is no loss.
    drop(from.unlink(&reason_name(name)));
    to.sync().and_then(|()| from.sync()).map_err(failed("cannot make the move durable".to_owned()))
}

/// As a rename, from another file system: the copy is durable before the file goes.
fn copy_back(
    (from, name): (&Dir, &OsStr),
    (to, source_name): (&Arc<Dir>, &OsStr),
    instance: &NodeId,
) -> io::Result<()> {
    let copy = fs::copy((from, name), to, instance, || ())?;
    let second = copy.publish(source_name, Overwrite::Never).map_err(|(_, error)| error)?;
    to.sync()?;
    second.as_ref().map_or(Ok(()), SecondName::remove)?;
    from.unlink(name)
}
