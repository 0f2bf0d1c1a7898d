//! Mounts that only this thread and its children see, and that end with them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    io::Errno,
    mount::{UnmountFlags, mount_bind, unmount},
};

use crate::harness::wait_for;

/// The file systems that are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ext4,
    Xfs,
    Btrfs,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// In bytes: the smallest that each one takes, or a little more.
    pub const fn size(self) -> u64 {
        const MIB: u64 = 1024 * 1024;
        match self {
            Self::Ext4 => 64 * MIB,
            Self::Xfs => 300 * MIB,
            Self::Btrfs => 128 * MIB,
        }
    }

    fn make(self, image: &Path) -> io::Result<()> {
        fs::File::create(image)?.set_len(self.size())?;
        let (program, options): (_, &[&str]) = match self {
            Self::Ext4 => ("mkfs.ext4", &["-q", "-F", "-E", "nodiscard,lazy_itable_init=0"]),
            Self::Xfs => ("mkfs.xfs", &["-q", "-f", "-K"]),
            Self::Btrfs => ("mkfs.btrfs", &["-q", "-f", "-K"]),
        };
        run(Command::new(program).args(options).arg(image))
    }

    /// A fresh file system in a file, with these directories; nothing of it is in use any more.
    pub fn fresh(self, image: &Path, at: &Path, directories: &[&str]) -> io::Result<()> {
        self.make(image)?;
        let mounted = Mounted::new(self, image, at)?;
        for directory in directories {
            fs::create_dir(at.join(directory))?;
        }
        mounted.end()
    }
}

/// Runs a program; an error has what it printed.
fn run(command: &mut Command) -> io::Result<()> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!("{command:?}: {printed}")))
}

/// From here on the machine seems to have been started again, to this thread and its children: its
/// boot ID is in a file of this directory.
pub fn own_boot(directory: &Path) -> io::Result<Boot> {
    let boot = Boot(directory.join("boot_id"));
    boot.start("0")?;
    mount_bind(&boot.0, BOOT_ID)?;
    Ok(boot)
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The machine's starts, as the service sees them. Dropping it shows the real one again.
#[derive(Debug)]
pub struct Boot(PathBuf);

impl Boot {
    pub fn start(&self, id: &str) -> io::Result<()> {
        fs::write(&self.0, id)
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        // Where it is not mounted there is nothing to show again.
        unmount(BOOT_ID, UnmountFlags::DETACH).ok();
    }
}

/// A loop device on this image. What another image left of itself in the kernel's memory, under the
/// device's number, is the caller's to drop: a device that somebody looked at while it was detached
/// keeps it, and shows it in place of the new image.
fn attach(image: &Path) -> io::Result<PathBuf> {
    let output = Command::new("losetup").args(["--find", "--show"]).arg(image).output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// A mounted disk. Dropping it unmounts it; its loop device ends with the mount.
#[derive(Debug)]
pub struct Mounted(Option<PathBuf>);

impl Mounted {
    pub fn new(kind: Kind, image: &Path, at: &Path) -> io::Result<Self> {
        let options = match kind {
            Kind::Ext4 => "rw",
            Kind::Xfs => "nouuid",
            Kind::Btrfs => "nodiscard",
        };
        let device = attach(image)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", kind.name(), "-o", options]).arg(&device).arg(at);
        let mounted = run(Command::new("blockdev").arg("--flushbufs").arg(&device))
            .and_then(|()| run(&mut mount));
        // A device in use is detached when it is no more: with the mount, however that ends.
        run(Command::new("losetup").arg("--detach").arg(&device))?;
        mounted?;
        Ok(Self(Some(at.to_path_buf())))
    }

    /// Unmounts it. A child that another thread just started has our descriptors until it executes
    /// its program, so the mount can be in use for a moment.
    pub fn end(mut self) -> io::Result<()> {
        let Some(at) = self.0.take() else { return Ok(()) };
        let mut result = Ok(());
        wait_for(|| {
            result = unmount(&at, UnmountFlags::empty());
            result != Err(Errno::BUSY)
        });
        Ok(result?)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(at) = self.0.take() {
            // A failed test: what still uses it is killed with its owner.
            unmount(&at, UnmountFlags::DETACH).ok();
        }
    }
}
