//! Holds a source under a private name, and compares it with the file that was read (D1).

use std::{
    ffi::{OsStr, OsString},
    io,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    super::{SourceError, TakeRequest, TakeResult, Taken, Targets},
    marker::{self, Ended},
};
use crate::{
    failpoint,
    fingerprint::Fingerprint,
    fs::{self, Dir, FileMetadata, Kind, NodeId, Overwrite, Writers},
    limits,
    observe::display_path,
};

/// A source under its private name, in its own directory.
#[derive(Debug)]
pub(super) struct LocalHeld {
    pub(super) dir: Dir,
    /// The name that its producer gave it.
    pub(super) name: OsString,
    pub(super) private: OsString,
    /// The ledger instance that names a copy's temp.
    pub(super) instance: NodeId,
    pub(super) targets: Arc<Targets>,
    /// Whether a move of it may be half done.
    pub(super) resumed: bool,
    /// The marker when it was taken, [`Fingerprint::NONE`] if there was none; `None` if that is unknown.
    own_marker: Option<Fingerprint>,
    /// The name of its marker, if that ended before it, and how.
    pub(super) marker: Option<(OsString, Ended)>,
}

/// Renames a source to its private name and compares it with what was read.
pub(super) fn take(
    input: &Dir,
    wanted: &TakeRequest<'_>,
    (instance, targets): (&NodeId, &Arc<Targets>),
) -> io::Result<TakeResult> {
    let (parent, name) = fs::split(wanted.path);
    let dir = match input.open_beneath(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TakeResult::Gone),
        dir => dir?,
    };
    // Another file is not taken: its producer never finds it without its name then.
    match dir.stat(Path::new(name))? {
        None => return Ok(TakeResult::Gone),
        Some(metadata) if metadata.kind != Kind::File || !is_wanted(&dir, wanted, &metadata) => {
            return Ok(TakeResult::Replaced);
        }
        Some(metadata)
            if !is_quiet(wanted, &metadata.identity) && !can_detect_writers(&dir, name)? =>
        {
            return Ok(TakeResult::Busy);
        }
        Some(_) => {}
    }
    let own_marker = match wanted.marker {
        None => None,
        Some(suffix) => {
            let found = dir.stat(Path::new(&marker::name_of(name, suffix)))?;
            Some(found.map_or(Fingerprint::NONE, |found| found.identity))
        }
    };
    let held = LocalHeld {
        dir,
        name: name.to_owned(),
        private: fs::private_name(instance, wanted.id),
        instance: instance.clone(),
        targets: Arc::clone(targets),
        resumed: wanted.resumed,
        own_marker,
        marker: None,
    };
    match held.dir.rename_to_own(name, &held.private) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TakeResult::Gone),
        result => result?,
    }
    held.compare(wanted)
}

/// Checks whether a source may have its private name.
pub(super) fn may_hold(input: &Dir, wanted: &TakeRequest<'_>, instance: &NodeId) -> bool {
    let (parent, _) = fs::split(wanted.path);
    let private = fs::private_name(instance, wanted.id);
    match input.open_beneath(parent).and_then(|dir| dir.stat_fresh(&private)) {
        Ok(found) => found.is_some(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Checks whether this is the file that was read. The change time counts too: a rewrite that resets the
/// other times moves it. On some file systems its inode number may be another one.
fn is_wanted(dir: &Dir, wanted: &TakeRequest<'_>, found: &FileMetadata) -> bool {
    let is_renumbered = || found.identity.has_equal_times(wanted.read) && dir.may_renumber();
    found.identity.matches(wanted.read) || is_renumbered()
}

/// Checks whether a file is unchanged for long enough that no process is assumed to write it, where the
/// kernel cannot report writers. Its time of modification does not count: each change moves the change
/// time, and a producer may set the other one to the future. The change time itself may be in the future,
/// by a server's clock or by one that was set back: what the job saw counts instead, where there is one.
fn is_quiet(wanted: &TakeRequest<'_>, identity: &Fingerprint) -> bool {
    if let Some(quiet_for) = wanted.quiet_for {
        return quiet_for >= limits::QUIET_TIME;
    }
    let changed = Duration::from_nanos(u64::try_from(identity.ctime_ns).unwrap_or(0));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(changed) >= limits::QUIET_TIME
}

fn can_detect_writers(dir: &Dir, name: &OsStr) -> io::Result<bool> {
    let writers = dir.open_file(Path::new(name)).and_then(|file| fs::check_writers(&file));
    match writers {
        // It was removed meanwhile: the rename reports that.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        // A write lease, which the holder has a time to give up.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        writers => Ok(!matches!(writers?, Writers::Denied | Writers::Unknown)),
    }
}

/// Returns the result for a source that cannot be opened: a lease on it denies that for now.
fn busy_if_leased(error: io::Error) -> io::Result<TakeResult> {
    if error.kind() == io::ErrorKind::WouldBlock { Ok(TakeResult::Busy) } else { Err(error) }
}

impl LocalHeld {
    /// Opens a source that recovery found under its private name.
    pub(super) fn reopen(
        input: &Dir,
        taken: &Taken,
        source: &Path,
        (instance, targets): (&NodeId, &Arc<Targets>),
    ) -> io::Result<Self> {
        // Its directory may have been renamed since, or the file before that.
        let (parent, private) = fs::split(&taken.path);
        let (_, name) = fs::split(source);
        Ok(Self {
            dir: input.open_beneath(parent)?,
            name: name.to_owned(),
            private: private.to_owned(),
            instance: instance.clone(),
            targets: Arc::clone(targets),
            resumed: true,
            own_marker: None,
            marker: None,
        })
    }

    /// The second check, by a handle, of the name that only this process uses: is it the file that was
    /// read, and does no process have it open for writing? No process can open it by its own name any
    /// more. It keeps the private name only if it is ours.
    pub(super) fn compare(self, wanted: &TakeRequest<'_>) -> io::Result<TakeResult> {
        let opened = failpoint::hit("dispose::taken").and_then(|()| self.open());
        let result = match opened {
            Ok(None) => return Ok(TakeResult::Gone),
            Ok(Some((identity, _))) if !self.may_be_wanted(wanted, &identity) => {
                Ok(TakeResult::Replaced)
            }
            Ok(Some((_, Writers::Some))) => Ok(TakeResult::Busy),
            Ok(Some((identity, Writers::None | Writers::Denied | Writers::Unknown))) => {
                return self.compare_content(wanted, &identity);
            }
            Err(error) => busy_if_leased(error),
        };
        self.return_with(result, wanted.marker)
    }

    /// Checks whether this is the file that was read, as far as its metadata shows. On some file systems its inode number
    /// may be another one: then its content decides.
    fn may_be_wanted(&self, wanted: &TakeRequest<'_>, found: &Fingerprint) -> bool {
        let is_copy = || found.is_copy_of(wanted.read) && self.dir.may_renumber();
        wanted.read.matches_content(found) || is_copy()
    }

    /// The third check, of the content, where the times are too coarse to show a change after the read,
    /// or the inode number is another one.
    fn compare_content(
        self,
        wanted: &TakeRequest<'_>,
        found: &Fingerprint,
    ) -> io::Result<TakeResult> {
        let is_uncertain = wanted.has_coarse_times || found.inode != wanted.read.inode;
        let Some(hash) = wanted.content.filter(|_| is_uncertain) else {
            return Ok(TakeResult::Taken(Box::new(self)));
        };
        let result = match fs::content_hash(&self.dir, &self.private) {
            Ok(found) if found == hash => return Ok(TakeResult::Taken(Box::new(self))),
            Ok(_) => Ok(TakeResult::Replaced),
            Err(error) => busy_if_leased(error),
        };
        self.return_with(result, wanted.marker)
    }

    /// Restores its name, and its marker if an interruption left that under its temporary name; returns this
    /// result or the failure of that.
    fn return_with(
        self,
        result: io::Result<TakeResult>,
        marker: Option<&str>,
    ) -> io::Result<TakeResult> {
        match self.rename_back() {
            Ok(()) => {
                if let Err(error) = self.return_taken_marker(marker) {
                    tracing::warn!(event = "file.marker_failed", source = %display_path(&self.dir.path().join(&self.name)), %error, hint = "write its marker again", "cannot restore a source's marker");
                }
                result
            }
            Err(error) => {
                let error = self.at(error);
                Ok(TakeResult::Stranded(self.private.into(), error))
            }
        }
    }

    fn return_taken_marker(&self, marker: Option<&str>) -> io::Result<()> {
        let temp = fs::temp_of(&self.private);
        match marker {
            Some(suffix) if self.dir.stat(Path::new(&temp))?.is_some() => {
                let name = marker::name_of(&self.name, suffix);
                marker::put_back(&Ended::Taken(temp), (&self.dir, &name))
            }
            _ => Ok(()),
        }
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

    /// Gives its marker a temporary name, by which its producer does not find it; `None` if there is none,
    /// or only another file's.
    pub(super) fn take_marker(&self, marker: &OsStr) -> io::Result<Option<OsString>> {
        if !self.is_own_marker(marker)? {
            return Ok(None);
        }
        let temp = fs::temp_of(&self.private);
        // An interruption may have left an earlier one.
        self.dir.unlink_own(&temp)?;
        match self.dir.rename_to_own(marker, &temp) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            taken => taken?,
        }
        // Its producer may have made another one just before.
        if self.is_own_marker(&temp)? {
            return Ok(Some(temp));
        }
        marker::put_back(&Ended::Taken(temp), (&self.dir, marker)).map(|()| None)
    }

    /// Checks whether this is its own marker, and not one that its producer made since for another file of
    /// its name. Where it is not known what was there when the source was taken, the time of that decides,
    /// which is the source's change time.
    fn is_own_marker(&self, name: &OsStr) -> io::Result<bool> {
        let Some(found) = self.dir.stat_fresh(name)? else { return Ok(false) };
        let found = found.identity;
        Ok(match self.own_marker {
            Some(own) if self.dir.may_renumber() => found.is_copy_of(&own),
            Some(own) => found.matches_content(&own),
            None => {
                let taken = self.identity_of_private()?;
                taken.is_none_or(|taken| found.mtime_ns <= taken.ctime_ns)
            }
        })
    }

    /// Checks whether another file has its name by now, or may have: a marker may belong to that
    /// one.
    pub(super) fn is_name_taken(&self) -> bool {
        self.dir.stat_fresh(&self.name).map_or(true, |found| found.is_some())
    }

    /// Returns the identity of what has its private name now.
    pub(super) fn identity_of_private(&self) -> io::Result<Option<Fingerprint>> {
        let found = self.dir.stat(Path::new(&self.private))?;
        Ok(found.map(|metadata| metadata.identity))
    }

    pub(super) fn rename_back(&self) -> io::Result<()> {
        failpoint::hit("dispose::put_back")?;
        self.dir.rename(&self.private, &self.dir, &self.name, Overwrite::Never)
    }

    pub(super) fn put_marker_back(&self) -> io::Result<()> {
        let Some((name, ended)) = &self.marker else { return Ok(()) };
        marker::put_back(ended, (&self.dir, name))
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        failpoint::hit("dispose::unlink").and_then(|()| self.dir.unlink_own(&self.private))
    }

    /// Adds its original full path to an error.
    pub(super) fn at(&self, source: io::Error) -> SourceError {
        SourceError { path: self.dir.path().join(&self.name), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_time_in_the_future_does_not_count_where_the_job_knows_better() {
        let hour_ns = 3_600_000_000_000;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time");
        let now_ns = i64::try_from(now.as_nanos()).expect("a time");
        let (future, past) = (now_ns + hour_ns, now_ns - hour_ns);
        for (ctime_ns, quiet_seconds, wanted) in [
            (future, None, false),
            (past, None, true),
            (future, Some(2), true),
            (future, Some(1), false),
            // The clock was set forward since the job saw the change.
            (past, Some(1), false),
        ] {
            let identity = Fingerprint { ctime_ns, ..Fingerprint::NONE };
            let request = TakeRequest {
                path: Path::new("a"),
                read: &identity,
                content: None,
                has_coarse_times: false,
                quiet_for: quiet_seconds.map(Duration::from_secs),
                marker: None,
                id: 1,
                resumed: false,
            };
            assert_eq!(is_quiet(&request, &identity), wanted, "{ctime_ns} {quiet_seconds:?}");
        }
    }
}
