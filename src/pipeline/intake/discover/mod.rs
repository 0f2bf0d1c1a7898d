//! discover: which names there are. Owns the OS watch and the scans; never opens a file.
//!
//! Events are hints, the directory is the truth: what an event names is looked at, and a full scan
//! at the start, after an overflow, of each new sub-directory and from time to time finds what no
//! event named. A scan that fails never means "deleted".

mod hints;
mod watch;

use std::{
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

pub use self::{
    hints::{Bell, Hints, Taken},
    watch::{Watch, WatchError},
};
use crate::{
    config::{self, Filter},
    fs::{self, Dir, Kind, Walk},
    pipeline::{
        job::{Origin, Sighting},
        trust,
    },
    policy::Trust,
};

/// A walk through the input, or a part of it, that goes on where it stopped.
#[derive(Debug)]
pub struct Scan {
    walk: Walk,
    unlisted: u64,
    pub origin: Origin,
}

impl Scan {
    #[must_use]
    pub fn new(input: &Arc<Dir>, below: PathBuf, origin: Origin) -> Self {
        Self { walk: Walk::new(Arc::clone(input), below), unlisted: 0, origin }
    }

    /// The next regular files, at most so many; `None` at the end. What cannot be listed is told
    /// in the log, and counts for nothing.
    pub fn next(&mut self, most: usize) -> Option<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in self.walk.by_ref() {
            match entry {
                Ok(entry) if entry.kind == Kind::File => found.push(entry.path),
                Ok(_) => {}
                Err((path, error)) => {
                    self.unlisted += 1;
                    tracing::warn!(path = %crate::observe::shown(&path), %error, "cannot list a directory of the input");
                }
            }
            if found.len() >= most {
                break;
            }
        }
        (!found.is_empty()).then_some(found)
    }

    /// Directories that could not be listed since this was asked last.
    pub fn take_unlisted(&mut self) -> u64 {
        std::mem::take(&mut self.unlisted)
    }
}

/// What one look at a path found.
#[derive(Debug)]
pub enum Look {
    /// A file of the pipeline.
    File(Sighting),
    /// A directory that may have files nobody told of.
    Directory,
    /// Nothing, or nothing for this pipeline.
    None,
}

/// Which paths are a pipeline's candidates.
#[derive(Clone, Debug)]
pub struct Candidates {
    pub filter: Filter,
    pub marker: Option<String>,
    pub trust: Trust,
}

impl Candidates {
    #[must_use]
    pub fn of(config: &config::Pipeline) -> Self {
        let (filter, marker) = (config.filter.clone(), config.marker.clone());
        Self { filter, marker, trust: config.trust }
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

    /// Looks at a path, by name only.
    pub fn look(&self, input: &Dir, path: &Path, origin: Origin) -> io::Result<Look> {
        if path.components().any(|component| fs::is_ours(component.as_os_str())) {
            return Ok(Look::None);
        }
        let Some(seen) = input.look(path)? else {
            return Ok(Look::None);
        };
        match seen.kind {
            Kind::Directory => return Ok(Look::Directory),
            Kind::File => {}
            kind => {
                tracing::debug!(path = %crate::observe::shown(path), kind = kind.as_str(), "not a regular file: left alone");
                return Ok(Look::None);
            }
        }
        if !self.filter.allows(path) || !self.is_marked(input, path)? {
            return Ok(Look::None);
        }
        if let Some(why) = trust::refused(self.trust, input, &seen)? {
            tracing::debug!(path = %crate::observe::shown(path), why, "left alone");
            return Ok(Look::None);
        }
        let changed_ns = seen.identity.modified_ns.max(seen.identity.changed_ns);
        Ok(Look::File(Sighting { seen, age: age(changed_ns), origin }))
    }

    /// Whether the file's marker is there, if it needs one; a marker itself is none.
    fn is_marked(&self, input: &Dir, path: &Path) -> io::Result<bool> {
        let Some(marker) = &self.marker else {
            return Ok(true);
        };
        if path.as_os_str().as_bytes().ends_with(marker.as_bytes()) {
            return Ok(false);
        }
        let mut marked = path.as_os_str().to_owned();
        marked.push(marker);
        Ok(input.look(Path::new(&marked))?.is_some())
    }
}

fn age(changed_ns: i64) -> Duration {
    let changed = Duration::from_nanos(u64::try_from(changed_ns).unwrap_or(0));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(changed)
}
