//! Quarantine: a file that failed for good, and the reason beside it, for a person to decide.

use std::{
    error::Error,
    ffi::{OsStr, OsString},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

use super::source::{self, Take};
use crate::{
    failpoint,
    fs::{self, Dir, Replace, Temp},
    identity::Identity,
    ledger::{Record, State, When},
    observe::shown,
    pipeline::{acknowledge, failure::DisposeError, job::Job},
    policy::OnSuccess,
    stages::Stage,
};

/// What a reason's name ends in.
const REASON: &[u8] = b".json";
/// A name up to this long has a reason of its own whole name.
const REASONED_BYTES: usize = crate::limits::NAME_BYTES - REASON.len();
/// A reason is smaller than this.
const MOST_BYTES: u64 = 64 * 1024;

/// The JSON record beside a quarantined file.
#[derive(Serialize)]
struct Reason<'a> {
    pipeline: &'a str,
    source: String,
    stage: Stage,
    error: &'a str,
    attempts: u32,
    at: String,
    /// Where the file is, if it was moved here.
    moved_to: Option<String>,
    identity: Identity,
    steps: String,
    /// BLAKE3 of the pipeline's resolved configuration.
    config_hash: String,
    requeue: String,
}

/// Puts a failed file into quarantine: first the ledger knows, then the reason stands beside its
/// place, then the file moves. Where the sources are to be kept, only the first two.
pub fn quarantine(job: &Job, stage: Stage, reason: &str) -> Result<(), DisposeError> {
    let failed = |source: Box<dyn Error + Send + Sync>| DisposeError::Quarantine {
        path: job.source_path(),
        source,
    };
    let (parent, name) = fs::split(&job.path);
    let dir = open(job, parent).map_err(|error| failed(error.into()))?;
    let moves = job.context.config.on_success != OnSuccess::Keep;
    let name = free_name(job, &dir, name).map_err(|error| failed(error.into()))?;
    let moved_to = moves.then(|| dir.path().join(&name));
    let mut record = record(job, reason, moved_to.clone());
    let append = |record: &Record| {
        failpoint::barrier("barrier::quarantine", || {
            job.context.ledger.append(std::slice::from_ref(record), When::Now)
        })
    };
    append(&record).map_err(|error| failed(error.into()))?;
    write_reason(job, &dir, &name, &content(job, stage, reason, moved_to.as_deref()))
        .map_err(|error| failed(error.into()))?;
    if moves && let Err(error) = move_source(job, &dir, &name, &record) {
        tracing::warn!(pipeline = %job.context.name(), source = %shown(&job.path), %error, "cannot be moved to quarantine: it stays in place");
        record.moved_to = None;
        record.reason = Some(format!("{reason} (left in place: {error})"));
        append(&record).map_err(|error| failed(error.into()))?;
    }
    acknowledge::ended(job, &record).map_err(|error| failed(error.into()))
}

fn open(job: &Job, parent: &Path) -> io::Result<Arc<Dir>> {
    let root = &job.context.config.quarantine;
    let above = root.ancestors().find_map(|above| Dir::open(above).ok().map(|dir| (above, dir)));
    let Some((above, dir)) = above else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let below = root.strip_prefix(above).unwrap_or(Path::new(""));
    Ok(Arc::new(dir.make_beneath(&below.join(parent), fs::OWN)?))
}

/// The source's name, or the first of `NAME.1`, `NAME.2`, … that nobody has, nor its reason's name.
/// A reason that was written for this very source, and has no file beside it, is replaced.
fn free_name(job: &Job, dir: &Dir, name: &OsStr) -> io::Result<OsString> {
    let mut number = 0_u32;
    let mut candidate = name.to_owned();
    loop {
        let taken = dir.look(Path::new(&candidate))?.is_some();
        if !taken && is_free_for(job, dir, &reason_name(&candidate))? {
            return Ok(candidate);
        }
        number += 1;
        candidate = fs::numbered(name, number, "", REASONED_BYTES);
    }
}

fn is_free_for(job: &Job, dir: &Dir, reason: &OsStr) -> io::Result<bool> {
    #[derive(serde::Deserialize)]
    struct Of {
        source: String,
        config_hash: String,
    }
    if dir.look(Path::new(reason))?.is_none() {
        return Ok(true);
    }
    let Ok(mut file) = dir.open_file(Path::new(reason)) else {
        return Ok(false);
    };
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(&mut file, MOST_BYTES), &mut text)?;
    let source = shown(&job.source_path()).to_string();
    let ours = |of: Of| of.source == source && of.config_hash.len() == 2 * blake3::OUT_LEN;
    Ok(serde_json::from_slice(&text).is_ok_and(ours))
}

fn record(job: &Job, reason: &str, moved_to: Option<PathBuf>) -> Record {
    Record {
        id: job.context.ledger.next_id(),
        pipeline: job.context.id,
        source: job.path.clone(),
        identity: job.seen.identity,
        output: None,
        on_success: job.context.config.on_success.clone(),
        state: State::Quarantined,
        reason: Some(reason.to_owned()),
        moved_to,
        at_ns: acknowledge::now_ns(),
    }
}

fn content(job: &Job, stage: Stage, reason: &str, moved_to: Option<&Path>) -> Vec<u8> {
    let config = &job.context.config;
    let reason = Reason {
        pipeline: job.context.name(),
        source: shown(&job.source_path()).to_string(),
        stage,
        error: reason,
        attempts: job.attempt,
        at: jiff::Timestamp::now().to_string(),
        moved_to: moved_to.map(|path| shown(path).to_string()),
        identity: job.seen.identity,
        steps: config.steps.to_string(),
        config_hash: blake3::hash(format!("{config:?}").as_bytes()).to_hex().to_string(),
        requeue: format!("tidemill requeue '{}'", shown(&job.source_path())),
    };
    // Strings and numbers only: there is nothing in it that JSON cannot hold.
    serde_json::to_vec_pretty(&reason).unwrap_or_default()
}

/// `NAME.json`, replaced as a whole. A name too long for that is cut short.
fn write_reason(job: &Job, dir: &Arc<Dir>, name: &OsStr, content: &[u8]) -> io::Result<()> {
    let temp = Temp::create(dir, &job.context.instance)?;
    temp.file().write_all(content)?;
    temp.file().sync_all()?;
    let name = reason_name(name);
    temp.publish(&name, Replace::Yes).map_err(|(_, error)| error)?;
    dir.sync()
}

/// The name of the reason beside a file of this name.
#[must_use]
pub fn reason_name(name: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let name = name.as_bytes();
    OsString::from_vec([name.get(..REASONED_BYTES).unwrap_or(name), REASON].concat())
}

/// Moves the file that failed, and no other, beside its reason.
fn move_source(job: &Job, dir: &Dir, name: &OsStr, record: &Record) -> io::Result<()> {
    let mark = (&job.context.instance, record.id);
    match source::take(&job.input, &job.path, &record.identity, mark)? {
        Take::Ours(taken) => taken
            .move_to(dir, name)
            .map(drop)
            .map_err(|(taken, error)| taken.put_back().err().map_or(error, |(_, second)| second)),
        Take::Gone => Err(io::Error::new(io::ErrorKind::NotFound, "it is gone")),
        Take::Another => Err(io::Error::other("it changed since: it is processed again")),
        Take::NotPutBack(private, error) => {
            Err(io::Error::new(error.kind(), format!("it is now {}: {error}", private.display())))
        }
    }
}
