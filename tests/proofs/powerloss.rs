//! Power losses, simulated: the real service runs on real file systems on disks that record every
//! write and flush; every state that a power loss can leave is mounted and recovered from.
//!
//! The disks are files of a file system in user space ([`serve`]) under loop devices, so what the
//! kernel's block layer sends is what is recorded, in one order with what was acknowledged
//! ([`disk`]). A write that no flush covers may survive, or not, or in part ([`states`]).
//! The promise is judged before and after recovery ([`check`]).
//!
//! Needs root, FUSE, loop devices and the file systems' own tools. `PROVE_COUNT` asks for more
//! states, `PROVE_SEED` for others.

#![cfg(feature = "failpoints")]
#![expect(clippy::disallowed_methods, reason = "the tests are the users who move and remove files")]
#![expect(clippy::unnecessary_debug_formatting, reason = "a name may hold anything")]
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by a panic")]

mod check;
mod disk;
mod flushes;
mod hands;
mod idle;
mod known;
mod mutants;
mod names;
mod record;
mod replay;
mod scenario;
mod serve;
mod states;
mod sums;
mod system;

use std::{fs, path::Path};

use crate::harness::LINKS;
use crate::mounts::own_mounts;
use crate::prove;
use record::{Recording, Studio};
use replay::Found;
use scenario::Scenario;
use states::{Pending, Replay};
use system::Kind;

/// Memory-backed where that is possible: the disks under test are the recorded ones.
fn scratch() -> tempfile::TempDir {
    let shared = Path::new("/dev/shm");
    let made = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
    made.expect("temporary directory")
}

/// What is missing for these tests, if anything is.
fn missing(kind: Kind) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root, for mounts".to_owned());
    }
    let devices = ["/dev/fuse", "/dev/loop-control"];
    if let Some(device) = devices.iter().find(|device| !Path::new(device).exists()) {
        return Some(format!("there is no {device}"));
    }
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let known = known.split_whitespace().any(|word| word == kind.name());
    (!known).then(|| format!("the kernel has no {}", kind.name()))
}

/// How many states of one recording are examined before another scenario is recorded.
const STATES_EACH: usize = 250;

/// A power loss while the service recovers from one.
fn crashes_in_recovery(
    studio: &Studio,
    recording: &Recording,
    count: usize,
    failpoints: &str,
) -> Found {
    let mut random = prove::Random::new(recording.scenario.seed ^ 0x9eca);
    let mut replay = Replay::new(recording, recording.scenario.seed);
    let at = random.below(recording.ops.len() as u64);
    replay.go_to(usize::try_from(at).expect("an index"));
    let Some(state) = replay.state(Pending::Some) else { return Found::default() };
    let recovery = studio.record_recovery(recording, state, failpoints);
    replay::examine(&studio.root, &recovery, count, failpoints)
}

fn power_losses(kind: Kind, failpoints: &str) {
    let by_links = if failpoints == LINKS { ", by links" } else { "" };
    let name = format!("power losses on {}{by_links}", kind.name());
    if let Some(missing) = missing(kind) {
        return prove::skipped(&name, &missing);
    }
    let scratch = scratch();
    own_mounts().expect("mounts of its own");
    let studio = Studio::new(scratch.path(), kind).expect("the disks' server");
    let (wanted, mut done, mut recordings) = (prove::count(200), 0, 0);
    let (mut disks, mut in_recovery) = ([0; 3], 0);
    while done < wanted {
        let scenario = Scenario::random(kind, prove::seed() + recordings);
        let recording = studio.record(scenario, failpoints);
        recordings += 1;
        let count = STATES_EACH.min(wanted - done);
        let mut found = replay::examine(&studio.root, &recording, count, failpoints);
        let again = crashes_in_recovery(&studio, &recording, count / 10, failpoints);
        done += found.states + again.states;
        in_recovery += again.states;
        found.broken.extend(again.broken);
        disks[scenario.layout.disks()] += found.states + again.states;
        println!("{scenario}: {} operations, {} states", recording.ops.len(), found.states);
        assert!(found.broken.is_empty(), "{scenario}\n{:#?}", found.broken);
    }
    prove::report(
        &name,
        &[
            ("states", &done),
            ("one_disk", &disks[1]),
            ("two_disks", &disks[2]),
            ("in_recovery", &in_recovery),
            ("recordings", &recordings),
            ("violations", &0),
        ],
    );
}

#[test]
fn power_losses_on_ext4_break_no_promise() {
    power_losses(Kind::Ext4, "");
}

#[test]
fn power_losses_on_xfs_break_no_promise() {
    power_losses(Kind::Xfs, "");
}

#[test]
fn power_losses_on_btrfs_break_no_promise() {
    power_losses(Kind::Btrfs, "");
}

#[test]
fn power_losses_on_ext4_break_no_promise_where_outputs_are_linked() {
    power_losses(Kind::Ext4, LINKS);
}

#[test]
fn power_losses_on_xfs_break_no_promise_where_outputs_are_linked() {
    power_losses(Kind::Xfs, LINKS);
}

#[test]
fn power_losses_on_btrfs_break_no_promise_where_outputs_are_linked() {
    power_losses(Kind::Btrfs, LINKS);
}
