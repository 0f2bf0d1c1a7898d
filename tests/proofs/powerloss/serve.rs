//! The disks as files of a file system in user space: the kernel's block layer writes to them.

use std::{
    ffi::OsStr,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

use crate::powerloss::disk::Tape;

/// How many disks there are at most.
pub const DISKS: u64 = 2;
const FIRST_DISK: u64 = 2;
const EVENTS: u64 = FIRST_DISK + DISKS;

struct Server<M> {
    tape: Tape<M>,
    /// In bytes, of each disk.
    size: u64,
}

/// Serves the disks at a directory, until what this gives is dropped.
pub fn serve<M: Send + 'static>(
    tape: &Tape<M>,
    size: u64,
    at: &Path,
) -> std::io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("tape".to_owned()), MountOption::RW];
    fuser::spawn_mount(Server { tape: tape.clone(), size }, at, &config)
}

enum Node {
    Root,
    Disk(usize),
    Events,
}

impl<M> Server<M> {
    fn node(inode: INodeNo) -> Option<Node> {
        match u64::from(inode) {
            1 => Some(Node::Root),
            EVENTS => Some(Node::Events),
            disk => usize::try_from(disk.checked_sub(FIRST_DISK)?).ok().map(Node::Disk),
        }
    }

    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, size) = match Self::node(inode)? {
            Node::Root => (FileType::Directory, 0),
            Node::Disk(_) => (FileType::RegularFile, self.size),
            Node::Events => (FileType::RegularFile, self.tape.events().len() as u64),
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl<M: Send + 'static> Filesystem for Server<M> {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let inode = match name.to_str() {
            Some("disk0") => FIRST_DISK,
            Some("disk1") => FIRST_DISK + 1,
            Some("events") => EVENTS,
            _ => return reply.error(Errno::ENOENT),
        };
        match self.attributes(INodeNo(inode)) {
            Some(attributes) => reply.entry(&Duration::ZERO, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&Duration::ZERO, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<fuser::TimeOrNow>,
        _mtime: Option<fuser::TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if let (Some(Node::Events), Some(size)) = (Self::node(inode), size) {
            self.tape.cut_events(usize::try_from(size).unwrap_or(0));
        }
        self.getattr_reply(inode, reply);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Past the page cache: a write is here before it is answered.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut buffer = vec![0; size as usize];
        match Self::node(inode) {
            Some(Node::Disk(disk)) => {
                self.tape.read_disk(disk, offset, &mut buffer);
                reply.data(&buffer);
            }
            Some(Node::Events) => {
                let events = self.tape.events();
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(events.len());
                let to = (from + buffer.len()).min(events.len());
                reply.data(&events[from..to]);
            }
            _ => reply.error(Errno::EISDIR),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match Self::node(inode) {
            Some(Node::Disk(disk)) => self.tape.write_disk(disk, offset, data),
            Some(Node::Events) => self.tape.write_events(offset, data),
            _ => return reply.error(Errno::EISDIR),
        }
        reply.written(u32::try_from(data.len()).unwrap_or(0));
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match Self::node(inode) {
            Some(Node::Disk(disk)) => self.tape.flush_disk(disk),
            Some(Node::Events) => self.tape.sync_events(),
            _ => {}
        }
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // A close; nothing becomes durable by it.
        reply.ok();
    }
}

impl<M: Send + 'static> Server<M> {
    fn getattr_reply(&self, inode: INodeNo, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&Duration::ZERO, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }
}
