//! discover: which names there are. Owns the OS watch and the scans; never opens a file.
//!
//! Events are hints, the directory is the truth: what an event names is looked at, and a full scan
//! at the start, after an overflow, of each new sub-directory and from time to time finds what no
//! event named. A scan that fails never means "deleted".

mod event_queue;
mod watch;

use std::{
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

pub use self::{
    event_queue::{EventQueue, NameEvent, QueuedEvents, WakeHandle},
    watch::{Watch, WatchError},
};
use crate::{
    config::{self, Filter},
    fingerprint::{FileId, Fingerprint},
    fs::{self, Dir, FileMetadata, Kind, Walk},
    pipeline::{
        eligibility,
        job::{Arrival, DiscoveredBy, Observation},
    },
    policy::{SourceRules, TemporaryNames},
};

/// A walk through the input, or a part of it, that goes on where it stopped.
#[derive(Debug)]
pub struct Scan {
    walk: Walk,
    unlisted: u64,
    pub origin: DiscoveredBy,
}

impl Scan {
    #[must_use]
    pub fn new(
        input: &Arc<Dir>,
        own: &Arc<[FileId]>,
        below: PathBuf,
        origin: DiscoveredBy,
    ) -> Self {
        let walk = Walk::new(Arc::clone(input), below).avoiding(Arc::clone(own));
        Self { walk, unlisted: 0, origin }
    }

    /// The next regular files, at most so many; `None` at the end. What cannot be listed is told
    /// in the log, and counts for nothing.
    pub fn next(&mut self, candidates: &Discovery, most: usize) -> Option<Vec<PathBuf>> {
        let mut found = Vec::new();
        while let Some(entry) = self.walk.next() {
            match entry {
                Ok(entry) if entry.kind == Kind::File => found.push(entry.path),
                Ok(entry) if entry.kind == Kind::Directory && !candidates.enters(&entry.path) => {
                    self.walk.skip_directory();
                }
                Ok(_) => {}
                Err((path, error)) => {
                    self.unlisted += 1;
                    tracing::warn!(event = "intake.list_failed", path = %crate::observe::display_path(&path), %error, "cannot list an input directory");
                }
            }
            if found.len() >= most {
                break;
            }
        }
        (!found.is_empty()).then_some(found)
    }

    /// Paths at which a directory of the service's own was met since this was asked last.
    pub fn take_met(&mut self) -> Vec<PathBuf> {
        self.walk.take_avoided()
    }

    /// Directories that could not be listed since this was asked last.
    pub fn take_unlisted(&mut self) -> u64 {
        std::mem::take(&mut self.unlisted)
    }
}

/// What one look at a path found.
#[derive(Debug)]
pub enum LookResult {
    /// A file of the pipeline.
    File(Observation),
    /// A directory that may have files nobody told of.
    Directory,
    /// A directory of the service's own has this path too, through another mount.
    Own(PathBuf),
    /// The input itself is mounted below itself: this is the path of what was looked at.
    Inside(PathBuf),
    /// Nothing, or nothing for this pipeline.
    None,
}

/// Which paths are a pipeline's candidates.
#[derive(Clone, Debug)]
pub struct Discovery {
    filter: Filter,
    temporary_names: TemporaryNames,
    marker: Option<String>,
    trust: SourceRules,
    /// The files and directories that the service writes to.
    own: Arc<[FileId]>,
}

impl Discovery {
    #[must_use]
    pub fn of(config: &config::Pipeline) -> Self {
        let (filter, marker) = (config.filter.clone(), config.marker.clone());
        let (temporary_names, trust) = (config.temporary_names, config.trust);
        Self { filter, temporary_names, marker, trust, own: Arc::new([]) }
    }

    /// What the service writes to, and the input's root, below which it must not be met again.
    pub fn set_own(&mut self, own: Vec<FileId>) {
        if *own != *self.own {
            self.own = own.into();
        }
    }

    #[must_use]
    pub const fn own(&self) -> &Arc<[FileId]> {
        &self.own
    }

    /// Whether the directory at this path may hold files of the pipeline.
    #[must_use]
    pub fn enters(&self, directory: &Path) -> bool {
        self.has_final_name(directory) && self.filter.enters(directory)
    }

    fn has_final_name(&self, path: &Path) -> bool {
        let is_ours = path.iter().any(fs::is_internal_name);
        let is_temporary = || {
            self.temporary_names == TemporaryNames::Ignore && config::temporary_name(path).is_some()
        };
        !is_ours && !is_temporary()
    }

    /// Whether a part of the path is a directory of the service's own. inotify has one watch for
    /// each directory, whatever its paths, and names it by one of them.
    fn own_part(&self, input: &Dir, path: &Path) -> io::Result<Option<LookResult>> {
        for part in path.ancestors().skip(1).filter(|part| !part.as_os_str().is_empty()) {
            let Some(seen) = input.stat(part)? else { continue };
            let id = seen.identity.file_id();
            if self.own.contains(&id) {
                let is_input = fs::identity_of(input)?.file_id() == id;
                let inside = path.strip_prefix(part).ok().filter(|_| is_input);
                let own = || LookResult::Own(part.to_path_buf());
                return Ok(Some(
                    inside.map_or_else(own, |path| LookResult::Inside(path.to_path_buf())),
                ));
            }
        }
        Ok(None)
    }

    /// The path whose sighting a hint is about: a marker stands for the file it marks.
    #[must_use]
    pub fn marked(&self, path: PathBuf) -> PathBuf {
        let Some(marker) = &self.marker else {
            return path;
        };
        match path.as_os_str().as_bytes().strip_suffix(marker.as_bytes()) {
            Some(stem) if !stem.is_empty() => {
                PathBuf::from(std::ffi::OsString::from_vec(stem.to_vec()))
            }
            _ => path,
        }
    }

    /// Looks at a path, by name only. A scan has just opened the directories on the way to it.
    pub fn look(&self, input: &Dir, path: &Path, origin: DiscoveredBy) -> io::Result<LookResult> {
        if !self.has_final_name(path) {
            return Ok(LookResult::None);
        }
        let seen = match origin {
            DiscoveredBy::Hint => input.stat_fresh(path)?,
            DiscoveredBy::Scan | DiscoveredBy::Rescan => input.stat(path)?,
        };
        let Some(seen) = seen else {
            return Ok(LookResult::None);
        };
        if self.own.contains(&seen.identity.file_id()) {
            return Ok(LookResult::Own(path.to_path_buf()));
        }
        if origin == DiscoveredBy::Hint
            && let Some(own) = self.own_part(input, path)?
        {
            return Ok(own);
        }
        match seen.kind {
            Kind::Directory if self.filter.enters(path) => return Ok(LookResult::Directory),
            Kind::Directory => return Ok(LookResult::None),
            Kind::File => {}
            kind => {
                tracing::debug!(event = "file.ignored", path = %crate::observe::display_path(path), kind = kind.as_str(), "not a regular file, ignored");
                return Ok(LookResult::None);
            }
        }
        if !self.filter.allows(path) || !self.is_marked(input, path, &seen)? {
            return Ok(LookResult::None);
        }
        if let Some(why) = eligibility::refused(self.trust, input, &seen)? {
            tracing::debug!(event = "file.ignored", path = %crate::observe::display_path(path), why, "left alone");
            return Ok(LookResult::None);
        }
        let Fingerprint { modified_ns, changed_ns, .. } = seen.identity;
        let age = age(modified_ns.max(changed_ns));
        Ok(LookResult::File(Observation { seen, age, origin, arrival: Arrival::Unknown }))
    }

    /// Whether the file's marker is there, if it needs one; a marker itself is none.
    fn is_marked(&self, input: &Dir, path: &Path, seen: &FileMetadata) -> io::Result<bool> {
        let Some(marker) = &self.marker else {
            return Ok(true);
        };
        if path.as_os_str().as_bytes().ends_with(marker.as_bytes()) {
            return Ok(false);
        }
        let mut marked = path.as_os_str().to_owned();
        marked.push(marker);
        let marker = input.stat_fresh(Path::new(&marked))?;
        Ok(marker.is_some_and(|marker| !is_stale(&marker, seen)))
    }
}

/// Whether a marker is older than the content of the file beside it: it was another file's.
///
/// The content's time is the earlier one of the file's two, because a rename moves the change time
/// and a producer may set the modification time to one in the future.
#[must_use]
pub fn is_stale(marker: &FileMetadata, file: &FileMetadata) -> bool {
    let marker = marker.identity;
    let written_ns = file.identity.modified_ns.min(file.identity.changed_ns);
    marker.modified_ns.max(marker.changed_ns) < written_ns
}

fn age(changed_ns: i64) -> Duration {
    let changed = Duration::from_nanos(u64::try_from(changed_ns).unwrap_or(0));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(changed)
}
