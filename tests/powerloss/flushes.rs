//! How many flushes of the disk a published file costs, counted by the disk.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use crate::{
    disk::Op,
    known::Mark,
    prove,
    record::Studio,
    scenario::{Interruption, Layout, Places, Scenario},
    system::{self, Kind},
};

/// In one group commit.
const FILES: u32 = 32;
/// The first commit is held up until the others have gathered behind it.
const GATHER: &str = "commit::sync=1*sleep(1000)";

/// The flushes after the first line of the events file.
fn flushes(ops: &[Op<Mark>]) -> u32 {
    let told = ops.iter().position(|op| matches!(op, Op::Event(_)));
    let ops = ops.iter().skip(told.unwrap_or(0));
    let count = ops.filter(|op| matches!(op, Op::Flush { .. })).count();
    u32::try_from(count).expect("a small number")
}

fn put(input: &Path) {
    for number in 0..=FILES {
        let mut file = File::create(input.join(format!("f{number}.part"))).expect("create");
        file.write_all(format!("{number}\n").repeat(500).as_bytes()).expect("write");
        file.sync_all().expect("sync");
    }
    File::open(input).expect("open").sync_all().expect("sync");
}

/// The files get names that the service takes, all at once.
fn rename(places: &Places) {
    for number in 0..=FILES {
        let part = places.input.join(format!("f{number}.part"));
        fs::rename(&part, part.with_extension("log")).expect("rename");
    }
}

/// What scripts that care do for each file: write, fsync, rename, fsync the directory, remove the
/// source.
fn classic(places: &Places) {
    let sync = |path: &Path| File::open(path).expect("open").sync_all().expect("sync");
    for number in 0..FILES {
        let source = places.input.join(format!("f{number}.part"));
        let temp = places.output.join(format!(".f{number}.tmp"));
        let mut file = File::create(&temp).expect("create");
        file.write_all(&fs::read(&source).expect("read")).expect("write");
        file.sync_all().expect("sync");
        fs::rename(&temp, places.output.join(format!("f{number}.log"))).expect("rename");
        sync(&places.output);
        fs::remove_file(&source).expect("remove");
    }
}

#[test]
fn a_published_file_costs_half_a_flush_and_not_four() {
    let name = "flushes";
    if let Some(missing) = crate::missing(Kind::Ext4) {
        return prove::skipped(name, &missing);
    }
    let scratch = crate::scratch();
    system::own_mounts().expect("mounts of its own");
    let studio = Studio::new(scratch.path(), Kind::Ext4).expect("the disks' server");
    let scenario = Scenario {
        kind: Kind::Ext4,
        layout: Layout::One,
        on_success: "delete",
        on_exists: "update",
        durability: "fsync",
        producers_sync: true,
        consumer_takes: false,
        interruption: Interruption::None,
        seed: prove::seed(),
    };
    let service = studio.record_act(&scenario, put, rename, Some((GATHER, 1 + FILES as usize)));
    let recipe = studio.record_act(&scenario, put, classic, None);
    let each = |count: u32| f64::from(count) / f64::from(FILES);
    let (ours, theirs) = (each(flushes(&service)), each(flushes(&recipe)));
    prove::report(name, &[("per_file", &ours), ("classic", &theirs)]);
    assert!(ours <= 0.5, "{ours} flushes for each file");
    assert!(
        theirs >= 2.0,
        "the classic recipe flushes {theirs} times for each file: nothing was measured"
    );
}
