//! Names that lost their file and got another one by a rename: the file is another source, as after a log
//! rotation.
//!
//! A producer that puts a new version in place of a file renames it over the old one, writes it under the
//! free name, or renames it from a name that no source has: these are updates. The watch's thread notes
//! each event in the kernel's order, so that no batch of events hides one.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    time::Instant,
};

use crate::{limits, sync::Mutex};

/// The successions of an input's names; at most [`limits::PENDING_FILES_MAX`].
pub struct Successions {
    names: Mutex<HashMap<PathBuf, Name>>,
    /// Whether a file of this name is a source.
    counts: Box<dyn Fn(&Path) -> bool + Send + Sync>,
}

#[derive(Clone, Copy, Debug)]
struct Name {
    vacated: Option<Instant>,
    succeeded: Option<Instant>,
}

impl fmt::Debug for Successions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Successions")
            .field("names", &self.names.lock().len())
            .finish_non_exhaustive()
    }
}

impl Successions {
    /// `counts`: whether a file of this name is a source.
    #[must_use]
    pub fn new(counts: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
        Self { names: Mutex::default(), counts: Box::new(counts) }
    }

    /// Notes that a name lost its file: it was removed, or renamed away.
    pub fn vacated(&self, path: &Path) {
        if !(self.counts)(path) {
            return;
        }
        let now = Instant::now();
        let mut names = self.names.lock();
        if names.len() >= limits::PENDING_FILES_MAX {
            names.retain(|_, name| name.succeeded.is_some() || name.is_vacant(now));
        }
        if let Some(name) = names.get_mut(path) {
            name.vacated = Some(now);
        } else if names.len() < limits::PENDING_FILES_MAX {
            names.insert(path.to_path_buf(), Name { vacated: Some(now), succeeded: None });
        }
    }

    /// Notes that a file was renamed to a name; `from` is `None` if it came from outside the input.
    pub fn renamed(&self, from: Option<&Path>, to: &Path) {
        let now = Instant::now();
        let is_update = || from.is_some_and(|from| !(self.counts)(from));
        let mut names = self.names.lock();
        if let Some(name) = names.get_mut(to)
            && name.is_vacant(now)
            && !is_update()
        {
            *name = Name { vacated: None, succeeded: Some(now) };
        }
    }

    /// Returns when another file succeeded the one that had this name, until [`Self::end`].
    #[must_use]
    pub fn of(&self, path: &Path) -> Option<Instant> {
        self.names.lock().get(path).and_then(|name| name.succeeded)
    }

    /// Ends this succession: the new source has a record of its own.
    pub fn end(&self, path: &Path, succeeded: Instant) {
        let mut names = self.names.lock();
        if let Some(name) = names.get_mut(path)
            && name.succeeded == Some(succeeded)
        {
            name.succeeded = None;
            if name.vacated.is_none() {
                names.remove(path);
            }
        }
    }
}

impl Name {
    /// Checks whether the name lost its file a moment ago. One that is free for longer is marked in the
    /// ledger.
    fn is_vacant(self, now: Instant) -> bool {
        self.vacated.is_some_and(|at| now.saturating_duration_since(at) <= limits::ABSENCE_TIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_renamed_to_a_vacated_name_is_no_update() {
        let path = Path::new("a");
        let temporary = Path::new(".a.part");
        let after = |events: &dyn Fn(&Successions)| {
            let successions = Successions::new(|path| !path.to_string_lossy().starts_with('.'));
            events(&successions);
            successions.of(path).is_some()
        };
        assert!(!after(&|_| ()));
        // Over the old one, as rsync and editors do.
        assert!(!after(&|all| all.renamed(Some(temporary), path)));
        assert!(!after(&|all| all.renamed(None, path)));
        // A log rotation, also where the new file is written to afterwards.
        assert!(after(&|all| {
            all.vacated(path);
            all.renamed(Some(Path::new("b")), path);
        }));
        assert!(after(&|all| {
            all.vacated(path);
            all.renamed(None, path);
            all.vacated(path);
        }));
        // An upload whose client removes the old file first.
        assert!(!after(&|all| {
            all.vacated(path);
            all.renamed(Some(temporary), path);
        }));
    }

    #[test]
    fn a_succession_ends_with_its_own_record_only() {
        let (successions, path) = (Successions::new(|_| true), Path::new("a"));
        let succeed = || {
            successions.vacated(path);
            successions.renamed(None, path);
            successions.of(path).expect("a succession")
        };
        let first = succeed();
        let second = succeed();
        successions.end(path, first);
        assert!(first == second || successions.of(path) == Some(second));
        successions.end(path, second);
        assert_eq!(successions.of(path), None);
        assert!(successions.names.lock().is_empty());
    }

    #[test]
    fn names_that_were_vacated_are_bounded() {
        let successions = Successions::new(|path| path != Path::new("not counted"));
        for number in 0..limits::PENDING_FILES_MAX + 5 {
            successions.vacated(Path::new(&number.to_string()));
        }
        successions.vacated(Path::new("not counted"));
        assert_eq!(successions.names.lock().len(), limits::PENDING_FILES_MAX);
    }
}
