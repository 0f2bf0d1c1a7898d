//! Quarantine: a file that failed for good, and the reason beside it, for a person to decide.

use std::{
    error::Error,
    ffi::{OsStr, OsString},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;

use super::{
    held_source::{self, TakeResult},
    quarantine_source,
};
use crate::{
    config, failpoint,
    fingerprint::Fingerprint,
    fs::{self, Dir, NodeId, Overwrite, Temp},
    ledger::{Flush, Record, State},
    observe::{display_path, shell_quoted},
    pipeline::{failure::DisposeError, job::Job, outcome},
    policy::OnSuccess,
    stage::Stage,
};

/// What a reason's name ends in.
const REASON: &[u8] = b".json";
/// A name up to this long has a reason of its own whole name.
const REASONED_BYTES: usize = crate::limits::NAME_BYTES_MAX - REASON.len();
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
    identity: Fingerprint,
    transforms: String,
    /// BLAKE3 of the pipeline's resolved configuration.
    config_hash: String,
    requeue: String,
}

/// A file that goes to quarantine, and why.
#[derive(Clone, Copy, Debug)]
pub struct QuarantineEntry<'a> {
    pub config: &'a config::Pipeline,
    pub instance: &'a NodeId,
    /// Of the source, below the input.
    pub path: &'a Path,
    pub identity: Fingerprint,
    pub stage: Stage,
    pub reason: &'a str,
    pub attempts: u32,
}

/// A name in quarantine that is free for one file and its reason.
#[derive(Debug)]
pub struct QuarantineSlot {
    pub dir: Arc<Dir>,
    pub name: OsString,
}

impl QuarantineSlot {
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join(&self.name)
    }
}

/// Puts a failed file into quarantine: first the ledger knows, then the reason stands beside its
/// place, then the file moves. Where the sources are to be kept, only the first two.
pub fn quarantine(job: &Job, stage: Stage, reason: &str) -> Result<(), DisposeError> {
    let failed = |source: Box<dyn Error + Send + Sync>| DisposeError::Quarantine {
        path: job.source_path(),
        source,
    };
    let case = QuarantineEntry {
        config: &job.context.config,
        instance: &job.context.instance,
        path: &job.path,
        identity: job.metadata.identity,
        stage,
        reason,
        attempts: job.attempt,
    };
    let place = case.place().map_err(|error| failed(error.into()))?;
    let moves = job.context.config.on_success != OnSuccess::Keep;
    let mut record = record(job, reason, moves.then(|| place.path()));
    let append = |record: &Record| {
        failpoint::barrier("barrier::quarantine", || {
            job.context.ledger.append(std::slice::from_ref(record), Flush::Now)
        })
    };
    append(&record).map_err(|error| failed(error.into()))?;
    case.write_reason(&place, record.moved_to.as_deref()).map_err(|error| failed(error.into()))?;
    if moves && let Err(error) = move_source(job, &place, &record) {
        tracing::warn!(event = "file.not_moved", pipeline = %job.context.name(), source = %display_path(&job.path), %error, "cannot move to quarantine, source left in place");
        record.moved_to = None;
        record.reason = Some(format!("{reason} (left in place: {error})"));
        append(&record).map_err(|error| failed(error.into()))?;
    }
    outcome::report_unpublished(job, &record).map_err(|error| failed(error.into()))
}

impl QuarantineEntry<'_> {
    fn source_path(&self) -> PathBuf {
        self.config.input.join(self.path)
    }

    /// The source's name, or the first of `NAME.1`, `NAME.2`, … that nobody has, nor its reason's
    /// name. A reason that was written for this very source, and has no file beside it, is replaced.
    pub fn place(&self) -> io::Result<QuarantineSlot> {
        let (parent, own) = fs::split(self.path);
        let dir = self.open(parent)?;
        let is_free = |name: &OsStr| -> io::Result<bool> {
            let taken = dir.stat(Path::new(name))?.is_some();
            Ok(!taken && self.may_have(&dir, &reason_name(name))?)
        };
        let name = if is_free(own)? {
            own.to_owned()
        } else {
            fs::free_number(own, "", REASONED_BYTES, is_free)?
        };
        Ok(QuarantineSlot { dir, name })
    }

    fn open(&self, parent: &Path) -> io::Result<Arc<Dir>> {
        let root = &self.config.quarantine;
        let above =
            root.ancestors().find_map(|above| Dir::open(above).ok().map(|dir| (above, dir)));
        let Some((above, dir)) = above else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let below = root.strip_prefix(above).unwrap_or(Path::new(""));
        Ok(Arc::new(dir.make_beneath(&below.join(parent), fs::OWN)?))
    }

    fn may_have(&self, dir: &Dir, reason: &OsStr) -> io::Result<bool> {
        #[derive(serde::Deserialize)]
        struct Of {
            source: String,
            config_hash: String,
        }
        if dir.stat(Path::new(reason))?.is_none() {
            return Ok(true);
        }
        let Ok(mut file) = dir.open_file(Path::new(reason)) else {
            return Ok(false);
        };
        let mut text = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(&mut file, MOST_BYTES), &mut text)?;
        let source = display_path(&self.source_path()).to_string();
        let ours = |of: Of| of.source == source && of.config_hash.len() == 2 * blake3::OUT_LEN;
        Ok(serde_json::from_slice(&text).is_ok_and(ours))
    }

    /// `NAME.json`, replaced as a whole and durable. A name too long for that is cut short.
    pub fn write_reason(&self, place: &QuarantineSlot, moved_to: Option<&Path>) -> io::Result<()> {
        let temp = Temp::create(&place.dir, self.instance)?;
        temp.file().write_all(&self.content(moved_to))?;
        temp.file().sync_all()?;
        let name = reason_name(&place.name);
        temp.publish(&name, Overwrite::Allow).map_err(|(_, error)| error)?;
        place.dir.sync()
    }

    fn content(&self, moved_to: Option<&Path>) -> Vec<u8> {
        let Self { config, identity, stage, reason, attempts, .. } = *self;
        let source = display_path(&self.source_path()).to_string();
        let reason = Reason {
            pipeline: &config.name,
            stage,
            error: reason,
            attempts,
            at: jiff::Timestamp::now().to_string(),
            moved_to: moved_to.map(|path| display_path(path).to_string()),
            identity,
            transforms: config.transforms.to_string(),
            config_hash: blake3::hash(format!("{config:?}").as_bytes()).to_hex().to_string(),
            requeue: format!("tidemill requeue {}", shell_quoted(&self.source_path())),
            source,
        };
        // Strings and numbers only: there is nothing in it that JSON cannot hold.
        let mut text = serde_json::to_vec_pretty(&reason).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

fn record(job: &Job, reason: &str, moved_to: Option<PathBuf>) -> Record {
    Record {
        id: job.context.ledger.next_id(),
        pipeline: job.context.id,
        source: job.path.clone(),
        identity: job.metadata.identity,
        output: None,
        on_success: job.context.config.on_success.clone(),
        state: State::Quarantined,
        reason: Some(reason.to_owned()),
        moved_to,
        at_ns: outcome::now_ns(),
    }
}

/// The name of the reason beside a file of this name.
#[must_use]
pub fn reason_name(name: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let name = name.as_bytes();
    OsString::from_vec([name.get(..REASONED_BYTES).unwrap_or(name), REASON].concat())
}

/// Moves the file that failed, and no other, beside its reason.
fn move_source(job: &Job, place: &QuarantineSlot, record: &Record) -> io::Result<()> {
    let mark = (&job.context.instance, record.id);
    match held_source::take(&job.input, &job.path, &record.identity, mark)? {
        TakeResult::Taken(taken) => {
            let (taken, to) = (taken.watched_by(&job.context.meter), (&place.dir, &*place.name));
            quarantine_source(taken, to, job.context.config.marker.as_deref()).map_err(
                |(taken, error)| taken.put_back().err().map_or(error, |(_, second)| second),
            )
        }
        TakeResult::Gone => Err(io::Error::new(io::ErrorKind::NotFound, "it is gone")),
        TakeResult::Replaced => Err(io::Error::other("it changed since: it is processed again")),
        TakeResult::Busy => Err(io::Error::other("it is being written: it is processed again")),
        TakeResult::Stranded(private, error) => Err(io::Error::new(
            error.kind(),
            format!("it is now {}: {error}", display_path(&private)),
        )),
    }
}
