//! The directories that a sandboxed process can reach, by identity: the sandbox holds directories,
//! not names.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, Stat, stat};

/// The directories that the sandbox opens to the process, as they were when it closed.
#[derive(Clone, Debug, Default)]
pub struct SandboxScope {
    inside: HashSet<(u64, u64)>,
    /// Paths that did not answer then, and are outside.
    silent: Vec<PathBuf>,
}

impl SandboxScope {
    #[must_use]
    pub fn of(dirs: &[PathBuf], silent: Vec<PathBuf>) -> Self {
        let found = dirs.iter().filter_map(|dir| stat(dir).ok());
        Self { inside: found.map(|found| id(&found)).collect(), silent }
    }

    /// Checks whether a path did not answer when the sandbox closed.
    #[must_use]
    pub fn was_silent(&self, path: &Path) -> bool {
        self.silent.iter().any(|silent| path.starts_with(silent))
    }

    /// Checks whether a path is a directory out of reach: made or mounted since then and not below
    /// one that existed, or one that did not answer then. Blocks as long as its file system does.
    #[must_use]
    pub fn excludes(&self, path: &Path) -> bool {
        let is_directory = |found: &Stat| FileType::from_raw_mode(found.st_mode).is_dir();
        if self.was_silent(path) {
            // An error is no answer: a restart would meet it, too.
            return stat(path).is_ok_and(|found| is_directory(&found));
        }
        if !stat(path).is_ok_and(|found| is_directory(&found)) {
            return false;
        }
        let Ok(real) = path.canonicalize() else { return false };
        let is_inside = |dir: &Path| stat(dir).is_ok_and(|found| self.inside.contains(&id(&found)));
        !real.ancestors().any(is_inside)
    }
}

fn id(found: &Stat) -> (u64, u64) {
    (found.st_dev, found.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_directory_is_out_of_reach_and_one_below_an_old_one_is_not() {
        let root = tempfile::tempdir().expect("temporary directory");
        let old = root.path().join("old");
        std::fs::create_dir(&old).expect("directory");
        let scope = SandboxScope::of(std::slice::from_ref(&old), Vec::new());
        assert!(!scope.excludes(&old));
        assert!(!scope.excludes(&root.path().join("gone")));
        std::fs::create_dir(old.join("below")).expect("directory");
        std::os::unix::fs::symlink("old/below", root.path().join("link")).expect("link");
        assert!(!scope.excludes(&root.path().join("link")));
        rustix::fs::rename(&old, root.path().join("away")).expect("rename");
        std::fs::create_dir(&old).expect("directory");
        assert!(scope.excludes(&old));
        assert!(!scope.excludes(&root.path().join("away/below")));
    }
}
