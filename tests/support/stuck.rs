//! A file system that does not answer.

use std::{
    ffi::OsStr,
    fs,
    ops::Deref,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEntry, Request,
};
use rustix::mount::{UnmountFlags, unmount};

use crate::{harness::Tree, prove};

const FILE: u64 = 2;
const SIZE: u64 = 1000;

/// Answers every look at its one file, and no read of it, nor a new file, until it is let go; or
/// answers nothing at all until then; or answers every look with an error.
#[derive(Clone, Default)]
pub struct Stuck {
    pub is_dead: Arc<AtomicBool>,
    pub is_broken: Arc<AtomicBool>,
    pub asked: Arc<AtomicBool>,
    released: Arc<(Mutex<bool>, Condvar)>,
}

impl Stuck {
    pub fn mounted(tree: &Tree, test: &str, is_dead: bool) -> Option<Mounted> {
        Self::mounted_at(tree.path("stuck"), test, is_dead)
    }

    pub fn mounted_at(at: PathBuf, test: &str, is_dead: bool) -> Option<Mounted> {
        fs::create_dir_all(&at).expect("directory");
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("stuck".to_owned())];
        let stuck = Self { is_dead: Arc::new(is_dead.into()), ..Self::default() };
        match fuser::spawn_mount(stuck.clone(), &at, &config) {
            Ok(session) => Some(Mounted { stuck, at, _session: session }),
            Err(error) => {
                prove::skipped(test, &format!("no FUSE: {error}"));
                None
            }
        }
    }

    /// Answers a look: at once, unless nothing is answered.
    fn looked(&self, answer: impl FnOnce() + Send + 'static) {
        if self.is_dead.load(Ordering::Relaxed) { self.later(answer) } else { answer() }
    }

    /// Answers when it is let go.
    fn later(&self, answer: impl FnOnce() + Send + 'static) {
        self.asked.store(true, Ordering::Relaxed);
        let released = Arc::clone(&self.released);
        // The session's thread must go on to answer the other pipeline's looks.
        std::thread::spawn(move || {
            let mut is_released = released.0.lock().expect("lock");
            while !*is_released {
                is_released = released.1.wait(is_released).expect("wait");
            }
            answer();
        });
    }

    pub fn release(&self) {
        *self.released.0.lock().expect("lock") = true;
        self.released.1.notify_all();
    }

    /// Answers nothing again.
    pub fn hold(&self) {
        *self.released.0.lock().expect("lock") = false;
    }
}

/// Dropping it lets go what hangs, and then unmounts, also where the service has it open still.
pub struct Mounted {
    stuck: Stuck,
    at: PathBuf,
    _session: BackgroundSession,
}

impl Deref for Mounted {
    type Target = Stuck;

    fn deref(&self) -> &Stuck {
        &self.stuck
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.release();
        unmount(&self.at, UnmountFlags::DETACH).expect("unmount");
    }
}

fn attributes(inode: u64) -> FileAttr {
    let (kind, size) =
        if inode == FILE { (FileType::RegularFile, SIZE) } else { (FileType::Directory, 0) };
    FileAttr {
        ino: INodeNo(inode),
        size,
        blocks: 2,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: 0o755,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Filesystem for Stuck {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if self.is_broken.load(Ordering::Relaxed) {
            return reply.error(Errno::EIO);
        }
        let is_there = name == "stuck.log";
        self.looked(move || {
            if is_there {
                reply.entry(&Duration::ZERO, &attributes(FILE), Generation(0));
            } else {
                reply.error(Errno::ENOENT);
            }
        });
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if self.is_broken.load(Ordering::Relaxed) {
            return reply.error(Errno::EIO);
        }
        let attributes = attributes(u64::from(inode));
        self.looked(move || reply.attr(&Duration::ZERO, &attributes));
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.looked(move || {
            if offset == 0 {
                let _full = reply.add(INodeNo(FILE), 1, FileType::RegularFile, "stuck.log");
            }
            reply.ok();
        });
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.later(move || reply.data(&[b'x'; 1000]));
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        self.later(move || reply.error(Errno::ENOSPC));
    }
}
