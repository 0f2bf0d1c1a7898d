//! Holds a source under a private name, compares it, then removes or archives it (D1).

use std::{
    ffi::{OsStr, OsString},
    io,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    failpoint,
    fingerprint::Fingerprint,
    fs::{self, Dir, Kind, NodeId, Overwrite, Writers},
    ledger::{Record, RecordId},
    limits,
    observe::PipelineMeter,
};

/// A source under its private name, in its own directory. Dropping it leaves the private name.
#[derive(Debug)]
#[must_use = "the source has only its private name"]
pub struct HeldSource {
    pub(super) dir: Arc<Dir>,
    name: OsString,
    pub(super) private: OsString,
    /// The ledger instance that names a copy's temp.
    pub(super) instance: NodeId,
    /// Whether recovery found it: a move of it may be half done.
    pub(super) from_recovery: bool,
    /// Counts the progress of a copy for the watchdog; none in recovery, which is not watched.
    meter: Option<Arc<PipelineMeter>>,
}

/// The result of taking a source.
#[derive(Debug)]
pub enum TakeResult {
    /// It is the file that was read.
    Taken(HeldSource),
    /// No file has the name any more.
    Gone,
    /// Another file has the name, or the source changed: the file has its name again.
    Replaced,
    /// A process has it open for writing, or may have: the source has its name again.
    Busy,
    /// Another file had the name and could not be put back: it has this private name.
    Stranded(OsString, io::Error),
}

/// Renames a source to its private name and compares it with what was read.
pub fn take(
    input: &Dir,
    source: &Path,
    read: &Fingerprint,
    owner: (&NodeId, RecordId),
) -> io::Result<TakeResult> {
    let (parent, name) = fs::split(source);
    let dir = match input.open_beneath(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TakeResult::Gone),
        dir => Arc::new(dir?),
    };
    // Another file is not taken: its producer never finds it without its name then.
    match dir.stat(Path::new(name))? {
        None => return Ok(TakeResult::Gone),
        // The change time counts too: a rewrite that resets the other times moves it.
        Some(metadata) if metadata.kind != Kind::File || !metadata.identity.matches(read) => {
            return Ok(TakeResult::Replaced);
        }
        Some(metadata) if !is_quiet(&metadata.identity) && !can_detect_writers(&dir, name)? => {
            return Ok(TakeResult::Busy);
        }
        Some(_) => {}
    }
    let (instance, id) = owner;
    let held = HeldSource {
        dir,
        name: name.to_owned(),
        private: fs::private_name(instance, id),
        instance: instance.clone(),
        from_recovery: false,
        meter: None,
    };
    match held.dir.rename_to_own(name, &held.private) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TakeResult::Gone),
        result => result?,
    }
    compare(held, read)
}

/// Opens a source that recovery found under its private name.
pub fn reopen(input: &Dir, source: &Path, owner: (&NodeId, RecordId)) -> io::Result<HeldSource> {
    let (parent, name) = fs::split(source);
    let (instance, id) = owner;
    let dir = Arc::new(input.open_beneath(parent)?);
    Ok(HeldSource {
        dir,
        name: name.to_owned(),
        private: fs::private_name(instance, id),
        instance: instance.clone(),
        from_recovery: true,
        meter: None,
    })
}

/// Checks whether a file is unchanged for long enough that no process is assumed to write it, where the
/// kernel cannot report writers.
fn is_quiet(identity: &Fingerprint) -> bool {
    let changed_ns = identity.modified_ns.max(identity.changed_ns);
    let changed = Duration::from_nanos(u64::try_from(changed_ns).unwrap_or(0));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(changed) >= limits::QUIET_TIME
}

fn can_detect_writers(dir: &Dir, name: &OsStr) -> io::Result<bool> {
    let writers = dir.open_file(Path::new(name)).and_then(|file| fs::check_writers(&file));
    match writers {
        // It was removed meanwhile: the rename reports that.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        writers => Ok(writers? != Writers::Unknown),
    }
}

/// The second check, by a handle, of the name that only this process uses: is it the file that was
/// read, and does no process have it open for writing? No process can open it by its own name any
/// more. It keeps the private name only if it is ours.
pub fn compare(held: HeldSource, read: &Fingerprint) -> io::Result<TakeResult> {
    let opened = failpoint::hit("dispose::taken").and_then(|()| held.open());
    let result = match opened {
        Ok(None) => return Ok(TakeResult::Gone),
        Ok(Some((identity, _))) if !read.matches_content(&identity) => Ok(TakeResult::Replaced),
        Ok(Some((_, Writers::Some))) => Ok(TakeResult::Busy),
        Ok(Some((_, Writers::None | Writers::Unknown))) => return Ok(TakeResult::Taken(held)),
        Err(error) => Err(error),
    };
    match held.put_back() {
        Ok(()) => result,
        Err((held, error)) => Ok(TakeResult::Stranded(held.private, error)),
    }
}

/// The third check, of the content, where the times are too coarse to show a change after the read.
pub fn compare_content(take: TakeResult, record: &Record) -> io::Result<TakeResult> {
    let TakeResult::Taken(held) = take else { return Ok(take) };
    let hash = record.output.as_ref().map(|output| output.source_hash);
    let Some(hash) = hash.filter(|_| record.identity.may_hide_a_change(record.at_ns)) else {
        return Ok(TakeResult::Taken(held));
    };
    let result = match fs::content_hash(&held.dir, &held.private) {
        Ok(read_hash) if read_hash == hash => return Ok(TakeResult::Taken(held)),
        Ok(_) => Ok(TakeResult::Replaced),
        Err(error) => Err(error),
    };
    match held.put_back() {
        Ok(()) => result,
        Err((held, error)) => Ok(TakeResult::Stranded(held.private, error)),
    }
}

impl HeldSource {
    /// Returns the identity of the file that has the private name now.
    pub fn identity(&self) -> io::Result<Option<Fingerprint>> {
        Ok(self.dir.stat(Path::new(&self.private))?.map(|metadata| metadata.identity))
    }

    /// Returns its identity, by a handle, and its writers; `None` if it is gone.
    fn open(&self) -> io::Result<Option<(Fingerprint, Writers)>> {
        let path = Path::new(&self.private);
        match self.dir.stat(path)? {
            None => return Ok(None),
            Some(metadata) if metadata.kind != Kind::File => {
                return Ok(Some((metadata.identity, Writers::Unknown)));
            }
            Some(_) => {}
        }
        let file = self.dir.open_file(path)?;
        Ok(Some((fs::identity_of(&file)?, fs::check_writers(&file)?)))
    }

    /// Counts a move of it as progress of this pipeline.
    pub fn watched_by(self, meter: &Arc<PipelineMeter>) -> Self {
        Self { meter: Some(Arc::clone(meter)), ..self }
    }

    /// Counts a chunk of its copy that was read or written.
    pub(super) fn progressed(&self) {
        if let Some(meter) = &self.meter {
            meter.progressed();
        }
    }

    /// Checks whether another file has its name by now, or may have: a marker may belong to that
    /// one.
    pub(super) fn is_name_taken(&self) -> bool {
        self.dir.stat_fresh(&self.name).map_or(true, |found| found.is_some())
    }

    /// The name that its producer gave it.
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// Its directory.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Restores its original name, unless another file has it.
    pub fn put_back(self) -> Result<(), (Self, io::Error)> {
        let renamed = self.dir.rename(&self.private, &self.dir, &self.name, Overwrite::Never);
        renamed.map_err(|error| (self, error))
    }

    pub fn remove(self) -> Result<(), (Self, io::Error)> {
        let removed =
            failpoint::hit("dispose::unlink").and_then(|()| self.dir.unlink_own(&self.private));
        removed.map_err(|error| (self, error))
    }
}
