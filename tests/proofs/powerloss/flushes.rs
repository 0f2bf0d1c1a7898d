//! How many flushes of the disk a published file costs, counted by the disk.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    time::Duration,
};

use crate::{
    mounts::own_mounts,
    powerloss::{
        disk::Op,
        known::Mark,
        record::Studio,
        scenario::{Places, Scenario},
        system::Kind,
    },
    prove,
};

/// In one group commit, behind a first one.
const FILES: u32 = 32;
/// The first commit is held up until the others have gathered behind it.
const GATHER: &str = "commit::sync=1*sleep(1000)";

/// Of a flush. On a disk that takes no time, concurrent syncs find nothing to share.
const LATENCY: Duration = Duration::from_millis(2);

fn flushes(ops: &[Op<Mark>]) -> u32 {
    let count = ops.iter().filter(|op| matches!(op, Op::Flush { .. })).count();
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

/// One file alone gets a name that the service takes.
fn rename_one(places: &Places) {
    let part = places.input.join("f0.part");
    fs::rename(&part, part.with_extension("log")).expect("rename");
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
    for number in 0..=FILES {
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
fn a_published_file_costs_a_part_of_a_flush_and_not_four() {
    let name = "flushes";
    if let Some(missing) = crate::powerloss::missing(Kind::Ext4) {
        return prove::skipped(name, &missing);
    }
    let scratch = crate::powerloss::scratch();
    own_mounts().expect("mounts of its own");
    let studio = Studio::new(scratch.path(), Kind::Ext4).expect("the disks' server");
    let scenario = Scenario::plain(Kind::Ext4, "delete");
    studio.tape.slow_down(LATENCY);
    let one = flushes(&studio.record_act(&scenario, put, rename_one, Some((GATHER, 1))));
    let all = Some((GATHER, 1 + FILES as usize));
    let all = flushes(&studio.record_act(&scenario, put, rename, all));
    let classic = flushes(&studio.record_act(&scenario, put, classic, None));
    // What the first one costs is not the others', unless a busy machine put all in one commit.
    let (count, files) = if all > one { (all - one, FILES) } else { (all, 1 + FILES) };
    let ours = f64::from(count) / f64::from(files);
    let theirs = f64::from(classic) / f64::from(1 + FILES);
    prove::report(name, &[("per_file", &ours), ("alone", &one), ("classic", &theirs)]);
    assert!(one > 0 && all > 0, "nothing was measured: {one} for one, {all} for all");
    // How many syncs meet in one flush is the scheduler's: 0.3 to 0.6 here.
    assert!(ours <= 1.0, "{ours} flushes for each file");
    assert!(
        theirs >= 2.0,
        "{theirs} flushes for each file of the classic recipe: nothing was measured"
    );
}
