//! Names that lost their file and got another one: the new file is another source, as after a log rotation.
//!
//! A producer that puts a new version in place of a file renames it over the old one, or leaves its name
//! free for a moment and then writes the new file under it, or renames it from a temporary name: these are
//! updates. The watch's thread notes each event in the kernel's order, so that neither a batch of events nor a
//! busy intake hides one.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    time::Instant,
};

use crate::{ledger::RecordId, limits, sync::Mutex};

/// The successions of an input's names; at most [`limits::PENDING_FILES_MAX`].
pub struct Successions {
    names: Mutex<HashMap<PathBuf, Name>>,
    /// Whether a file of this name is a source.
    counts: Box<dyn Fn(&Path) -> bool + Send + Sync>,
    /// Whether a producer gives this name to a file that it has not finished.
    is_temporary: Box<dyn Fn(&Path) -> bool + Send + Sync>,
    /// Returns the number of the next record.
    next_id: Box<dyn Fn() -> RecordId + Send + Sync>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Name {
    /// Since when it has no file.
    vacated: Option<Instant>,
    /// When a file was seen there after that: its event may be missing, as below a new directory.
    seen: Option<Instant>,
    succeeded: Option<RecordId>,
}

impl fmt::Debug for Successions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Successions")
            .field("names", &self.names.lock().len())
            .finish_non_exhaustive()
    }
}

impl Successions {
    /// `counts`: whether a file of this name is a source; `is_temporary`: whether a producer gives it to a
    /// file that it has not finished. `next_id` gives record numbers.
    #[must_use]
    pub fn new(
        counts: impl Fn(&Path) -> bool + Send + Sync + 'static,
        is_temporary: impl Fn(&Path) -> bool + Send + Sync + 'static,
        next_id: impl Fn() -> RecordId + Send + Sync + 'static,
    ) -> Self {
        let (counts, is_temporary) = (Box::new(counts), Box::new(is_temporary));
        Self { names: Mutex::default(), counts, is_temporary, next_id: Box::new(next_id) }
    }

    /// Notes that a name lost its file: it was removed, or renamed away.
    pub fn vacated(&self, path: &Path) {
        let mut names = self.names.lock();
        let vacated = Some(Instant::now());
        if let Some(name) = names.get_mut(path) {
            (name.vacated, name.seen) = (vacated, None);
            return;
        }
        if !(self.counts)(path) {
            return;
        }
        if names.len() >= limits::PENDING_FILES_MAX {
            forget_free(&mut names);
        }
        if names.len() < limits::PENDING_FILES_MAX {
            names.insert(path.to_path_buf(), Name { vacated, ..Name::default() });
        }
    }

    /// Notes that a look found a file under a name.
    pub fn seen(&self, path: &Path) {
        if let Some(name) = self.names.lock().get_mut(path)
            && name.vacated.is_some()
        {
            name.seen.get_or_insert_with(Instant::now);
        }
    }

    /// Notes that a file was created under a name.
    pub fn created(&self, path: &Path) {
        self.filled(path, |is_long_free| is_long_free);
    }

    /// Notes that a file was renamed to a name; `from` is `None` if it came from outside the input.
    pub fn renamed(&self, from: Option<&Path>, to: &Path) {
        let is_update = from.is_some_and(|from| (self.is_temporary)(from));
        self.filled(to, |is_long_free| is_long_free || !is_update);
    }

    /// Notes that the service gave a file its name back.
    pub fn returned(&self, path: &Path) {
        self.filled(path, |_| false);
    }

    fn filled(&self, path: &Path, is_other: impl FnOnce(bool) -> bool) {
        let mut names = self.names.lock();
        let Some(name) = names.get_mut(path) else { return };
        let Some(vacated) = name.vacated.take() else { return };
        // The event of a file that was seen long ago does not come any more.
        let had_file = name.seen.take().is_some_and(|at| at.elapsed() > limits::ABSENCE_TIME);
        if !had_file && is_other(vacated.elapsed() > limits::ABSENCE_TIME) {
            name.succeeded = Some((self.next_id)());
        }
        if name.succeeded.is_none() {
            names.remove(path);
        }
    }

    /// Forgets the names that are free, after a loss of events.
    pub fn overflow(&self) {
        forget_free(&mut self.names.lock());
    }

    /// Returns the names that got another file, and those that have none for long.
    #[must_use]
    pub fn unrecorded(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let names = self.names.lock();
        let of = |is_wanted: &dyn Fn(&Name) -> bool| {
            let wanted = names.iter().filter(|(_, name)| is_wanted(name));
            wanted.map(|(path, _)| path.clone()).collect()
        };
        let is_free = |name: &Name| name.vacated.is_some_and(is_old);
        (of(&|name| name.succeeded.is_some()), of(&is_free))
    }

    /// Forgets that a name is free: the ledger has that, or has nothing of it. What happened a moment ago
    /// stays.
    pub fn recorded(&self, path: &Path) {
        let mut names = self.names.lock();
        if let Some(name) = names.get_mut(path)
            && name.vacated.is_some_and(is_old)
        {
            name.vacated = None;
            if name.succeeded.is_none() {
                names.remove(path);
            }
        }
    }

    /// Returns the succession of a name, until [`Self::end`]: the records of lower numbers are of a source
    /// that had the name before.
    #[must_use]
    pub fn of(&self, path: &Path) -> Option<RecordId> {
        self.names.lock().get(path).and_then(|name| name.succeeded)
    }

    /// Ends this succession: the ledger has it.
    pub fn end(&self, path: &Path, succession: RecordId) {
        let mut names = self.names.lock();
        if let Some(name) = names.get_mut(path)
            && name.succeeded == Some(succession)
        {
            name.succeeded = None;
            if name.vacated.is_none() {
                names.remove(path);
            }
        }
    }
}

fn is_old(at: Instant) -> bool {
    at.elapsed() >= limits::ABSENCE_TIME
}

fn forget_free(names: &mut HashMap<PathBuf, Name>) {
    names.retain(|_, name| {
        (name.vacated, name.seen) = (None, None);
        name.succeeded.is_some()
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    fn successions() -> Successions {
        let last = AtomicI64::new(0);
        let is_temporary = |path: &Path| path.to_string_lossy().starts_with('.');
        let counts = move |path: &Path| !is_temporary(path) && path != Path::new("left out");
        Successions::new(counts, is_temporary, move || last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Makes the time since a name lost its file longer.
    fn wait(successions: &Successions, path: &Path) {
        let mut names = successions.names.lock();
        let vacated = &mut names.get_mut(path).expect("the name").vacated;
        *vacated = vacated.and_then(|at| at.checked_sub(2 * limits::ABSENCE_TIME));
    }

    #[test]
    fn a_file_that_is_renamed_to_a_vacated_name_is_no_update() {
        let path = Path::new("a");
        let temporary = Path::new(".a.part");
        let after = |events: &dyn Fn(&Successions)| {
            let successions = successions();
            events(&successions);
            successions.of(path).is_some()
        };
        assert!(!after(&|_| ()));
        // Over the old one, as rsync and editors do.
        assert!(!after(&|all| all.renamed(Some(temporary), path)));
        assert!(!after(&|all| all.renamed(None, path)));
        // A log rotation, also from a name that `include` has not, and where the new file is written to
        // afterwards.
        for from in ["b", "left out"] {
            assert!(after(&|all| {
                all.vacated(path);
                all.renamed(Some(Path::new(from)), path);
            }));
        }
        assert!(after(&|all| {
            all.vacated(path);
            all.renamed(None, path);
            all.vacated(path);
            all.created(path);
        }));
        // An upload whose client removes the old file first, and one that writes in place.
        assert!(!after(&|all| {
            all.vacated(path);
            all.renamed(Some(temporary), path);
        }));
        assert!(!after(&|all| {
            all.vacated(path);
            all.created(path);
            // Over the new one.
            all.renamed(None, path);
        }));
        // The service gave the file its name back.
        assert!(!after(&|all| {
            all.vacated(path);
            all.returned(path);
            all.renamed(None, path);
        }));
    }

    #[test]
    fn a_file_that_comes_long_after_the_name_lost_another_one_is_no_update() {
        for fill in [(|all, path| all.created(path)) as fn(&Successions, &Path), |all, path| {
            all.renamed(Some(Path::new(".a.part")), path);
        }] {
            let (successions, path) = (successions(), Path::new("a"));
            successions.vacated(path);
            wait(&successions, path);
            fill(&successions, path);
            assert!(successions.of(path).is_some());
            // What the ledger has, or what events may hide, is not noted.
            let recorded = |all: &Successions| all.recorded(Path::new("b"));
            for forget in [Successions::overflow as fn(&Successions), recorded] {
                successions.vacated(Path::new("b"));
                wait(&successions, Path::new("b"));
                forget(&successions);
                fill(&successions, Path::new("b"));
                assert_eq!(successions.of(Path::new("b")), None);
            }
            assert!(successions.of(path).is_some());
        }
        let (successions, path) = (successions(), Path::new("a"));
        successions.vacated(path);
        successions.recorded(path);
        successions.renamed(None, path);
        assert!(successions.of(path).is_some(), "it was free for a moment only");
    }

    #[test]
    fn only_the_succession_that_the_ledger_has_ends() {
        let (successions, path) = (successions(), Path::new("a"));
        let succeed = || {
            successions.vacated(path);
            successions.renamed(None, path);
            successions.of(path).expect("a succession")
        };
        let first = succeed();
        let second = succeed();
        successions.end(path, first);
        assert_eq!(successions.of(path), Some(second));
        successions.end(path, second);
        assert_eq!(successions.of(path), None);
        assert!(successions.names.lock().is_empty());
    }

    /// It was created where its event is missing: the next version is an update.
    #[test]
    fn a_name_whose_file_was_seen_long_ago_is_not_free() {
        let (successions, path) = (successions(), Path::new("a"));
        successions.vacated(path);
        successions.seen(path);
        wait(&successions, path);
        if let Some(name) = successions.names.lock().get_mut(path) {
            name.seen = name.seen.and_then(|at| at.checked_sub(2 * limits::ABSENCE_TIME));
        }
        successions.renamed(None, path);
        assert_eq!(successions.of(path), None);
        // A look between the two events of a rotation.
        successions.vacated(path);
        successions.seen(path);
        successions.renamed(None, path);
        assert!(successions.of(path).is_some());
    }

    #[test]
    fn names_that_were_vacated_are_bounded_and_later_ones_are_noted() {
        let successions = successions();
        let path = |number: usize| PathBuf::from(number.to_string());
        successions.vacated(&path(0));
        successions.renamed(None, &path(0));
        for number in 1..=limits::PENDING_FILES_MAX {
            successions.vacated(&path(number));
        }
        successions.vacated(Path::new("left out"));
        assert_eq!(successions.names.lock().len(), 2);
        successions.renamed(None, &path(limits::PENDING_FILES_MAX));
        assert_eq!(successions.unrecorded().0.len(), 2);
    }
}
