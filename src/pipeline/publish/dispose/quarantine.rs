//! Quarantine: files that failed for good, each with a reason file next to it, for the operator.

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

/// The suffix of a reason file's name.
const REASON_SUFFIX: &[u8] = b".json";
/// Names up to this length keep their full name in the reason file's name.
const REASON_STEM_BYTES_MAX: usize = crate::limits::NAME_BYTES_MAX - REASON_SUFFIX.len();
/// Limit for reading a reason file.
const REASON_BYTES_MAX: u64 = 64 * 1024;

/// The JSON record next to a quarantined file.
#[derive(Serialize)]
struct Reason<'a> {
    pipeline: &'a str,
    source: String,
    stage: Stage,
    error: &'a str,
    attempts: u32,
    at: String,
    /// The path of the file, if it was moved to quarantine.
    moved_to: Option<String>,
    identity: Fingerprint,
    transforms: String,
    /// BLAKE3 of the pipeline's resolved configuration.
    config_hash: String,
    requeue: String,
}

/// A file that goes to quarantine, and the reason.
#[derive(Clone, Copy, Debug)]
pub struct QuarantineEntry<'a> {
    pub config: &'a config::Pipeline,
    pub instance: &'a NodeId,
    /// The source's path, relative to the input.
    pub path: &'a Path,
    pub identity: Fingerprint,
    pub stage: Stage,
    pub reason: &'a str,
    pub attempts: u32,
}

/// A name in quarantine that is free for one file and its reason file.
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

/// Quarantines a failed file: appends the ledger record, writes the reason file next to the slot,
/// then moves the source. Sources that are kept stay in place.
pub fn quarantine(job: &Job, stage: Stage, reason: &str) -> Result<(), DisposeError> {
    let failed = |source: Box<dyn Error + Send + Sync>| DisposeError::Quarantine {
        path: job.source_path(),
        source,
    };
    let entry = QuarantineEntry {
        config: &job.context.config,
        instance: &job.context.instance,
        path: &job.path,
        identity: job.metadata.identity,
        stage,
        reason,
        attempts: job.attempt,
    };
    let slot = entry.find_slot().map_err(|error| failed(error.into()))?;
    let moves = job.context.config.on_success != OnSuccess::Keep;
    let mut record = record(job, reason, moves.then(|| slot.path()));
    let append = |record: &Record| {
        failpoint::barrier("barrier::quarantine", || {
            job.context.ledger.append(std::slice::from_ref(record), Flush::Now)
        })
    };
    append(&record).map_err(|error| failed(error.into()))?;
    entry.write_reason(&slot, record.moved_to.as_deref()).map_err(|error| failed(error.into()))?;
    if moves && let Err(error) = move_source(job, &slot, &record) {
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

    /// Returns a free slot: the source's name, or `NAME.1`, `NAME.2`, … where neither the name nor
    /// its reason file's name is taken. A reason file that was written for this same source, and
    /// has no file next to it, is replaced.
    pub fn find_slot(&self) -> io::Result<QuarantineSlot> {
        let (parent, name) = fs::split(self.path);
        let dir = self.open(parent)?;
        let is_free = |name: &OsStr| -> io::Result<bool> {
            let taken = dir.stat(Path::new(name))?.is_some();
            Ok(!taken && self.may_replace_reason(&dir, &reason_name(name))?)
        };
        let name = if is_free(name)? {
            name.to_owned()
        } else {
            fs::free_number(name, "", REASON_STEM_BYTES_MAX, is_free)?
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
        Ok(Arc::new(dir.make_beneath(&below.join(parent), fs::OWN_DIR_MODE)?))
    }

    fn may_replace_reason(&self, dir: &Dir, reason: &OsStr) -> io::Result<bool> {
        #[derive(serde::Deserialize)]
        struct ReasonSource {
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
        io::Read::read_to_end(&mut io::Read::take(&mut file, REASON_BYTES_MAX), &mut text)?;
        let source = display_path(&self.source_path()).to_string();
        let is_ours = |reason: ReasonSource| {
            reason.source == source && reason.config_hash.len() == 2 * blake3::OUT_LEN
        };
        Ok(serde_json::from_slice(&text).is_ok_and(is_ours))
    }

    /// Writes `NAME.json`, atomically and durably. A name too long for that is cut.
    pub fn write_reason(&self, slot: &QuarantineSlot, moved_to: Option<&Path>) -> io::Result<()> {
        let temp = Temp::create(&slot.dir, self.instance)?;
        temp.file().write_all(&self.content(moved_to))?;
        temp.file().sync_all()?;
        let name = reason_name(&slot.name);
        temp.publish(&name, Overwrite::Allow).map_err(|(_, error)| error)?;
        slot.dir.sync()
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
        // JSON can hold all of it: strings and numbers only.
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

/// Returns the name of the reason file next to a file of this name.
#[must_use]
pub fn reason_name(name: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let name = name.as_bytes();
    OsString::from_vec([name.get(..REASON_STEM_BYTES_MAX).unwrap_or(name), REASON_SUFFIX].concat())
}

/// Moves the failed file, and no other, next to its reason file.
fn move_source(job: &Job, slot: &QuarantineSlot, record: &Record) -> io::Result<()> {
    let owner = (&job.context.instance, record.id);
    match held_source::take(&job.input, &job.path, &record.identity, owner)? {
        TakeResult::Taken(held) => {
            let (held, to) = (held.watched_by(&job.context.meter), (&slot.dir, &*slot.name));
            quarantine_source(held, to, job.context.config.marker.as_deref())
                .map_err(|(held, error)| held.put_back().err().map_or(error, |(_, second)| second))
        }
        TakeResult::Gone => Err(io::Error::new(io::ErrorKind::NotFound, "the source is gone")),
        TakeResult::Replaced => Err(io::Error::other("the source changed and is processed again")),
        TakeResult::Busy => {
            Err(io::Error::other("the source is being written and is processed again"))
        }
        TakeResult::Stranded(private, error) => Err(io::Error::new(
            error.kind(),
            format!("the source is now {}: {error}", display_path(&private)),
        )),
    }
}
