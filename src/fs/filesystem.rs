//! Properties of a file system and of the machine.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::FileExt},
    path::Path,
    sync::OnceLock,
};

use rustix::io::Errno;

use crate::failpoint;

/// Magic numbers of file systems that other machines write to without this kernel's knowledge
/// (`statfs(2)`): NFS, SMB1, SMB2/CIFS, AFS, Ceph, 9p, Coda, FUSE, Lustre, GFS2, OCFS2, kAFS, GPFS,
/// BeeGFS, OrangeFS, PanFS, and the shared folders of VirtualBox and VMware.
const NETWORK_MAGIC: [u64; 18] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0x5346_414f,
    0x00c3_6400,
    0x0102_1997,
    0x7375_7245,
    FUSE_MAGIC,
    0x0bd0_0bd0,
    0x0116_1970,
    0x7461_636f,
    0x6b41_4653,
    0x4750_4653,
    0x1983_0326,
    0x2003_0528,
    0xaad7_aaea,
    0x786f_4256,
    0xbacb_acbc,
];
const SMB2_MAGIC: u64 = 0xfe53_4d42;
const FUSE_MAGIC: u64 = 0x6573_5546;
const BTRFS_MAGIC: u64 = 0x9123_683e;
/// FAT and exFAT.
const NO_INODES_MAGIC: [u64; 2] = [0x4d44, 0x2011_bab0];

/// Returns the bytes that this process may still write on a file system.
pub fn free_bytes(dir: &impl AsFd) -> io::Result<u64> {
    let space = rustix::fs::fstatvfs(dir)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// Checks whether other machines may change a file system, so that kernel events and leases miss
/// changes.
pub fn is_network(dir: &impl AsFd) -> io::Result<bool> {
    Ok(is_network_magic(magic(dir)?))
}

pub fn is_network_magic(magic: u64) -> bool {
    NETWORK_MAGIC.contains(&magic) || magic == SMB2_MAGIC
}

/// Checks whether a file system keeps no inode numbers: the kernel makes them up.
pub fn has_no_inodes(magic: u64) -> bool {
    NO_INODES_MAGIC.contains(&magic)
}

/// Checks whether a directory, or the nearest one above that exists, is on a network file system. FUSE
/// counts as local, because the kernel does not know where its files are. Blocks while the file system
/// does not respond.
#[must_use]
pub fn is_remote(dir: &Path) -> bool {
    let is_remote = |dir: &Path| {
        let magic = magic_of(rustix::fs::statfs(dir).ok()?);
        Some(is_network_magic(magic) && magic != FUSE_MAGIC)
    };
    failpoint::is_skipped("gate::local_state") || dir.ancestors().find_map(is_remote) == Some(true)
}

/// Returns the file system's magic number.
pub fn magic(handle: &impl AsFd) -> io::Result<u64> {
    Ok(magic_of(rustix::fs::fstatfs(handle)?))
}

#[expect(clippy::cast_sign_loss, reason = "a magic number of at most 32 bits")]
const fn magic_of(found: rustix::fs::StatFs) -> u64 {
    found.f_type as u64 & 0xffff_ffff
}

/// ext2 to ext4, XFS and btrfs: one `syncfs` was measured to cost less there than many `fsync`.
const SYNCFS_PREFERRED: [u64; 3] = [0xef53, 0x5846_5342, BTRFS_MAGIC];

/// Checks whether one `syncfs` may replace many `fsync`: it is cheaper there and reports errors, as
/// it does since Linux 5.8.
pub fn prefers_syncfs(handle: &impl AsFd) -> io::Result<bool> {
    Ok(reports_sync_errors() && SYNCFS_PREFERRED.contains(&magic(handle)?))
}

/// Checks whether a directory is a mount point: its parent is on another file system.
pub fn is_mount(path: &Path) -> io::Result<bool> {
    Ok(rustix::fs::stat(path)?.st_dev != rustix::fs::stat(path.join(".."))?.st_dev)
}

fn reports_sync_errors() -> bool {
    static REPORTS: OnceLock<bool> = OnceLock::new();
    *REPORTS.get_or_init(|| {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut numbers = release.split('.').map(|word| word.parse().unwrap_or(0_u32));
        (numbers.next(), numbers.next()) >= (Some(5), Some(8))
    })
}

/// Reads how many bytes the machine has not written to its disks. Dropping it closes a handle.
#[derive(Debug)]
pub struct DirtyPages(Option<File>);

impl DirtyPages {
    /// Opens `/proc/meminfo`; without it [`Self::bytes`] returns nothing.
    #[must_use]
    pub fn open() -> Self {
        Self(File::open("/proc/meminfo").ok())
    }

    /// Returns the bytes of all file systems that are changed in memory or being written to a disk.
    pub fn bytes(&self) -> Option<u64> {
        let mut text = [0; 4096];
        let count = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
        unwritten_bytes(std::str::from_utf8(text.get(..count)?).ok()?)
    }
}

/// Returns the sum of `Dirty` and `Writeback` of `/proc/meminfo`, in bytes.
fn unwritten_bytes(meminfo: &str) -> Option<u64> {
    let kib = |name| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some((kib("Dirty:")? + kib("Writeback:")?) * 1024)
}

/// Returns the identifier of the machine's current boot (`random(4)`); empty if that is unknown.
#[must_use]
pub fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Checks whether names must be made durable by [`commit_names`].
///
/// On btrfs a rename records its directory in the log that `fsync` writes. If another `fsync` on the file
/// system ends at that moment, the directory counts as written, and its own `fsync` returns without
/// writing anything (seen on Linux 6.18).
pub const fn needs_commit(magic: u64) -> bool {
    magic == BTRFS_MAGIC
}

/// How often a commit of names is tried.
const COMMIT_TRIES: u32 = 8;

/// Makes all names of a file system durable: `syncfs` commits the transaction, which does not depend on the
/// log. (`BTRFS_IOC_START_SYNC` would not write other files' data, but takes up to 30 seconds: the kernel's
/// thread misses a request that comes before it sleeps again.)
pub fn commit_names(dir: &impl AsFd) -> io::Result<()> {
    // A call also reports that the data of any other file could not be written, once for this handle; that
    // concerns no name, and the next call may report the next such file. A transaction that failed is reported
    // each time, or leaves the file system read-only.
    let mut synced = sync_file_system(dir);
    for _ in 1..COMMIT_TRIES {
        synced = synced.or_else(|_| sync_file_system(dir));
    }
    synced?;
    // Before Linux 5.17 `syncfs` does not report a transaction that failed. After that only reads are
    // possible.
    let flags = rustix::fs::fstatvfs(dir)?.f_flag;
    let has_failed = flags.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    if has_failed { Err(Errno::ROFS.into()) } else { Ok(()) }
}

/// Makes all data written to the file system of this handle durable (`syncfs(2)`).
pub fn sync_file_system(handle: &impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(handle)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn file_systems_that_other_machines_write_to_are_shared() {
        let ext4 = 0xef53;
        assert!(!super::is_network_magic(ext4));
        for (name, magic) in [
            ("NFS", 0x6969),
            ("SMB2", 0xfe53_4d42),
            ("kAFS", 0x6b41_4653),
            ("GPFS", 0x4750_4653),
            ("BeeGFS", 0x1983_0326),
            ("OrangeFS", 0x2003_0528),
            ("PanFS", 0xaad7_aaea),
            ("vboxsf", 0x786f_4256),
            ("vmhgfs", 0xbacb_acbc),
        ] {
            assert!(super::is_network_magic(magic), "{name}");
        }
    }

    #[test]
    fn unwritten_bytes_are_the_sum_of_dirty_and_writeback() {
        let meminfo = "MemFree:  5 kB\nDirty:    12 kB\nWriteback:  3 kB\nWritebackTmp:  9 kB\n";
        assert_eq!(super::unwritten_bytes(meminfo), Some(15 * 1024));
        assert_eq!(super::unwritten_bytes("Dirty: 12 kB\n"), None);
        assert_eq!(super::unwritten_bytes("Dirty: many\nWriteback: 3 kB\n"), None);
    }

    #[test]
    fn this_machine_reports_unwritten_bytes() {
        assert!(super::DirtyPages::open().bytes().is_some());
    }
}
