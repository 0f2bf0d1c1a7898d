//! The cost model of benches/README.md: what one small file more costs in system calls and
//! flushes. Two runs over different counts of files are counted, so that start and stop drop out.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use crate::prove;

/// Files of the two runs, a multiple of the largest group commit apart.
const FEW: u32 = 128;
const MANY: u32 = 640;
/// Files that one `syncfs` makes durable, at most.
const BATCH: u32 = 256;

/// The most calls for each file, by name.
///
/// What depends on the file alone is exact, and has a hundredth of room for the directories and
/// for what a batch shares. What depends on how files meet in batches (waking a thread, a page of
/// the ledger) has the room for batches of a few files, which a machine busy with other work makes.
const LIMITS: [(&str, f64); 17] = [
    // Source and temporary file, opened and closed.
    ("openat2", 1.05),
    ("openat", 1.05),
    ("close", 2.1),
    // The source before and after it is read, the temporary file once it is written.
    ("fstat", 3.1),
    // The intake's look, the last one at the source's name, the one at the output's, and with `keep` the
    // one at the source's name after the acknowledgement. For each batch, before and after the names: whether the output's root and directory are under their paths.
    ("newfstatat", 4.5),
    ("statx", 0.1),
    // The content; one look beyond the end is part of the same call. The ledger's are in them.
    ("pread64", 3.0),
    ("write", 1.2),
    ("pwrite64", 5.0),
    ("fchmod", 1.05),
    // Whether the source has extended attributes or an ACL.
    ("flistxattr", 1.05),
    ("utimensat", 1.05),
    ("sync_file_range", 1.05),
    // One for each output; the ledger's and the directories' are shared by a batch.
    ("fsync", 2.5),
    ("fdatasync", 1.0),
    ("renameat2", 1.05),
    // The lease and SQLite's locks.
    ("fcntl", 16.0),
];
/// The most calls for each file that wait for no name above: a new one must be noticed.
const OTHERS: f64 = 0.5;
/// Threads that wake one another; many on a machine whose cores are taken.
const WAKING: [&str; 4] = ["futex", "sched_yield", "restart_syscall", "epoll_wait"];
const WAKES: f64 = 30.0;

#[test]
fn a_small_file_costs_the_system_calls_of_the_cost_model() {
    let name = "a_small_file_costs_the_system_calls_of_the_cost_model";
    let strace = Command::new("strace").arg("-V").output();
    if !strace.is_ok_and(|strace| strace.status.success()) {
        return prove::skipped(name, "strace is not installed");
    }
    let (Some(few), Some(many)) = (calls(FEW), calls(MANY)) else {
        return prove::skipped(name, "strace may not trace here");
    };
    let each = |call: &str| {
        let count = |calls: &BTreeMap<String, u32>| f64::from(*calls.get(call).unwrap_or(&0));
        (count(&many) - count(&few)) / f64::from(MANY - FEW)
    };
    let costs: Vec<String> = many.keys().map(|call| format!("{call} {:.2}", each(call))).collect();
    for (call, most) in LIMITS {
        assert!(
            each(call) <= most,
            "{call}: {:.2} for each file, of {most}: {costs:?}",
            each(call)
        );
    }
    // Small batches sync each file, and a busy machine makes them in either run: their
    // difference shows nothing.
    let all = |call: &str| many.get(call).copied().unwrap_or(0);
    let durable = all("fsync") + BATCH * all("syncfs");
    assert!(durable >= MANY, "syncs for {durable} of {MANY} files: {costs:?}");
    let sum = |calls: &mut dyn Iterator<Item = &String>| calls.map(|call| each(call)).sum::<f64>();
    let woken = sum(&mut many.keys().filter(|call| WAKING.contains(&call.as_str())));
    assert!(woken <= WAKES, "{woken:.2} calls to wake and wait for each file: {costs:?}");
    let is_other = |call: &&String| {
        let call = call.as_str();
        !WAKING.contains(&call) && !LIMITS.iter().any(|(known, _)| *known == call)
    };
    let others = sum(&mut many.keys().filter(is_other));
    assert!(others <= OTHERS, "{others:.2} calls of other kinds for each file: {costs:?}");
    prove::report(name, &[("calls_per_file", &costs.join(","))]);
}

/// The calls of one run over this many files; `None` where strace could not trace.
fn calls(files: u32) -> Option<BTreeMap<String, u32>> {
    let root = tempfile::tempdir().unwrap();
    let (input, output) = (root.path().join("in"), root.path().join("out"));
    fs::create_dir(&input).unwrap();
    fs::create_dir(&output).unwrap();
    for number in 0..files {
        fs::write(input.join(format!("{number}")), format!("file {number}\n").repeat(300)).unwrap();
    }
    let counts = root.path().join("counts");
    let strace = Command::new("strace")
        .args(["-f", "-c", "-o"])
        .arg(&counts)
        .arg(env!("CARGO_BIN_EXE_tidemill"))
        .args(["run", "--once", "--http", "off", "--settle", "0s"])
        .args([&input, &output])
        .env_remove("FAILPOINTS")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&strace.stderr);
    if stderr.contains("Operation not permitted") && stderr.contains("ptrace") {
        return None;
    }
    assert!(strace.status.success(), "{stderr}");
    let published =
        fs::read_dir(&output).unwrap().filter(|entry| is_output(&entry.as_ref().unwrap().path()));
    assert_eq!(published.count(), usize::try_from(files).unwrap());
    Some(counted(&fs::read_to_string(&counts).unwrap()))
}

fn is_output(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "zst")
}

/// The table of `strace -c`: `% time, seconds, usecs/call, calls, [errors,] name`.
fn counted(table: &str) -> BTreeMap<String, u32> {
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = |row: Vec<&str>| match row[..] {
        [share, _, _, calls, .., name] if share.parse::<f64>().is_ok() && name != "total" => {
            Some((name.to_owned(), calls.parse().expect("a count")))
        }
        _ => None,
    };
    let calls: BTreeMap<String, u32> = rows.filter_map(row).collect();
    assert!(calls.len() > 10, "no table of strace: {table}");
    calls
}
