//! The jobs of a pipeline that are in work: who they are, how large, and since when.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Known by the number of the job, which grows: the first is the oldest.
#[derive(Debug, Default)]
pub struct InWork(Mutex<BTreeMap<i64, Job>>);

#[derive(Debug)]
struct Job {
    path: PathBuf,
    bytes: u64,
    since: Instant,
}

/// All of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub files: u64,
    /// Of their sources.
    pub bytes: u64,
    pub oldest: Duration,
}

impl InWork {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<i64, Job>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more; how many there are then.
    pub fn begin(&self, id: i64, path: &Path, bytes: u64) -> usize {
        let mut jobs = self.lock();
        jobs.insert(id, Job { path: path.to_path_buf(), bytes, since: Instant::now() });
        jobs.len()
    }

    /// One less; how many there are then.
    pub fn end(&self, id: i64) -> usize {
        let mut jobs = self.lock();
        jobs.remove(&id);
        jobs.len()
    }

    pub fn sum(&self) -> Sum {
        let jobs = self.lock();
        Sum {
            files: jobs.len() as u64,
            bytes: jobs.values().map(|job| job.bytes).sum(),
            oldest: jobs.values().next().map_or(Duration::ZERO, |job| job.since.elapsed()),
        }
    }

    /// The oldest of them, by their path below the input; at most so many.
    pub fn oldest(&self, most: usize) -> Vec<PathBuf> {
        self.lock().values().take(most).map(|job| job.path.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_told_first_and_the_sum_is_of_those_left() {
        let work = InWork::default();
        assert_eq!(work.sum(), Sum::default());
        for (id, name, bytes) in [(2, "b", 20), (1, "a", 10), (3, "c", 30)] {
            work.begin(id, Path::new(name), bytes);
        }
        assert_eq!(work.end(1), 2);
        assert_eq!((work.sum().files, work.sum().bytes), (2, 50));
        assert_eq!(work.oldest(1), [Path::new("b")]);
    }
}
