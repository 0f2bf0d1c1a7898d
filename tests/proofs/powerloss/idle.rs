//! A state update is durable within seconds also when nothing comes after it. Without an events file it is all that
//! says, after a power loss, that an output was acknowledged before a consumer took it.

use std::{fs::File, io::Write, path::Path, process::Command, time::Duration};

use tidemill::ledger::{HistoryQuery, Ledger, State as LedgerState, sqlite::Sqlite};

use crate::{
    harness::{Service, wait_for},
    mounts::own_mounts,
    powerloss::{
        record::{Recording, Studio, without_events},
        scenario::{Layout, Places, Plan, Scenario},
        states::{Pending, Replay},
        system::{Kind, Mounted},
    },
    prove,
};

/// How long the service has, which is what is promised; the kernel's own writes take longer.
const WITHIN: Duration = Duration::from_secs(3);
const QUARANTINED: i32 = 65;

fn service(root: &Path, failpoints: &str, more: &[&str]) -> Service {
    let mut command: Command = without_events(root, &root.join("idle.log"));
    command.args(more).env("FAILPOINTS", failpoints);
    command.spawn().expect("start").into()
}

fn log(root: &Path) -> String {
    std::fs::read_to_string(root.join("idle.log")).expect("log")
}

fn is_marked(places: &Places) -> bool {
    let ledger = Sqlite::open_read_only(&places.state.join("ledger.sqlite"));
    let records = ledger.and_then(|ledger| ledger.history(&HistoryQuery::default()));
    records.is_ok_and(|records| records.iter().any(|record| record.state == LedgerState::Done))
}

/// Publishes a file, lets the service rest, takes the output durably, and records all that.
fn record(studio: &Studio, scenario: Scenario, failpoints: &str) -> Recording {
    let mut base = Vec::new();
    let act = |places: &Places| {
        base = studio.tape.disks();
        let source = places.input.join("a.log");
        let mut file = File::create(&source).expect("create");
        file.write_all(b"content").and_then(|()| file.sync_all()).expect("write");
        File::open(&places.input).and_then(|dir| dir.sync_all()).expect("sync");
        drop(file);
        let _running = service(&studio.root, failpoints, &[]);
        assert!(wait_for(|| is_marked(places)), "it is not marked\n{}", log(&studio.root));
        std::thread::park_timeout(WITHIN);
        std::fs::remove_file(places.output.join("a.log.zst")).expect("take");
        File::open(&places.output).and_then(|dir| dir.sync_all()).expect("sync");
    };
    let ops = studio.record_act(&scenario, |_| (), act, None);
    let plan = Plan::new(&scenario);
    let (base_events, known, left) = Default::default();
    Recording { scenario, plan, base, base_events, known, left, ops }
}

/// The exit code of the start after a power loss at the end of it, which no write survives that was not flushed.
fn code_after_power_loss(studio: &Studio, failpoints: &str, kind: Kind) -> i32 {
    // Outputs on another disk: taking one there flushes nothing of the ledger.
    let scenario = Scenario { layout: Layout::LedgerWithInput, ..Scenario::plain(kind, "keep") };
    let recording = record(studio, scenario, failpoints);
    let mut replay = Replay::new(&recording, scenario.seed);
    replay.go_to(recording.ops.len());
    let state = replay.state(Pending::None).expect("a state");
    let mounts = state.disks.iter().enumerate().map(|(number, disk)| {
        let image = studio.root.join(format!("idle{number}.img"));
        disk.store(&image, kind.size()).expect("a disk");
        let at = studio.root.join(format!("disk{number}"));
        Mounted::new(kind, &image, &at).expect("mount")
    });
    let mounts: Vec<_> = mounts.collect();
    let code = service(&studio.root, failpoints, &["--once"]).wait();
    let output = Places::new(scenario.layout, &studio.root).output.join("a.log.zst");
    assert!(!output.exists(), "{kind:?}: what was taken is there again");
    for mounted in mounts {
        mounted.end().expect("unmount");
    }
    code
}

#[test]
fn a_state_update_is_durable_within_seconds_although_nothing_follows_it() {
    let name = "idle state updates";
    if let Some(missing) = Kind::ALL.into_iter().find_map(crate::powerloss::missing) {
        return prove::skipped(name, &missing);
    }
    own_mounts().expect("mounts of its own");
    for kind in Kind::ALL {
        let scratch = crate::powerloss::scratch();
        let studio = Studio::new(scratch.path(), kind).expect("the disks' server");
        let code = code_after_power_loss(&studio, "", kind);
        assert_eq!(code, 0, "{kind:?}: the source of an acknowledged output is in quarantine");
        let mutant = code_after_power_loss(&studio, "barrier::idle_flush=return(out)", kind);
        assert_eq!(mutant, QUARANTINED, "{kind:?}: the mutant is not seen");
    }
    prove::report(name, &[("kinds", &Kind::ALL.len()), ("violations", &0)]);
}
