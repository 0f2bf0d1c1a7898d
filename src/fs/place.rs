//! What is true of a whole file system.

use std::{io, os::fd::AsFd};

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
    let kind = rustix::fs::fstatfs(dir)?.f_type;
    #[expect(clippy::cast_sign_loss, reason = "a magic number of at most 32 bits")]
    let kind = (kind as u64) & 0xffff_ffff;
    Ok(NETWORK.contains(&kind) || kind == SMB2)
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
