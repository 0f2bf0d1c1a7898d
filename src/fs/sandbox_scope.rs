//! What is in reach of a process in a sandbox, which knows directories and not their names.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, Stat, stat};

/// The directories that the sandbox lets the process into, as they were when it closed.
#[derive(Clone, Debug, Default)]
pub struct SandboxScope {
    inside: HashSet<(u64, u64)>,
    /// What did not answer then, and is outside.
    silent: Vec<PathBuf>,
}

impl SandboxScope {
    #[must_use]
    pub fn of(dirs: &[PathBuf], silent: Vec<PathBuf>) -> Self {
        let found = dirs.iter().filter_map(|dir| stat(dir).ok());
        Self { inside: found.map(|found| name(&found)).collect(), silent }
    }

    /// Whether this did not answer when the sandbox closed.
    #[must_use]
    pub fn was_silent(&self, path: &Path) -> bool {
        self.silent.iter().any(|silent| path.starts_with(silent))
    }

    /// Whether this is a directory that was made or mounted since, and not below one that was there,
    /// or one that did not answer then: the process is kept out of it. Blocks as long as its file
    /// system does.
    #[must_use]
    pub fn excludes(&self, path: &Path) -> bool {
        let is_directory = |found: &Stat| FileType::from_raw_mode(found.st_mode).is_dir();
        if self.was_silent(path) {
            // An error is no answer: a new start would meet it, too.
            return stat(path).is_ok_and(|found| is_directory(&found));
        }
        if !stat(path).is_ok_and(|found| is_directory(&found)) {
            return false;
        }
        let Ok(real) = path.canonicalize() else { return false };
        let is_inside =
            |dir: &Path| stat(dir).is_ok_and(|found| self.inside.contains(&name(&found)));
        !real.ancestors().any(is_inside)
    }
}

fn name(found: &Stat) -> (u64, u64) {
    (found.st_dev, found.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_anew_is_out_of_reach_and_what_is_below_an_old_one_is_not() {
        let root = tempfile::tempdir().expect("temporary directory");
        let old = root.path().join("old");
        std::fs::create_dir(&old).expect("directory");
        let reach = SandboxScope::of(std::slice::from_ref(&old), Vec::new());
        assert!(!reach.excludes(&old));
        assert!(!reach.excludes(&root.path().join("gone")));
        std::fs::create_dir(old.join("below")).expect("directory");
        std::os::unix::fs::symlink("old/below", root.path().join("link")).expect("link");
        assert!(!reach.excludes(&root.path().join("link")));
        rustix::fs::rename(&old, root.path().join("away")).expect("rename");
        std::fs::create_dir(&old).expect("directory");
        assert!(reach.excludes(&old));
        assert!(!reach.excludes(&root.path().join("away/below")));
    }
}
