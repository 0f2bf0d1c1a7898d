//! discover: finds the names of the input. Owns the OS watch and the scans; never opens a file.
//!
//! Events are hints, the directory is the truth: the intake looks at each path that an event names.
//! Scans find the files without an event: a full one at the start, after an overflow and at regular
//! intervals, and one of each new sub-directory. A failed scan never means that a file was deleted.

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
    pipeline::job::{Arrival, DiscoveredBy, Observation},
    policy::{SourceRules, TemporaryNames},
    protocol::{eligibility, marker::is_stale},
};

/// A resumable walk through the input, or a part of it.
#[derive(Debug)]
pub struct Scan {
    walk: Walk,
    /// Directories that could not be listed since the latest [`Self::take_unlisted`].
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

    /// Returns up to `limit` more regular files; `None` at the end. A directory that cannot be listed is
    /// logged and skipped.
    pub fn next(&mut self, discovery: &Discovery, limit: usize) -> Option<Vec<PathBuf>> {
        let mut found = Vec::new();
        while let Some(entry) = self.walk.next() {
            match entry {
                Ok(entry) if entry.kind == Kind::File => found.push(entry.path),
                Ok(entry) if entry.kind == Kind::Directory && !discovery.enters(&entry.path) => {
                    self.walk.skip_directory();
                }
                Ok(_) => {}
                Err((path, error)) => {
                    self.unlisted += 1;
                    tracing::warn!(event = "intake.list_failed", path = %crate::observe::display_path(&path), %error, "cannot list an input directory");
                }
            }
            if found.len() >= limit {
                break;
            }
        }
        (!found.is_empty()).then_some(found)
    }

    /// Takes the paths at which the walk found one of the service's own directories.
    pub fn take_own_directories(&mut self) -> Vec<PathBuf> {
        self.walk.take_avoided()
    }

    /// Takes the number of directories that could not be listed.
    pub fn take_unlisted(&mut self) -> u64 {
        std::mem::take(&mut self.unlisted)
    }
}

/// The result of one look at a path.
#[derive(Debug)]
pub enum LookResult {
    /// A file of the pipeline.
    File(Observation),
    /// A directory that may have files without an event.
    Directory,
    /// One of the service's own directories also has this path, through another mount.
    OwnDirectory(PathBuf),
    /// The input itself is mounted below itself: this is the file's path in the input.
    InNestedInput(PathBuf),
    /// No file of this pipeline.
    None,
}

/// The rules by which a path belongs to a pipeline.
#[derive(Clone, Debug)]
pub struct Discovery {
    filter: Filter,
    temporary_names: TemporaryNames,
    marker: Option<String>,
    trust: SourceRules,
    /// The IDs of the service's own files and directories, and of the input's root.
    own_ids: Arc<[FileId]>,
}

impl Discovery {
    #[must_use]
    pub fn of(config: &config::Pipeline) -> Self {
        let (filter, marker) = (config.filter.clone(), config.marker.clone());
        let (temporary_names, trust) = (config.temporary_names, config.trust);
        Self { filter, temporary_names, marker, trust, own_ids: Arc::new([]) }
    }

    /// Sets the IDs that no path below the input may lead to.
    pub fn set_own_ids(&mut self, own_ids: Vec<FileId>) {
        if *own_ids != *self.own_ids {
            self.own_ids = own_ids.into();
        }
    }

    #[must_use]
    pub const fn own_ids(&self) -> &Arc<[FileId]> {
        &self.own_ids
    }

    /// Checks whether the directory at this path may hold files of the pipeline.
    #[must_use]
    pub fn enters(&self, directory: &Path) -> bool {
        self.has_final_name(directory) && self.filter.enters(directory)
    }

    fn has_final_name(&self, path: &Path) -> bool {
        let is_internal = path.iter().any(fs::is_internal_name);
        let is_temporary = || {
            self.temporary_names == TemporaryNames::Ignore && config::temporary_name(path).is_some()
        };
        !is_internal && !is_temporary()
    }

    /// Checks whether a parent of the path is one of the service's own directories. inotify has one
    /// watch for each directory, whatever its paths, and names it by one of them.
    fn own_parent(&self, input: &Dir, path: &Path) -> io::Result<Option<LookResult>> {
        for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            let Some(metadata) = input.stat(parent)? else { continue };
            let id = metadata.identity.file_id();
            if self.own_ids.contains(&id) {
                let is_input = fs::identity_of(input)?.file_id() == id;
                let inner_path = path.strip_prefix(parent).ok().filter(|_| is_input);
                return Ok(Some(match inner_path {
                    Some(path) => LookResult::InNestedInput(path.to_path_buf()),
                    None => LookResult::OwnDirectory(parent.to_path_buf()),
                }));
            }
        }
        Ok(None)
    }

    /// Returns the path to look at after an event: for a marker that of the marked file.
    #[must_use]
    pub fn marked_file(&self, path: PathBuf) -> PathBuf {
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

    /// Looks at a path, by name only. A scan has just opened its parent directories.
    pub fn look(&self, input: &Dir, path: &Path, origin: DiscoveredBy) -> io::Result<LookResult> {
        if !self.has_final_name(path) {
            return Ok(LookResult::None);
        }
        let metadata = match origin {
            DiscoveredBy::Event => input.stat_fresh(path)?,
            DiscoveredBy::Scan | DiscoveredBy::Rescan => input.stat(path)?,
        };
        let Some(metadata) = metadata else {
            return Ok(LookResult::None);
        };
        if self.own_ids.contains(&metadata.identity.file_id()) {
            return Ok(LookResult::OwnDirectory(path.to_path_buf()));
        }
        if origin == DiscoveredBy::Event
            && let Some(result) = self.own_parent(input, path)?
        {
            return Ok(result);
        }
        match metadata.kind {
            Kind::Directory if self.filter.enters(path) => return Ok(LookResult::Directory),
            Kind::Directory => return Ok(LookResult::None),
            Kind::File => {}
            kind => {
                tracing::debug!(event = "file.ignored", path = %crate::observe::display_path(path), kind = kind.as_str(), "not a regular file, ignored");
                return Ok(LookResult::None);
            }
        }
        if !self.filter.allows(path) || !self.is_marked(input, path, &metadata)? {
            return Ok(LookResult::None);
        }
        if let Some(reason) = eligibility::skip_reason(self.trust, input, &metadata)? {
            tracing::debug!(event = "file.ignored", path = %crate::observe::display_path(path), reason, "excluded by the source rules, ignored");
            return Ok(LookResult::None);
        }
        let Fingerprint { modified_ns, changed_ns, .. } = metadata.identity;
        let age = age(modified_ns.max(changed_ns));
        Ok(LookResult::File(Observation { metadata, age, origin, arrival: Arrival::Unknown }))
    }

    /// Checks whether the file's marker exists, if it needs one; a marker itself counts as unmarked.
    fn is_marked(&self, input: &Dir, path: &Path, metadata: &FileMetadata) -> io::Result<bool> {
        let Some(marker) = &self.marker else {
            return Ok(true);
        };
        if path.as_os_str().as_bytes().ends_with(marker.as_bytes()) {
            return Ok(false);
        }
        let mut marker_path = path.as_os_str().to_owned();
        marker_path.push(marker);
        let marker = input.stat_fresh(Path::new(&marker_path))?;
        Ok(marker.is_some_and(|marker| !is_stale(&marker, metadata)))
    }
}

fn age(changed_ns: i64) -> Duration {
    let changed = Duration::from_nanos(u64::try_from(changed_ns).unwrap_or(0));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(changed)
}
