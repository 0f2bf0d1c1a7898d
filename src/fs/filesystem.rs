//! What is true of a whole file system, and of the machine.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::FileExt},
    path::Path,
    sync::OnceLock,
};

use super::{FileMetadata, dir::seen};

/// Magic numbers of file systems that other machines write to without our kernel's knowing
/// (`statfs(2)`): NFS, SMB1, SMB2/CIFS, AFS, Ceph, 9p, Coda, FUSE, Lustre, GFS2, OCFS2.
const NETWORK: [u64; 11] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0x5346_414f,
    0x00c3_6400,
    0x0102_1997,
    0x7375_7245,
    0x6573_5546,
    0x0bd0_0bd0,
    0x0116_1970,
    0x7461_636f,
];
const SMB2: u64 = 0xfe53_4d42;

/// Whether changes may come from elsewhere, so that kernel events and leases say too little.
pub fn is_network(dir: &impl AsFd) -> io::Result<bool> {
    let kind = kind(dir)?;
    Ok(NETWORK.contains(&kind) || kind == SMB2)
}

/// The file system's magic number.
fn kind(of: &impl AsFd) -> io::Result<u64> {
    let kind = rustix::fs::fstatfs(of)?.f_type;
    #[expect(clippy::cast_sign_loss, reason = "a magic number of at most 32 bits")]
    let kind = kind as u64;
    Ok(kind & 0xffff_ffff)
}

/// ext2 to ext4, XFS and btrfs: one `syncfs` was measured to cost less there than many `fsync`.
const SYNC_WHOLE: [u64; 3] = [0xef53, 0x5846_5342, 0x9123_683e];

/// Whether one `syncfs` may stand for many `fsync` there: it is cheaper, and it tells of errors,
/// which it does since Linux 5.8.
pub fn syncs_whole(of: &impl AsFd) -> io::Result<bool> {
    Ok(reports_sync_errors() && SYNC_WHOLE.contains(&kind(of)?))
}

/// Looks at a directory by its path, through symbolic links: the user named it.
pub fn directory_at(path: &Path) -> io::Result<FileMetadata> {
    Ok(seen(&rustix::fs::stat(path)?))
}

/// Whether a directory is the root of what is mounted there: the one that it is in is of another file
/// system.
pub fn is_mount(path: &Path) -> io::Result<bool> {
    Ok(rustix::fs::stat(path)?.st_dev != rustix::fs::stat(path.join(".."))?.st_dev)
}

fn reports_sync_errors() -> bool {
    static TELLS: OnceLock<bool> = OnceLock::new();
    *TELLS.get_or_init(|| {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut numbers = release.split('.').map(|word| word.parse().unwrap_or(0_u32));
        (numbers.next(), numbers.next()) >= (Some(5), Some(8))
    })
}

/// Tells how much the machine has not written to its disks yet. Dropping it closes a handle.
#[derive(Debug)]
pub struct DirtyPages(Option<File>);

impl DirtyPages {
    /// Where the machine does not tell, neither does this.
    #[must_use]
    pub fn open() -> Self {
        Self(File::open("/proc/meminfo").ok())
    }

    /// The bytes of all file systems that are changed in memory or on their way to a disk.
    pub fn bytes(&self) -> Option<u64> {
        let mut text = [0; 4096];
        let count = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
        unwritten(std::str::from_utf8(text.get(..count)?).ok()?)
    }
}

/// The sum of `Dirty` and `Writeback` of `/proc/meminfo`, in bytes.
fn unwritten(meminfo: &str) -> Option<u64> {
    let kib = |name| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    Some((kib("Dirty:")? + kib("Writeback:")?) * 1024)
}

/// What tells one run of the machine from another (`random(4)`); empty where that is not known.
#[must_use]
pub fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Makes everything written to the file system of this handle durable (`syncfs(2)`).
pub fn sync_file_system(handle: &impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(handle)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_unwritten_is_the_sum_of_dirty_and_writeback() {
        let meminfo = "MemFree:  5 kB\nDirty:    12 kB\nWriteback:  3 kB\nWritebackTmp:  9 kB\n";
        assert_eq!(super::unwritten(meminfo), Some(15 * 1024));
        assert_eq!(super::unwritten("Dirty: 12 kB\n"), None);
        assert_eq!(super::unwritten("Dirty: many\nWriteback: 3 kB\n"), None);
    }

    #[test]
    fn this_machine_tells_what_is_unwritten() {
        assert!(super::DirtyPages::open().bytes().is_some());
    }
}
