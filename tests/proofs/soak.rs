//! A long run under mixed load: what the service holds stays flat.
//!
//! `PROVE_COUNT` is how many seconds it lasts; the short form is there so that the test itself is
//! tested.

#![cfg(feature = "failpoints")]
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by a panic")]
#![expect(clippy::disallowed_methods, reason = "the test is the consumer")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::harness::{self, Tree, until};
use crate::prove::{self, Random};
use rustix::process::Signal;

/// Until then the caches fill: those of SQLite, of open directories, of the allocator.
const STEADY: Duration = Duration::from_mins(5);
/// What the README promises for files of any size, however long it runs.
const MEMORY_MOST_KIB: u64 = 64 * 1024;
/// Files that are waited for before more are put.
const WAVE: u64 = 40;

/// Looks that are enough to compare.
const LOOKS: usize = 10;
/// Between two waves.
const PACE: Duration = Duration::from_millis(50);

/// What the process holds at one time.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    memory_kib: u64,
    threads: u64,
    descriptors: u64,
    ledger_kib: u64,
    published: u64,
}

fn held(pid: u32, tree: &Tree, published: u64) -> Held {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let number = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line");
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
    };
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").count();
    let state = tree.path("out/.tidemill");
    let size = |name: &str| fs::metadata(state.join(name)).map_or(0, |file| file.len() / 1024);
    Held {
        memory_kib: number("VmRSS:"),
        threads: number("Threads:"),
        descriptors: descriptors as u64,
        ledger_kib: size("ledger.sqlite") + size("ledger.sqlite-wal"),
        published,
    }
}

/// Small files, now and then one that streams, in changing directories.
fn wave(tree: &Tree, number: u64, random: &mut Random) -> u64 {
    for file in 0..WAVE {
        let dir = tree.path("in").join(format!("d{}", number % 20));
        fs::create_dir_all(&dir).expect("directory");
        let lines = if random.below(60) == 0 { 40_000 } else { random.below(400) };
        let line = format!("{number} {file} {:x}\n", random.below(1 << 40));
        let lines = usize::try_from(lines).expect("small");
        fs::write(dir.join(format!("{number}-{file}.log")), line.repeat(lines)).expect("write");
    }
    WAVE
}

/// The outputs that are there; a consumer takes them.
fn take(root: &Path) -> u64 {
    let mut taken = 0;
    for dir in fs::read_dir(root).expect("list").map(|entry| entry.expect("entry").path()) {
        // Its state, and what the start tries the file system with.
        if dir.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".tidemill")) {
            continue;
        }
        for file in fs::read_dir(dir).expect("list").map(|entry| entry.expect("entry").path()) {
            if file.extension().is_some_and(|extension| extension == "zst") {
                fs::remove_file(file).expect("take");
                taken += 1;
            }
        }
    }
    taken
}

fn median(held: &[Held], of: fn(&Held) -> u64) -> u64 {
    let mut numbers: Vec<u64> = held.iter().map(of).collect();
    numbers.sort_unstable();
    numbers[numbers.len() / 2]
}

#[test]
fn what_the_service_holds_stays_flat() {
    let lasts = Duration::from_secs(prove::count(8) as u64);
    let tree = Tree::new();
    let mut random = Random::new(prove::seed());
    let mut command = tree.command("delete", &[]);
    // A line for each file would fill the disk.
    let child = command.env("RUST_LOG", "warn").stderr(std::process::Stdio::null()).spawn();
    let service = harness::Service::from(child.expect("start"));
    let (begun, mut seen, mut published, mut number) = (Instant::now(), Vec::new(), 0, 0);
    while begun.elapsed() < lasts || seen.len() < LOOKS {
        let mut expected = wave(&tree, number, &mut random);
        published += expected;
        number += 1;
        until("the wave is published", || {
            expected -= take(&tree.path("out")).min(expected);
            expected == 0
        });
        // The load is meant to last, not to be as much as can be.
        std::thread::park_timeout(PACE);
        if number % 8 == 0 {
            seen.push(held(service.pid(), &tree, published));
        }
    }
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0);
    assert_eq!(tree.files("in"), [] as [std::path::PathBuf; 0]);
    tree.assert_no_leftovers();
    judge(&seen, lasts);
}

fn judge(seen: &[Held], lasts: Duration) {
    // The first tenth warms up.
    let seen = &seen[seen.len() / 10..];
    let (early, late) = (&seen[..seen.len() / 3], &seen[seen.len() * 2 / 3..]);
    let at = |of: fn(&Held) -> u64| (median(early, of), median(late, of));
    let (memory, threads) = (at(|held| held.memory_kib), at(|held| held.threads));
    let descriptors = at(|held| held.descriptors);
    let last = seen[seen.len() - 1];
    let per_file = last.ledger_kib * 1024 / last.published.max(1);
    let course: Vec<String> = seen
        .chunks(seen.len().div_ceil(12))
        .map(|part| median(part, |held| held.memory_kib / 1024).to_string())
        .collect();
    let show = |(early, late): (u64, u64)| format!("{early}->{late}");
    prove::report(
        "soak",
        &[
            ("seconds", &lasts.as_secs()),
            ("files", &last.published),
            ("memory_kib", &show(memory)),
            ("memory_mib", &course.join(",")),
            ("threads", &show(threads)),
            ("descriptors", &show(descriptors)),
            ("ledger_bytes_a_file", &per_file),
        ],
    );
    assert!(last.memory_kib <= MEMORY_MOST_KIB, "memory: {} KiB", last.memory_kib);
    if lasts < STEADY {
        return;
    }
    assert!(threads.1 <= threads.0, "threads: {threads:?}");
    assert!(memory.1 <= memory.0 + memory.0 / 10 + 2048, "memory grows: {memory:?} KiB");
    assert!(descriptors.1 <= descriptors.0 + 2, "descriptors: {descriptors:?}");
}
