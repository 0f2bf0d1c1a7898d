//! The space that stays free on the output's file system (`min_free`).

use std::{io, time::Instant};

use crate::{fs, fs::Dir, limits, observe::units::size, sync::Mutex};

/// Checks the free space at intervals. Once it is below the minimum, a tenth more must be free again, so that
/// a pipeline does not begin with each file that a consumer takes.
#[derive(Debug)]
pub struct FreeSpace {
    min_bytes: u64,
    latest: Mutex<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    checked_at: Option<Instant>,
    /// The free bytes, if they were too few.
    too_few: Option<u64>,
}

impl FreeSpace {
    /// Without a minimum nothing is checked.
    pub fn new(min_bytes: Option<u64>) -> Self {
        Self { min_bytes: min_bytes.unwrap_or(0), latest: Mutex::default() }
    }

    /// Checks the file system of a directory, with the result of the last second.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::StorageFull`], as if the disk were full.
    pub fn check(&self, dir: &Dir) -> io::Result<()> {
        let now = Instant::now();
        let is_fresh =
            |at: Instant| now.saturating_duration_since(at) < limits::FREE_SPACE_INTERVAL;
        if self.min_bytes == 0 || self.latest.lock().checked_at.is_some_and(is_fresh) {
            return self.result();
        }
        self.check_now(dir)
    }

    /// As [`Self::check`], at once.
    pub fn check_now(&self, dir: &Dir) -> io::Result<()> {
        if self.min_bytes > 0 {
            let free = fs::free_bytes(dir)?;
            self.update(free);
        }
        self.result()
    }

    fn update(&self, free: u64) {
        let mut latest = self.latest.lock();
        let margin = if latest.too_few.is_some() { self.min_bytes / 10 } else { 0 };
        let too_few = (free < self.min_bytes.saturating_add(margin)).then_some(free);
        *latest = Latest { checked_at: Some(Instant::now()), too_few };
    }

    fn result(&self) -> io::Result<()> {
        let Some(free) = self.latest.lock().too_few else { return Ok(()) };
        let text = format!("{} free, and `min_free` is {}", size(free), size(self.min_bytes));
        Err(io::Error::new(io::ErrorKind::StorageFull, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_the_minimum_a_tenth_more_must_be_free_again() {
        let space = FreeSpace::new(Some(1000));
        for (free, is_enough) in
            [(1000, true), (999, false), (1000, false), (1099, false), (1100, true), (1000, true)]
        {
            space.update(free);
            assert_eq!(space.result().is_ok(), is_enough, "{free}");
        }
        space.update(10);
        let error = space.result().expect_err("too few");
        assert_eq!(error.to_string(), "10 B free, and `min_free` is 1 kB");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn the_free_space_is_that_of_the_file_system() {
        let root = tempfile::tempdir().expect("temporary directory");
        let dir = Dir::open(root.path()).expect("open");
        assert!(FreeSpace::new(None).check(&dir).is_ok());
        assert!(FreeSpace::new(Some(1)).check(&dir).is_ok());
        let space = FreeSpace::new(Some(u64::MAX));
        assert!(space.check(&dir).is_err());
        assert!(space.check(&dir).is_err(), "from memory");
    }
}
