//! A directory that was synced has its names, while other threads rename and sync as well.
//!
//! The scenarios of the service seldom meet the instant that this is about: a rename during another
//! thread's `fsync` on the same file system.

use std::{
    collections::BTreeSet,
    fmt::Display,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tidemill::fs::Dir;

use crate::{
    mounts::own_mounts,
    powerloss::{
        disk::{Op, Pages, Tape},
        known::Mark,
        record::Studio,
        scenario::{Places, Scenario},
        system::{Kind, Mounted},
    },
    prove,
};

/// How often each of two threads renames a file and syncs the directory, for each state that is examined.
const RENAMES_A_STATE: usize = 25;

/// A name that was synced, and how long its sync took.
type Synced = (String, Duration);

/// Writes files, gives each its final name, and syncs the directory.
fn rename_and_sync(
    directory: &Path,
    (thread, count): (usize, usize),
    tape: &Tape<Mark>,
    sync: fn(&Dir) -> io::Result<()>,
) -> Vec<Synced> {
    let dir = Dir::open(directory).expect("the directory");
    let names = (0..count).map(|number| format!("f{thread}-{number}"));
    let synced = names.map(|name| {
        let temp = directory.join(format!(".{name}"));
        let mut file = File::create(&temp).expect("create");
        file.write_all(name.as_bytes()).expect("write");
        file.sync_all().expect("sync");
        fs::rename(&temp, directory.join(&name)).expect("rename");
        let start = Instant::now();
        sync(&dir).expect("the directory's sync");
        let took = start.elapsed();
        tape.mark(Mark::Durable { source: name.clone().into(), version: thread });
        (name, took)
    });
    synced.collect()
}

/// Writes and syncs one file, as a ledger does, until the others are done.
fn sync_a_ledger(path: &Path, is_done: &AtomicBool) {
    let file = File::create(path).expect("create");
    for number in 0.. {
        if is_done.load(Ordering::Acquire) {
            return;
        }
        file.write_all_at(&[7; 4096], number % 64 * 4096).expect("write");
        file.sync_all().expect("sync");
    }
}

/// What was recorded, and the disk that it began from.
struct Recorded {
    base: Pages,
    ops: Vec<Op<Mark>>,
    synced: Vec<Synced>,
}

fn record(studio: &Studio, count: usize, sync: fn(&Dir) -> io::Result<()>, kind: Kind) -> Recorded {
    let scenario = Scenario::plain(kind, "keep");
    let (mut base, synced) = (Pages::default(), Mutex::new(Vec::new()));
    let act = |places: &Places| {
        base = studio.tape.disks().swap_remove(0);
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| sync_a_ledger(&places.state.join("ledger"), &is_done));
            let renaming = [0, 1].map(|thread| {
                let tape = &studio.tape;
                scope.spawn(move || rename_and_sync(&places.output, (thread, count), tape, sync))
            });
            for renaming in renaming {
                synced.lock().expect("no panic").extend(renaming.join().expect("a thread"));
            }
            is_done.store(true, Ordering::Release);
        });
    };
    let ops = studio.record_act(&scenario, |_| (), act, None);
    Recorded { base, ops, synced: synced.into_inner().expect("no panic") }
}

impl Recorded {
    /// The names whose syncs were the fastest, which are the ones that may have done nothing, and some of
    /// the others.
    fn chosen(&self, states: usize) -> BTreeSet<&str> {
        let mut by_time: Vec<_> = self.synced.iter().collect();
        by_time.sort_unstable_by_key(|(_, took)| *took);
        let fastest = by_time.iter().take(states / 2);
        let others = by_time.iter().step_by((by_time.len() / states.max(1)).max(1));
        fastest.chain(others).map(|(name, _)| name.as_str()).collect()
    }

    /// The names that a power loss takes back just after their directory's sync, and how many states were
    /// examined. No write that was not flushed survives.
    fn examine(&self, root: &Path, kind: Kind, states: usize) -> (Vec<String>, usize) {
        let (image, at) = (root.join("names.img"), root.join("disk0"));
        let (mut durable, mut pending) = (self.base.clone(), Vec::new());
        let chosen = self.chosen(states);
        let (mut names, mut lost) = (Vec::new(), Vec::new());
        for op in &self.ops {
            match op {
                Op::Write { disk: 0, offset, data } => pending.push((*offset, data)),
                Op::Flush { disk: 0 } => {
                    for (offset, data) in pending.drain(..) {
                        durable.write(offset, data);
                    }
                }
                Op::Mark(Mark::Durable { source, .. }) => {
                    let name = source.to_str().expect("a name");
                    names.push(name);
                    if !chosen.contains(name) {
                        continue;
                    }
                    durable.store(&image, kind.size()).expect("a disk");
                    let mounted = Mounted::new(kind, &image, &at).expect("mount");
                    let is_lost = |name: &&&str| !at.join("out").join(name).exists();
                    lost.extend(names.iter().filter(is_lost).map(|name| (*name).to_owned()));
                    mounted.end().expect("unmount");
                }
                _ => {}
            }
        }
        (lost, chosen.len())
    }
}

fn synced_names_survive(kind: Kind) {
    let name = format!("names of synced directories on {}", kind.name());
    if let Some(missing) = crate::powerloss::missing(kind) {
        return prove::skipped(&name, &missing);
    }
    let scratch = crate::powerloss::scratch();
    own_mounts().expect("mounts of its own");
    let studio = Studio::new(scratch.path(), kind).expect("the disks' server");
    let states = prove::count(20);
    let count = states * RENAMES_A_STATE;
    let lost_by = |sync| {
        let recorded = record(&studio, count, sync, kind);
        recorded.examine(&studio.root, kind, states)
    };
    let (lost, examined) = lost_by(Dir::sync);
    let (names, violations) = (2 * count, lost.len());
    let mut figures: Vec<(&str, &dyn Display)> = vec![("names", &names), ("states", &examined)];
    // For comparison: what a program gets that only calls `fsync`, as POSIX has it.
    let by_fsync =
        (kind == Kind::Btrfs).then(|| lost_by(|dir| Ok(rustix::fs::fsync(dir)?)).0.len());
    figures.extend(by_fsync.as_ref().map(|lost| ("lost_by_fsync", lost as &dyn Display)));
    figures.push(("violations", &violations));
    prove::report(&name, &figures);
    assert!(lost.is_empty(), "{kind:?}: {lost:?}");
}

#[test]
fn names_of_synced_directories_on_ext4_survive_power_losses() {
    synced_names_survive(Kind::Ext4);
}

#[test]
fn names_of_synced_directories_on_xfs_survive_power_losses() {
    synced_names_survive(Kind::Xfs);
}

#[test]
fn names_of_synced_directories_on_btrfs_survive_power_losses() {
    synced_names_survive(Kind::Btrfs);
}
