//! The end of a source: taken by a private name, compared, then removed or archived (D1).

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

/// A source under its private name, in its own directory.
#[derive(Debug)]
#[must_use = "it has no name that its producer knows"]
pub struct HeldSource {
    pub(super) dir: Arc<Dir>,
    name: OsString,
    pub(super) private: OsString,
    /// Whose temps a copy of it is made as.
    pub(super) instance: NodeId,
    /// Recovery found it: the move may be half done.
    pub(super) found: bool,
    /// Counts that a copy gets on; recovery, which nobody watches so, has none.
    meter: Option<Arc<PipelineMeter>>,
}

/// What came of taking a source.
#[derive(Debug)]
pub enum TakeResult {
    /// It is the file that was read.
    Taken(HeldSource),
    /// Nobody has the name any more.
    Gone,
    /// Another file has the name, or it changed: it is back under it.
    Replaced,
    /// Someone has it open for writing, or may have: it is back under its name.
    Busy,
    /// Another file had the name, and could not be put back: it has the private name.
    Stranded(OsString, io::Error),
}

/// Takes a source by its private name and compares it with what was read.
pub fn take(
    input: &Dir,
    source: &Path,
    read: &Fingerprint,
    mark: (&NodeId, RecordId),
) -> io::Result<TakeResult> {
    let (parent, name) = fs::split(source);
    let dir = match input.open_beneath(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TakeResult::Gone),
        dir => Arc::new(dir?),
    };
    // Not taken where it is another already: its producer never sees it without its name then.
    match dir.stat(Path::new(name))? {
        None => return Ok(TakeResult::Gone),
        // The change time counts too: a rewrite that sets the old times back moves it.
        Some(seen) if seen.kind != Kind::File || !seen.identity.matches(read) => {
            return Ok(TakeResult::Replaced);
        }
        Some(seen) if !is_quiet(&seen.identity) && !can_tell_writers(&dir, name)? => {
            return Ok(TakeResult::Busy);
        }
        Some(_) => {}
    }
    let (instance, id) = mark;
    let taken = HeldSource {
        dir,
        name: name.to_owned(),
        private: fs::private_name(instance, id),
        instance: instance.clone(),
        found: false,
        meter: None,
    };
    match taken.dir.rename_to_own(name, &taken.private) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TakeResult::Gone),
        result => result?,
    }
    compare(taken, read)
}

/// A source that recovery found under its private name.
pub fn taken_before(
    input: &Dir,
    source: &Path,
    mark: (&NodeId, RecordId),
) -> io::Result<HeldSource> {
    let (parent, name) = fs::split(source);
    let (instance, id) = mark;
    let dir = Arc::new(input.open_beneath(parent)?);
    Ok(HeldSource {
        dir,
        name: name.to_owned(),
        private: fs::private_name(instance, id),
        instance: instance.clone(),
        found: true,
        meter: None,
    })
}

/// Whether it is unchanged for so long that nobody is taken to write it, where nobody can tell.
fn is_quiet(found: &Fingerprint) -> bool {
    let changed_ns = found.modified_ns.max(found.changed_ns);
    let changed = Duration::from_nanos(u64::try_from(changed_ns).unwrap_or(0));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(changed) >= limits::QUIET_TIME
}

fn can_tell_writers(dir: &Dir, name: &OsStr) -> io::Result<bool> {
    let asked = dir.open_file(Path::new(name)).and_then(|file| fs::check_writers(&file));
    match asked {
        // Gone meanwhile: the rename finds that out.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        asked => Ok(asked? != Writers::Unknown),
    }
}

/// The second look, at the name that only we use, by a handle: is it the file that was read, and
/// does nobody have it open for writing? Nobody can open it by its own name any more. Whatever comes
/// of it, it keeps the private name only where it is ours.
pub fn compare(taken: HeldSource, read: &Fingerprint) -> io::Result<TakeResult> {
    let looked = failpoint::hit("dispose::taken").and_then(|()| taken.open());
    let back = match looked {
        Ok(None) => return Ok(TakeResult::Gone),
        Ok(Some((found, _))) if !read.matches_content(&found) => Ok(TakeResult::Replaced),
        Ok(Some((_, Writers::Some))) => Ok(TakeResult::Busy),
        Ok(Some((_, Writers::None | Writers::Unknown))) => return Ok(TakeResult::Taken(taken)),
        Err(error) => Err(error),
    };
    match taken.put_back() {
        Ok(()) => back,
        Err((taken, error)) => Ok(TakeResult::Stranded(taken.private, error)),
    }
}

/// The third look, at the content, where the times are too coarse to tell that it changed after it
/// was read.
pub fn compare_content(take: TakeResult, record: &Record) -> io::Result<TakeResult> {
    let TakeResult::Taken(taken) = take else { return Ok(take) };
    let hash = record.output.as_ref().map(|output| output.source_hash);
    let Some(hash) = hash.filter(|_| record.identity.may_hide_a_change(record.at_ns)) else {
        return Ok(TakeResult::Taken(taken));
    };
    let back = match fs::content_hash(&taken.dir, &taken.private) {
        Ok(found) if found == hash => return Ok(TakeResult::Taken(taken)),
        Ok(_) => Ok(TakeResult::Replaced),
        Err(error) => Err(error),
    };
    match taken.put_back() {
        Ok(()) => back,
        Err((taken, error)) => Ok(TakeResult::Stranded(taken.private, error)),
    }
}

impl HeldSource {
    /// Of what has the private name now.
    pub fn identity(&self) -> io::Result<Option<Fingerprint>> {
        Ok(self.dir.stat(Path::new(&self.private))?.map(|seen| seen.identity))
    }

    /// Its identity by a handle, and who writes it; `None` where it is gone.
    fn open(&self) -> io::Result<Option<(Fingerprint, Writers)>> {
        let path = Path::new(&self.private);
        match self.dir.stat(path)? {
            None => return Ok(None),
            Some(seen) if seen.kind != Kind::File => {
                return Ok(Some((seen.identity, Writers::Unknown)));
            }
            Some(_) => {}
        }
        let file = self.dir.open_file(path)?;
        Ok(Some((fs::identity_of(&file)?, fs::check_writers(&file)?)))
    }

    /// A move of it counts as movement of this pipeline.
    pub fn watched_by(self, meter: &Arc<PipelineMeter>) -> Self {
        Self { meter: Some(Arc::clone(meter)), ..self }
    }

    /// A chunk of its copy was read or written.
    pub(super) fn progressed(&self) {
        if let Some(meter) = &self.meter {
            meter.progressed();
        }
    }

    /// Another file has its name by now, or nobody knows: a marker may be that one's.
    pub(super) fn is_named_again(&self) -> bool {
        self.dir.stat_fresh(&self.name).map_or(true, |found| found.is_some())
    }

    /// The name that its producer gave it.
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// The directory that it is in.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Gives it its name back, if nobody has it by now.
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
