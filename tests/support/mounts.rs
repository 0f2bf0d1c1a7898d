//! Mounts that end with their test.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    fs::{Mode, OFlags, open, stat},
    io::Errno,
    mount::{MountPropagationFlags, mount_change},
    process::{chdir, chroot, fchdir},
    thread::{UnshareFlags, unshare_unsafe},
};

use crate::prove;

/// Gives this thread and its children mounts of their own, which the kernel removes with the last
/// of them.
#[expect(unsafe_code, reason = "the system call has no safe form")]
pub fn own_mounts() -> io::Result<()> {
    // SAFETY: no descriptor table is unshared, only mounts and the working directory.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS)? };
    match make_private() {
        // In a chroot whose root is no mount point.
        Err(Errno::INVAL) => Ok(make_private_outside_of_the_chroot()?),
        made => Ok(made?),
    }
}

fn make_private() -> rustix::io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

/// As [`make_private`], from the root of the namespace, which is above this thread's. A bind mount
/// of `/` on itself would do as well, but other namespaces would get it.
fn make_private_outside_of_the_chroot() -> rustix::io::Result<()> {
    let (root, directory) = (handle("/")?, handle(".")?);
    chdir("/")?;
    chroot(env::temp_dir())?;
    // The working directory is above the root now, where `..` does not end at it.
    loop {
        let here = stat(".")?;
        chdir("..")?;
        let above = stat(".")?;
        if (here.st_dev, here.st_ino) == (above.st_dev, above.st_ino) {
            break;
        }
    }
    chroot(".")?;
    let made = make_private();
    fchdir(root)?;
    chroot(".")?;
    fchdir(directory)?;
    made
}

fn handle(path: &str) -> rustix::io::Result<rustix::fd::OwnedFd> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A mounted file system. Dropping it unmounts it.
pub struct Mount(PathBuf);

impl Mount {
    /// `from` under another path, by a FUSE file system that knows no flag of a rename.
    pub fn bindfs(from: &Path, at: &Path) -> Option<Self> {
        let mounted = run("bindfs", &[], &[from, at]);
        Self::of(mounted, at, "bindfs cannot mount here")
    }

    /// A file system of its own, in memory, of this size (`64m`).
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

    /// As it was before [`Self::set_read_only`].
    pub fn set_writable(&self) {
        assert!(run("mount", &["-o", "remount,rw"], &[&self.0]));
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
