//! A file system in memory, served by FUSE, with the oddities of real ones.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};

use crate::prove;

const ROOT: u64 = 1;

/// What is odd about it; nothing by default.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an oddity of its own")]
pub struct Oddities {
    /// `EINVAL` for every flag of a rename, as libfuse 2 and NFS answer.
    pub no_flags: bool,
    pub no_links: bool,
    /// `EINVAL` for a name with a colon, as FAT answers.
    pub no_colons: bool,
    /// Each link and each unlink is done, and answered as the repetition of a call is whose first
    /// answer was lost: `EEXIST` and `ENOENT`.
    pub lost_answers: bool,
    /// `EPERM` for `chmod`, `chown` and `utimes`, as a share that forbids them.
    pub fixed_attributes: bool,
    /// A file has another inode number after each look at its name.
    pub renumbers: bool,
    /// All times are this one, as within one tick of a clock that is coarse.
    pub clock: Option<SystemTime>,
    /// How far its clock is behind the kernel's.
    pub behind: Duration,
    /// How long each call takes.
    pub latency: Duration,
}

#[derive(Clone, Debug)]
struct Node {
    kind: FileType,
    content: Vec<u8>,
    names: BTreeMap<OsString, u64>,
    links: u32,
    mode: u16,
    owner: (u32, u32),
    modified: SystemTime,
    changed: SystemTime,
}

#[derive(Debug, Default)]
struct Tree {
    nodes: HashMap<u64, Node>,
    last: u64,
    /// Further numbers of nodes.
    aliases: HashMap<u64, u64>,
}

/// The server of one mount.
#[derive(Clone, Debug)]
struct Odd {
    tree: Arc<Mutex<Tree>>,
    oddities: Oddities,
}

/// A mounted one. Dropping it unmounts it.
pub struct Mounted {
    tree: Arc<Mutex<Tree>>,
    _session: BackgroundSession,
}

impl Mounted {
    /// Answers nothing for this long, from soon on.
    pub fn hang(&self, time: Duration) -> JoinHandle<()> {
        let tree = Arc::clone(&self.tree);
        std::thread::spawn(move || {
            let _held = tree.lock().unwrap();
            std::thread::park_timeout(time);
        })
    }
}

/// Mounts one at a directory.
pub fn mount(at: &Path, oddities: Oddities) -> Option<Mounted> {
    let odd = Odd { tree: Arc::default(), oddities };
    let root = odd.node(FileType::Directory, 0o755);
    odd.tree().nodes.insert(ROOT, root);
    odd.tree().last = ROOT;
    let tree = Arc::clone(&odd.tree);
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("odd".to_owned()), MountOption::RW];
    match fuser::spawn_mount(odd, at, &config) {
        Ok(session) => Some(Mounted { tree, _session: session }),
        Err(error) => {
            prove::skipped("filesystems", &format!("FUSE cannot mount here: {error}"));
            None
        }
    }
}

impl Odd {
    /// The files, for one call.
    fn tree(&self) -> MutexGuard<'_, Tree> {
        if !self.oddities.latency.is_zero() {
            std::thread::park_timeout(self.oddities.latency);
        }
        self.tree.lock().unwrap()
    }

    fn now(&self) -> SystemTime {
        self.oddities.clock.unwrap_or_else(|| SystemTime::now() - self.oddities.behind)
    }

    fn node(&self, kind: FileType, mode: u32) -> Node {
        Node {
            kind,
            content: Vec::new(),
            names: BTreeMap::new(),
            links: 1,
            mode: u16::try_from(mode & 0o7777).unwrap(),
            owner: (0, 0),
            modified: self.now(),
            changed: self.now(),
        }
    }

    /// Makes a node with its name.
    fn make(&self, parent: INodeNo, name: &OsStr, node: Node) -> FileAttr {
        let mut tree = self.tree();
        tree.last += 1;
        let number = tree.last;
        tree.nodes.insert(number, node);
        tree.names(parent).insert(name.to_owned(), number);
        tree.attributes(number).unwrap()
    }
}

impl Tree {
    fn names(&mut self, of: INodeNo) -> &mut BTreeMap<OsString, u64> {
        &mut self.nodes.get_mut(&u64::from(of)).unwrap().names
    }

    /// The node's own number.
    fn own(&self, number: INodeNo) -> u64 {
        let number = u64::from(number);
        self.aliases.get(&number).copied().unwrap_or(number)
    }

    fn find(&self, parent: INodeNo, name: &OsStr) -> Option<u64> {
        self.nodes.get(&u64::from(parent))?.names.get(name).copied()
    }

    fn unlink(&mut self, parent: INodeNo, name: &OsStr, now: SystemTime) -> Result<(), Errno> {
        let number = self.names(parent).remove(name).ok_or(Errno::ENOENT)?;
        let node = self.nodes.get_mut(&number).unwrap();
        node.links -= 1;
        node.changed = now;
        Ok(())
    }

    fn attributes(&self, number: u64) -> Option<FileAttr> {
        let node = self.nodes.get(&number)?;
        Some(FileAttr {
            ino: INodeNo(number),
            size: node.content.len() as u64,
            blocks: (node.content.len() as u64).div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: node.modified,
            ctime: node.changed,
            crtime: UNIX_EPOCH,
            kind: node.kind,
            perm: node.mode,
            nlink: node.links,
            uid: node.owner.0,
            gid: node.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

fn answer(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Odd {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut tree = self.tree();
        match tree.find(parent, name).and_then(|number| tree.attributes(number)) {
            Some(found) if self.oddities.renumbers && found.kind == FileType::RegularFile => {
                tree.last += 1;
                let (alias, own) = (tree.last, u64::from(found.ino));
                tree.aliases.insert(alias, own);
                let found = FileAttr { ino: INodeNo(alias), ..found };
                reply.entry(&Duration::ZERO, &found, Generation(0));
            }
            Some(found) => reply.entry(&Duration::ZERO, &found, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let tree = self.tree();
        match tree.attributes(tree.own(number)) {
            Some(found) => reply.attr(&Duration::ZERO, &FileAttr { ino: number, ..found }),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        owner: Option<u32>,
        group: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let asked = mode.is_some() || owner.is_some() || group.is_some() || modified.is_some();
        if self.oddities.fixed_attributes && asked && size.is_none() {
            return reply.error(Errno::EPERM);
        }
        let now = self.now();
        let mut tree = self.tree();
        let own = tree.own(number);
        let Some(node) = tree.nodes.get_mut(&own) else {
            return reply.error(Errno::ENOENT);
        };
        node.changed = now;
        if let Some(size) = size {
            node.content.resize(usize::try_from(size).unwrap(), 0);
            node.modified = now;
        }
        if let Some(mode) = mode {
            node.mode = u16::try_from(mode & 0o7777).unwrap();
        }
        node.owner = (owner.unwrap_or(node.owner.0), group.unwrap_or(node.owner.1));
        match modified {
            Some(TimeOrNow::SpecificTime(time)) => node.modified = time,
            Some(TimeOrNow::Now) => node.modified = now,
            None => {}
        }
        let found = tree.attributes(own).unwrap();
        reply.attr(&Duration::ZERO, &FileAttr { ino: number, ..found });
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.make(parent, name, self.node(FileType::Directory, mode & !umask));
        reply.entry(&Duration::ZERO, &made, Generation(0));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.make(parent, name, self.node(FileType::RegularFile, mode & !umask));
        let direct = FopenFlags::FOPEN_DIRECT_IO;
        reply.created(&Duration::ZERO, &made, Generation(0), FileHandle(0), direct);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut done = self.tree().unlink(parent, name, self.now());
        if self.oddities.lost_answers && done.is_ok() {
            done = Err(Errno::ENOENT);
        }
        answer(done, reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut tree = self.tree();
        let is_empty = |number: u64| tree.nodes.get(&number).is_none_or(|it| it.names.is_empty());
        if !tree.find(parent, name).is_none_or(is_empty) {
            return reply.error(Errno::ENOTEMPTY);
        }
        answer(tree.unlink(parent, name, self.now()), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let is_refused = self.oddities.no_colons && new.as_encoded_bytes().contains(&b':');
        if is_refused || self.oddities.no_flags && !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let mut tree = self.tree();
        if flags.contains(RenameFlags::RENAME_NOREPLACE) && tree.find(to, new).is_some() {
            return reply.error(Errno::EEXIST);
        }
        let Some(number) = tree.names(parent).remove(name) else {
            return reply.error(Errno::ENOENT);
        };
        // Nobody has the name, or it is replaced.
        tree.unlink(to, new, self.now()).ok();
        tree.names(to).insert(new.to_owned(), number);
        tree.nodes.get_mut(&number).unwrap().changed = self.now();
        reply.ok();
    }

    fn link(&self, _: &Request, of: INodeNo, to: INodeNo, new: &OsStr, reply: ReplyEntry) {
        if self.oddities.no_links {
            return reply.error(Errno::EPERM);
        }
        let now = self.now();
        let mut tree = self.tree();
        let number = tree.own(of);
        if tree.find(to, new).is_some() {
            return reply.error(Errno::EEXIST);
        }
        tree.names(to).insert(new.to_owned(), number);
        let node = tree.nodes.get_mut(&number).unwrap();
        (node.links, node.changed) = (node.links + 1, now);
        if self.oddities.lost_answers {
            return reply.error(Errno::EEXIST);
        }
        reply.entry(&Duration::ZERO, &tree.attributes(number).unwrap(), Generation(0));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let tree = self.tree();
        let content = &tree.nodes[&tree.own(number)].content;
        let from = usize::try_from(offset).unwrap().min(content.len());
        let to = (from + size as usize).min(content.len());
        reply.data(&content[from..to]);
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let (now, from) = (self.now(), usize::try_from(offset).unwrap());
        let mut tree = self.tree();
        let own = tree.own(number);
        let node = tree.nodes.get_mut(&own).unwrap();
        let end = from + data.len();
        node.content.resize(node.content.len().max(end), 0);
        node.content[from..end].copy_from_slice(data);
        (node.modified, node.changed) = (now, now);
        reply.written(u32::try_from(data.len()).unwrap());
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let tree = self.tree();
        let names = tree.nodes[&u64::from(number)].names.iter();
        for (index, (name, number)) in (1_u64..).zip(names).skip(usize::try_from(offset).unwrap()) {
            let kind = tree.nodes[number].kind;
            if reply.add(INodeNo(*number), index, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
