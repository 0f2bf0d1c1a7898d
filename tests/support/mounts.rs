//! Mounts that end with their test.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::prove;

/// A mounted file system. Dropping it unmounts it.
pub struct Mount(PathBuf);

impl Mount {
    /// `from` under another path, by a FUSE file system that knows no flag of a rename.
    pub fn bindfs(from: &Path, at: &Path) -> Option<Self> {
        let mounted = run("bindfs", &[], &[from, at]);
        Self::of(mounted, at, "bindfs cannot mount here")
    }

    /// A file system of its own, in memory, of so many bytes (`64m`).
    pub fn memory(at: &Path, size: &str) -> Option<Self> {
        let size = format!("size={size}");
        let mounted = run("mount", &["-t", "tmpfs", "-o", &size, "tidemill-test"], &[at]);
        Self::of(mounted, at, "only root mounts file systems")
    }

    /// `from` under another path, where nothing can be written.
    pub fn read_only(from: &Path, at: &Path) -> Option<Self> {
        let mounted = run("mount", &["--bind"], &[from, at])
            && run("mount", &["-o", "remount,bind,ro"], &[at]);
        Self::of(mounted, at, "only root mounts file systems")
    }

    /// From now on nothing can be written to it.
    pub fn set_read_only(&self) {
        assert!(run("mount", &["-o", "remount,ro"], &[&self.0]));
    }

    fn of(mounted: bool, at: &Path, why: &str) -> Option<Self> {
        if !mounted {
            prove::skipped("a mount", why);
            return None;
        }
        Some(Self(at.to_path_buf()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: what a failed test left open does not keep it mounted.
        if !run("umount", &["-l"], &[&self.0]) {
            println!("{} stays mounted", self.0.display());
        }
    }
}

fn run(program: &str, args: &[&str], paths: &[&Path]) -> bool {
    let status = Command::new(program).args(args).args(paths).status();
    status.is_ok_and(|status| status.success())
}
