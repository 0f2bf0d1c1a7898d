//! A disk that fails single writes: a real ext4, xfs or btrfs on a device that answers some of the kernel's writes of
//! content with an I/O error.
//!
//! The kernel reports it once to each process that has the file open; one that opens it after that gets no
//! error. The kernel goes on to show the content from memory, which is not on the disk: so what is acknowledged is judged by a new mount.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use rusqlite::Connection;
use rustix::process::Signal;
use tidemill::ledger::{HistoryQuery, Ledger, Record, State, sqlite::Sqlite};

use crate::{
    harness::{LINKS, Service, Tree, wait_for},
    prove::{self, Random},
};

const KINDS: [&str; 3] = ["ext4", "xfs", "btrfs"];
const DEVICE: &str = "a device that fails";
const MISSING: &str = "no FUSE, loop device or mkfs";
const DISK: u64 = 2;
const BYTES: u64 = 320 << 20;
const BLOCK: usize = 4096;
/// How the content of every source begins, and each block of it.
const CONTENT: &[u8] = b"content ";
/// How the events file begins.
const LINE: &[u8] = b"{\"time\":";

/// One file, the disk; of the next writes with such a block this many fail.
struct Server {
    image: File,
    failing: Arc<AtomicUsize>,
    fails: fn(&[u8]) -> bool,
}

fn attributes(inode: INodeNo) -> FileAttr {
    let (kind, size) = if u64::from(inode) == DISK {
        (FileType::RegularFile, BYTES)
    } else {
        (FileType::Directory, 0)
    };
    FileAttr {
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
    }
}

impl Filesystem for Server {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == "disk" {
            reply.entry(&Duration::ZERO, &attributes(INodeNo(DISK)), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&Duration::ZERO, &attributes(inode));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Past the page cache: what fails is the device's write, not a later one.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut buffer = vec![0; size as usize];
        match self.image.read_at(&mut buffer, offset) {
            Ok(count) => reply.data(&buffer[..count]),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let fails = data.chunks(BLOCK).any(self.fails)
            && self
                .failing
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok();
        match self.image.write_all_at(data, offset) {
            Ok(()) if !fails => reply.written(u32::try_from(data.len()).unwrap_or(0)),
            // A failed write may have done anything: here it leaves rubbish.
            _ => {
                drop(self.image.write_all_at(&vec![0xee; data.len()], offset));
                reply.error(Errno::EIO);
            }
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}

/// The file system on the device. Dropping it unmounts it, then the device's.
struct Device {
    at: PathBuf,
    served: PathBuf,
    failing: Arc<AtomicUsize>,
    _session: BackgroundSession,
}

impl Drop for Device {
    fn drop(&mut self) {
        if !wait_for(|| run("umount", &[&self.at])) {
            run("umount", &["-l".as_ref(), &self.at]);
        }
        // The loop device of a failed test may hold it still.
        run("umount", &["-l".as_ref(), &self.served]);
    }
}

fn run(program: &str, args: &[&Path]) -> bool {
    Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
}

fn mounted(device: &Path, options: &str, at: &Path) -> bool {
    run("mount", &["-o".as_ref(), options.as_ref(), device, at])
}

/// Makes it, of this kind, and mounts it at this directory. Writes with such blocks can fail.
fn device(tree: &Tree, kind: &str, at: &str, fails: fn(&[u8]) -> bool) -> Option<Device> {
    let (image, served, at) = (tree.path("image"), tree.path("served"), tree.path(at));
    let file = File::options().read(true).write(true).create_new(true).open(&image).ok()?;
    file.set_len(BYTES).ok()?;
    fs::create_dir(&served).ok()?;
    run(&format!("mkfs.{kind}"), &["-q".as_ref(), &image]).then_some(())?;
    let failing = Arc::new(AtomicUsize::new(0));
    let server = Server { image: file, failing: Arc::clone(&failing), fails };
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("device".to_owned()), MountOption::RW];
    let session = fuser::spawn_mount(server, &served, &config).ok()?;
    mounted(&served.join("disk"), "loop", &at).then_some(Device {
        at,
        served,
        failing,
        _session: session,
    })
}

#[derive(Clone, Copy, Debug)]
struct Case {
    kind: &'static str,
    /// The directory on the device: the output, or the archive, to which the sources are copied then.
    at: &'static str,
    links: bool,
    files: usize,
    failing: usize,
    /// The kernel writes everything before the service does.
    is_flushed: bool,
    durability: &'static str,
    failpoints: &'static str,
}

impl Case {
    fn of(kind: &'static str, durability: &'static str) -> Self {
        let (at, links, failpoints) = ("out", false, "");
        Self { kind, at, links, files: 40, failing: 1, is_flushed: false, durability, failpoints }
    }

    fn random(random: &mut Random) -> Self {
        let mut one_of = |count| usize::try_from(random.below(count)).expect("a small number");
        let (at, links) = (["out", "out", "archive"][one_of(3)], one_of(2) == 0);
        let case = Self::of(KINDS[one_of(3)], ["fsync", "syncfs"][one_of(2)]);
        let files = [1, 2, 3, 17, 40][one_of(5)];
        let failing = 1 + one_of(6);
        Self { at, links, files, failing, is_flushed: one_of(2) == 0, ..case }
    }
}

/// The acknowledged outputs, or the archived sources, that have not their content on the disk; none where this cannot be tried here.
fn lost(case: Case) -> Option<Vec<PathBuf>> {
    let mut tree = Tree::new();
    let Some(disk) = device(&tree, case.kind, case.at, |block| block.starts_with(CONTENT)) else {
        prove::skipped(DEVICE, MISSING);
        return None;
    };
    for number in 0..case.files {
        let blocks = if number % 8 == 7 { 300 } else { 1 };
        let block = format!("content {number:08} ").repeat(BLOCK / 17 + 1);
        tree.put(&format!("{number}.bin"), &block.as_bytes()[..BLOCK].repeat(blocks));
    }
    let (gate, state) = (tree.path("gate"), tree.path("state"));
    fs::write(&gate, "").expect("gate");
    let args = ["--state-dir", state.to_str().expect("UTF-8"), "--transform", "copy"];
    let more = ["--settle", "0s", "--durability", case.durability];
    // Also those that the kernel's own flusher writes.
    disk.failing.store(case.failing, Ordering::Relaxed);
    let links = if case.links { LINKS } else { "" };
    let failpoints =
        format!("{links};commit::sync=return(while:{});{}", gate.display(), case.failpoints);
    let on_success = if case.at == "archive" { "archive" } else { "delete" };
    let service = tree.start_with(&failpoints, on_success, &[args, more].concat());
    let temp = |path: &PathBuf| path.to_string_lossy().ends_with(".tmp");
    let staged = || tree.files("out").iter().filter(|path| temp(path)).count();
    // A large output may be durable before the gate, and passes it.
    let begun = || staged() + tree.acknowledged().len();
    let is_staged = || begun() >= case.files || tree.log().contains("storage unavailable");
    assert!(wait_for(is_staged), "{case:?}: {}\n{}", staged(), tree.log());
    if case.is_flushed {
        run("sync", &["-f".as_ref(), &disk.at]);
    }
    #[expect(clippy::disallowed_methods, reason = "the gate of a failpoint")]
    fs::remove_file(&gate).expect("gate");
    // The disk is well again after that, and what failed is tried again.
    let is_done = || tree.acknowledged().len() == case.files && tree.files("in").is_empty();
    assert!(wait_for(is_done), "{case:?}: {:?}\n{}", tree.files("in"), tree.log());
    service.signal(Signal::TERM);
    let code = service.wait();
    let failed = case.failing - disk.failing.load(Ordering::Relaxed);
    assert!(failed > 0, "{case:?}: no write failed\n{}", tree.log());
    assert_eq!(code, 0, "{case:?}\n{}", tree.log());
    drop(disk);
    // Writable: a journal that the failed writes left open is replayed, as on a real start.
    let again = tree.path("again");
    fs::create_dir(&again).expect("directory");
    assert!(mounted(&tree.path("image"), "loop", &again), "a new mount");
    let is_lost = |(path, content): &(&PathBuf, &Vec<u8>)| {
        fs::read(again.join(path)).ok().as_ref() != Some(*content)
    };
    let lost: Vec<_> = tree.contents.iter().filter(is_lost).map(|(path, _)| path.clone()).collect();
    run("umount", &[&again]);
    assert!(tree.acknowledged().values().all(|lines| *lines == 1), "{case:?}: acknowledged once");
    Some(lost)
}

#[test]
fn what_a_device_failed_to_write_is_not_acknowledged() {
    for kind in KINDS {
        for durability in ["fsync", "syncfs"] {
            for is_flushed in [false, true] {
                for (files, failing) in [(1, 1), (2, 1), (40, 1), (40, 5)] {
                    let case = Case::of(kind, durability);
                    let case = Case { files, failing, is_flushed, ..case };
                    let Some(lost) = lost(case) else { return };
                    assert!(lost.is_empty(), "{case:?}: {lost:?}");
                }
            }
        }
    }
}

#[test]
fn what_a_device_failed_to_write_of_a_link_or_of_the_archive_is_not_lost() {
    for kind in KINDS {
        for (at, links) in [("out", true), ("archive", false), ("archive", true)] {
            let case = Case { at, links, failing: 2, ..Case::of(kind, "fsync") };
            let Some(lost) = lost(case) else { return };
            assert!(lost.is_empty(), "{case:?}: {lost:?}");
        }
    }
}

#[test]
fn nothing_is_lost_on_devices_that_fail_at_random() {
    let (mut random, runs) = (Random::new(prove::seed()), prove::count(6));
    for _ in 0..runs {
        let case = Case::random(&mut random);
        let Some(lost) = lost(case) else { return };
        assert!(lost.is_empty(), "{case:?}: {lost:?}");
    }
    prove::report("devices that fail writes", &[("runs", &runs), ("lost", &0)]);
}

/// The mutant: without the sync of each output nobody hears of the error.
#[test]
fn an_output_that_is_not_synced_is_lost_where_the_device_failed() {
    let failpoints = "barrier::temp=return(out)";
    let case = Case { failing: 5, is_flushed: true, failpoints, ..Case::of("ext4", "fsync") };
    if let Some(lost) = lost(case) {
        assert!(!lost.is_empty(), "the device lost nothing");
    }
}

/// The mutant: nor does anybody where the error of the sync for many outputs counts for none of them.
#[test]
fn an_error_of_a_sync_for_many_outputs_is_each_ones() {
    let failpoints = "barrier::group_result=return(out)";
    for is_flushed in [false, true] {
        let case = Case { failing: 5, is_flushed, ..Case::of("ext4", "syncfs") };
        let Some(whole) = lost(case) else { return };
        assert!(whole.is_empty(), "{whole:?}");
        let lost = lost(Case { failpoints, ..case }).expect("as before");
        assert!(!lost.is_empty(), "the device lost nothing");
    }
}

const EVENTS_ON_THE_DEVICE: &str = "state_dir = \"state\"\nevents = \"device/events\"\n\
    [[pipeline]]\ninput = \"in\"\noutput = \"out\"\non_success = \"delete\"\n";

/// How many lines are on the disk after a run that failed to sync the only one, and another run with these
/// failpoints.
fn lines_on_the_disk(kind: &str, failpoints: &str) -> Option<usize> {
    let mut tree = Tree::new();
    fs::create_dir(tree.path("device")).expect("directory");
    let Some(disk) = device(&tree, kind, "device", |block| block.starts_with(LINE)) else {
        prove::skipped(DEVICE, MISSING);
        return None;
    };
    tree.put("a", b"a source");
    fs::write(tree.path("config.toml"), EVENTS_ON_THE_DEVICE).expect("configuration");
    // More than btrfs keeps with its own data; the next line begins a block.
    let others = ["#".repeat(2 * BLOCK - 1), "\n".to_owned()].concat();
    let events = tree.path("device/events");
    fs::write(&events, others).and_then(|()| File::open(&events)?.sync_all()).expect("events");
    let once = |failpoints: &str| {
        let mut command = tree.configured("config.toml");
        let child = command.arg("--once").env("FAILPOINTS", failpoints).spawn().expect("start");
        Service::from(child).wait()
    };
    disk.failing.store(1, Ordering::Relaxed);
    let code = once("");
    assert_eq!((code, disk.failing.load(Ordering::Relaxed)), (74, 0), "{kind}\n{}", tree.log());
    let shown = fs::read(&events).expect("events");
    assert_eq!(lines(&shown), 1, "{kind}: the kernel shows what it did not write");
    assert_eq!(once(failpoints), 0, "{kind}\n{}", tree.log());
    drop(disk);
    let again = tree.path("again");
    fs::create_dir(&again).expect("directory");
    assert!(mounted(&tree.path("image"), "loop", &again), "a new mount");
    let events = fs::read(again.join("events")).expect("events");
    run("umount", &[&again]);
    Some(lines(&events))
}

fn lines(events: &[u8]) -> usize {
    events.split(|byte| *byte == b'\n').filter(|line| line.starts_with(LINE)).count()
}

/// And its mutant: recovery finds the line in memory, and takes it for the acknowledgement.
#[test]
fn a_line_whose_sync_failed_is_written_again_before_it_counts() {
    for kind in KINDS {
        let Some(lines) = lines_on_the_disk(kind, "") else { return };
        assert_eq!(lines, 1, "{kind}");
        let lines = lines_on_the_disk(kind, "barrier::rewritten_lines=return(out)");
        assert_eq!(lines, Some(0), "{kind}: the mutant is not seen");
    }
}

/// The name of the source whose records the device fails to write: some of it is in each block of them.
const NAME: &str = "unwritten unwritten unwritten unwritten unwritten unwritten";

fn has_name(block: &[u8]) -> bool {
    block.windows(NAME.len() / 3).any(|part| NAME.as_bytes().starts_with(part))
}

/// As the page of a table begins in the database; in the log, pages are not aligned.
const TABLE: u8 = 0x0d;

/// The write of the ledger that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failing {
    /// Of a commit, at its own sync.
    Commit,
    /// Of a state update, by the kernel's flusher, before the service is killed.
    Update,
    /// Of the database, by the last checkpoint.
    Checkpoint,
    /// Of the database, by the start after a kill.
    Repair,
}

impl Failing {
    const fn is_of_the_database(self) -> bool {
        matches!(self, Self::Checkpoint | Self::Repair)
    }
}

/// The service with its ledger on the device.
fn on_the_device(tree: &Tree, failpoints: &str, more: &[&str]) -> Service {
    let args = ["--state-dir", "device/state", "--settle", "0s"];
    tree.start_with(failpoints, "keep", &[&args, more].concat())
}

/// Waits until everything is acknowledged, and every record is marked.
fn wait_for_marks(tree: &Tree) {
    let is_marked = || {
        let ledger = Sqlite::open_read_only(&tree.path("device/state/ledger.sqlite"));
        let records = ledger.and_then(|ledger| ledger.history(&HistoryQuery::default()));
        let is_done =
            |records: Vec<Record>| records.iter().all(|record| record.state == State::Done);
        tree.acknowledged().len() == tree.contents.len() && records.is_ok_and(is_done)
    };
    assert!(wait_for(is_marked), "{:?}\n{}", tree.acknowledged(), tree.log());
}

/// Ends with the write failed, in memory only, and reported to another program.
fn fail_a_write(tree: &mut Tree, disk: &Device, failing: Failing) {
    let flush = || run("sync", &["-f".as_ref(), &disk.at]);
    let arm = || disk.failing.store(1, Ordering::Relaxed);
    let code = if failing == Failing::Commit {
        tree.put("first", b"a source");
        assert_eq!(on_the_device(tree, "", &["--once"]).wait(), 0, "{}", tree.log());
        tree.put(NAME, b"a source");
        arm();
        on_the_device(tree, "", &["--once"]).wait()
    } else {
        tree.put(NAME, b"a source");
        let service = on_the_device(tree, "barrier::idle_flush=return(out)", &[]);
        wait_for_marks(tree);
        let end = |service: Service, signal| {
            service.signal(signal);
            service.wait()
        };
        if failing == Failing::Update {
            arm();
            flush();
            end(service, Signal::KILL)
        } else if failing == Failing::Checkpoint {
            flush();
            arm();
            end(service, Signal::TERM)
        } else {
            flush();
            end(service, Signal::KILL);
            arm();
            on_the_device(tree, "", &["--once"]).wait()
        }
    };
    let expected = if failing == Failing::Update { -9 } else { 74 };
    let left = disk.failing.load(Ordering::Relaxed);
    assert_eq!((code, left), (expected, 0), "{failing:?}\n{}", tree.log());
    // Each file: one write can be of several.
    for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let file = File::open(tree.path("device/state").join(name)).expect("open");
        // Whether it still has an error to report depends on the file system.
        file.sync_all().ok();
    }
}

/// What a power loss leaves of a ledger whose write failed, and which the next start, with these failpoints,
/// continued, while another program reads the ledger or not: the exit code of the start after that, and what
/// this published again.
fn after_power_loss(
    kind: &str,
    (failing, is_read): (Failing, bool),
    failpoints: &str,
) -> Option<(i32, Vec<PathBuf>)> {
    let mut tree = Tree::new();
    fs::create_dir(tree.path("device")).expect("directory");
    let fails: fn(&[u8]) -> bool = if failing.is_of_the_database() {
        |block| block.first() == Some(&TABLE) && has_name(block)
    } else {
        has_name
    };
    let Some(disk) = device(&tree, kind, "device", fails) else {
        prove::skipped(DEVICE, MISSING);
        return None;
    };
    fail_a_write(&mut tree, &disk, failing);
    let reader = is_read.then(|| {
        // One that could write would make a checkpoint at its end.
        let path = tree.path("device/state/ledger.sqlite");
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let reader = Connection::open_with_flags(path, flags).expect("open");
        reader.execute_batch("BEGIN; SELECT count(*) FROM records").expect("read");
        reader
    });
    for number in 0..5 {
        tree.put(&format!("later {number}"), b"a source");
    }
    if failing.is_of_the_database() {
        assert_eq!(on_the_device(&tree, failpoints, &["--once"]).wait(), 0, "{}", tree.log());
    } else {
        let service = on_the_device(&tree, failpoints, &[]);
        wait_for_marks(&tree);
        service.signal(Signal::KILL);
        service.wait();
    }
    drop(reader);
    // Everything was acknowledged, and its consumer took it.
    tree.assert_done("keep");
    for path in tree.files("out") {
        #[expect(clippy::disallowed_methods, reason = "as a consumer")]
        fs::remove_file(tree.path("out").join(path)).expect("take");
    }
    let at = disk.at.clone();
    drop(disk);
    assert!(mounted(&tree.path("image"), "loop", &at), "a new mount");
    let code = on_the_device(&tree, "", &["--once"]).wait();
    run("umount", &[&at]);
    Some((code, tree.files("out")))
}

/// And its mutants: the next start finds what was not written in memory, and appends to it.
#[test]
fn what_was_not_written_of_the_ledger_is_written_before_more_is() {
    for kind in KINDS {
        for failing in [Failing::Commit, Failing::Update, Failing::Checkpoint, Failing::Repair] {
            let sound = (0, Vec::new());
            for is_read in [false, true] {
                let Some(after) = after_power_loss(kind, (failing, is_read), "") else { return };
                assert_eq!(after, sound, "{kind} {failing:?} {is_read}");
            }
            let failpoints = "barrier::rewritten_ledger=return(out)";
            let mutant = after_power_loss(kind, (failing, false), failpoints);
            // Only ext4 does not allocate again what it failed to write.
            let is_seen = !failing.is_of_the_database() || kind == "ext4";
            assert_eq!(mutant != Some(sound), is_seen, "{kind} {failing:?}: {mutant:?}");
        }
    }
}
