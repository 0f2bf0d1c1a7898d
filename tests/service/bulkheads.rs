//! A pipeline whose file system does not answer holds up nobody else.

use std::{
    ffi::OsStr,
    fs,
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry,
    Request,
};
use rustix::process::Signal;

use crate::{
    harness::{Service, Tree, until},
    prove,
};

const FILE: u64 = 2;
const SIZE: u64 = 1000;

/// Answers every look at its one file, and no read of it until it is let go.
#[derive(Clone, Default)]
struct Stuck {
    asked: Arc<AtomicBool>,
    released: Arc<(Mutex<bool>, Condvar)>,
}

impl Stuck {
    fn mount(&self, at: &Path) -> std::io::Result<BackgroundSession> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("stuck".to_owned())];
        fuser::spawn_mount(self.clone(), at, &config)
    }

    fn release(&self) {
        *self.released.0.lock().expect("lock") = true;
        self.released.1.notify_all();
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
        if name == "stuck.log" {
            reply.entry(&Duration::ZERO, &attributes(FILE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::ZERO, &attributes(u64::from(inode)));
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if offset == 0 {
            let _full = reply.add(INodeNo(FILE), 1, FileType::RegularFile, "stuck.log");
        }
        reply.ok();
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
        self.asked.store(true, Ordering::Relaxed);
        let released = Arc::clone(&self.released);
        // The session's thread must go on to answer the other pipeline's looks.
        std::thread::spawn(move || {
            let mut is_released = released.0.lock().expect("lock");
            while !*is_released {
                is_released = released.1.wait(is_released).expect("wait");
            }
            reply.data(&[b'x'; 1000]);
        });
    }
}

/// Two pipelines, of which one reads from a file system that does not answer.
fn start(tree: &Tree) -> Service {
    let config = "shutdown_deadline = \"4s\"\nstate_dir = \"state\"\n\
                  [[pipeline]]\nname = \"stuck\"\ninput = \"stuck\"\noutput = \"out-stuck\"\n\
                  [[pipeline]]\nname = \"well\"\ninput = \"in\"\noutput = \"out\"\n";
    fs::write(tree.path("config.toml"), config).expect("configuration");
    Service::from(tree.configured("config.toml").spawn().expect("start"))
}

#[test]
fn a_file_system_that_hangs_holds_up_its_own_pipeline_and_no_other() {
    let mut tree = Tree::new();
    fs::create_dir(tree.path("stuck")).expect("directory");
    fs::create_dir(tree.path("out-stuck")).expect("directory");
    let stuck = Stuck::default();
    let session = match stuck.mount(&tree.path("stuck")) {
        Ok(session) => session,
        Err(error) => {
            let missing = format!("no FUSE: {error}");
            return prove::skipped("a_file_system_that_hangs", &missing);
        }
    };
    let service = start(&tree);
    until("the stuck file is read", || stuck.asked.load(Ordering::Relaxed));
    for number in 0..200 {
        tree.put(&format!("{number}.log"), b"a line\n");
    }
    until("the other pipeline publishes", || tree.files("out").len() == 200);
    let start = Instant::now();
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 75, "the stuck file was begun: {}", tree.log());
    let took = start.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}\n{}", tree.log());
    stuck.release();
    drop(session);
    tree.assert_outputs_whole();
}
