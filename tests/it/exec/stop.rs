//! Stops and kills while programs run.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::Setting;
use crate::{
    harness,
    prove::{self, Random},
};

/// A service with a program that has begun to run.
fn running(script: &str, keys: &str) -> (Setting, harness::Service) {
    let mut setting = Setting::shell(script, keys);
    setting.tree.put("a", b"content\n");
    let service = setting.start();
    harness::until("the program runs", || {
        setting.processes().iter().any(|command| command.contains("sleep"))
    });
    (setting, service)
}

#[test]
fn a_stop_waits_for_the_program_and_publishes() {
    let (setting, service) = running("sleep 1; cat", "");
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", setting.tree.log());
    assert_eq!(setting.output("a"), b"content\n");
    setting.assert_nothing_left();
}

#[test]
fn a_forced_stop_kills_the_program_and_its_file_stays() {
    let (setting, service) = running("sleep 1000; cat", "");
    // One signal twice at once is one.
    for signal in [Signal::TERM, Signal::INT, Signal::TERM] {
        service.signal(signal);
        std::thread::park_timeout(super::MOMENT);
    }
    assert_ne!(service.wait(), 0, "{}", setting.tree.log());
    harness::until("the program is dead", || setting.processes().is_empty());
    assert!(setting.tree.path("in/a").exists());
    assert!(setting.tree.files("out").is_empty());
}

#[test]
fn a_kill_of_the_service_kills_the_program_and_a_restart_publishes() {
    let (setting, service) = running("setsid sleep 1000 & sleep 2; cat", "");
    service.signal(Signal::KILL);
    drop(service);
    harness::until("the program is dead", || setting.processes().is_empty());
    let file = setting.tree.path("t.toml");
    let config = std::fs::read_to_string(&file).expect("read");
    std::fs::write(&file, config.replace("setsid sleep 1000 & sleep 2; ", "")).expect("write");
    assert_eq!(setting.once(), 0, "{}", setting.tree.log());
    assert_eq!(setting.output("a"), b"content\n");
    setting.assert_nothing_left();
}

/// Nobody supervises the run any more: it counts as not run, and is tried again.
#[test]
fn a_killed_supervisor_takes_its_run_with_it() {
    let (setting, service) = running("sleep 3; cat", "");
    let supervisor = std::fs::read_dir("/proc").expect("list").flatten().find(|entry| {
        let read =
            |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        read("cmdline").contains("exec-supervisor") && read("environ").contains(&setting.mark)
    });
    let id = supervisor.expect("a supervisor").file_name().to_string_lossy().parse::<i32>();
    kill_process(Pid::from_raw(id.expect("a number")).expect("not 0"), Signal::KILL).expect("kill");
    harness::until("it is published", || setting.tree.path("out/a").exists());
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", setting.tree.log());
    assert_eq!(setting.output("a"), b"content\n");
    setting.assert_nothing_left();
}

/// Each output begins with the time at which it was made, so a second run of the program would show.
#[test]
fn kills_at_random_instants_change_no_acknowledged_output() {
    const SCRIPT: &str = "date +%N; cat";
    let mut random = Random::new(prove::seed());
    let (mut kills, mut published) = (0, 0);
    while kills < prove::count(30) {
        let mut setting = Setting::shell(SCRIPT, "");
        for number in 0..20 {
            let line = format!("line {number} of {kills}\n");
            let size = if number % 10 == 0 { 40_000 } else { 10 };
            setting.tree.put(&format!("d{}/{number}", number % 3), line.repeat(size).as_bytes());
        }
        loop {
            let service = setting.start();
            std::thread::park_timeout(Duration::from_millis(random.below(1500)));
            service.signal(Signal::KILL);
            drop(service);
            kills += 1;
            harness::until("its programs are dead", || setting.processes().is_empty());
            if setting.tree.files("in").is_empty() {
                break;
            }
        }
        assert_eq!(setting.once(), 0, "{}", setting.tree.log());
        let events = std::fs::read_to_string(setting.tree.path("events")).expect("read");
        let lines = events
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON"));
        let lines: Vec<_> = lines.filter(|line| line["outcome"] == "published").collect();
        assert_eq!(lines.len(), setting.tree.contents.len(), "seed {}\n{events}", prove::seed());
        for line in lines {
            let output = setting.output(line["output"].as_str().expect("a name"));
            assert_eq!(line["output_hash"], blake3::hash(&output).to_hex().as_str(), "{line}");
            let source = std::path::Path::new(line["source"].as_str().expect("a name"));
            assert!(output.ends_with(&setting.tree.contents[source]), "{line}");
            published += 1;
        }
        setting.assert_nothing_left();
    }
    prove::report(
        "kills while programs run",
        &[("kills", &kills), ("published", &published), ("violations", &0)],
    );
}
