//! Kills: each encryption differs, so a second one in place of an acknowledged output would show.

use std::{fs, time::Duration};

use super::{Setting, decrypt, harness::until};
use crate::{
    harness::Service,
    prove::{self, Random},
};
use rustix::process::Signal;

/// Killed after the intent, before and after the rename, before and after the acknowledgement.
#[test]
fn recovery_publishes_the_staged_encryption() {
    for point in ["intended", "rename", "renamed", "acknowledge", "acknowledged", "marked"] {
        let mut setting = Setting::new("zstd,age", "");
        setting.tree.put("a", b"text");
        let mut command = setting.tree.configured("t.toml");
        command.env("FAILPOINTS", format!("commit::{point}=return(kill)"));
        let service: Service = command.spawn().expect("start").into();
        service.wait();
        // Under its temporary or its final name, or in the way from the one to the other.
        let staged: Vec<_> = setting.tree.files("out").into_iter().collect();
        assert_eq!(staged.len(), 1, "{point}: {staged:?}\n{}", setting.tree.log());
        let staged = fs::read(setting.tree.path("out").join(&staged[0])).expect("read");
        assert_eq!(setting.once(), 0, "{point}: {}", setting.tree.log());
        assert!(setting.output("a.zst.age") == staged, "{point}: it was encrypted again");
        assert!(decrypt(&setting.identity, &staged).is_some(), "{point}");
        assert_eq!(setting.published().len(), 1, "{point}");
        assert!(setting.tree.files("in").is_empty(), "{point}");
    }
}

#[test]
fn kills_at_random_instants_change_no_acknowledged_output() {
    let mut random = Random::new(prove::seed());
    let (mut kills, mut published) = (0, 0);
    while kills < prove::count(20) {
        let mut setting = Setting::new("age", "");
        for number in 0..40 {
            let line = format!("line {number} of {kills}\n");
            let size = if number % 10 == 0 { 40_000 } else { 10 };
            setting.tree.put(&format!("d{}/{number}", number % 3), line.repeat(size).as_bytes());
        }
        let mut acknowledged = Vec::new();
        while !setting.tree.files("in").is_empty() {
            let service = setting.start();
            // An output that was acknowledged before stays as it was.
            std::thread::park_timeout(Duration::from_millis(random.below(400)));
            service.signal(Signal::KILL);
            drop(service);
            kills += 1;
            for line in &acknowledged {
                assert_unchanged(&setting, line);
            }
            acknowledged = whole_lines(&setting);
        }
        assert_eq!(setting.once(), 0, "{}", setting.tree.log());
        let lines = setting.published();
        assert_eq!(lines.len(), setting.tree.contents.len(), "seed {}", prove::seed());
        for line in &lines {
            assert_unchanged(&setting, line);
            published += 1;
        }
    }
    prove::report(
        "kills while files are encrypted",
        &[("kills", &kills), ("published", &published), ("violations", &0)],
    );
}

/// The lines that a kill left whole.
fn whole_lines(setting: &Setting) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(setting.tree.path("lines/events")).unwrap_or_default();
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    lines.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn assert_unchanged(setting: &Setting, line: &serde_json::Value) {
    let output = setting.output(line["output"].as_str().expect("a name"));
    assert_eq!(line["output_hash"], blake3::hash(&output).to_hex().as_str(), "{line}");
    let source = std::path::Path::new(line["source"].as_str().expect("a name"));
    let content = decrypt(&setting.identity, &output).expect("its identity decrypts");
    assert!(content == setting.tree.contents[source], "{line}");
}

/// A stop finishes the file, and a second one drops it: its source stays, and no part of it is an output.
#[test]
fn a_forced_stop_leaves_no_part_of_an_encryption() {
    let mut setting = Setting::new("age", "");
    setting.tree.put("large", &b"a line\n".repeat(1_000_000));
    let mut command = setting.tree.configured("t.toml");
    command.env("FAILPOINTS", "transform=sleep(100)");
    let service: Service = command.spawn().expect("start").into();
    until("it is ready", || setting.tree.log().contains("phase=READY"));
    until("it is being encrypted", || !setting.tree.files("out").is_empty());
    for _ in 0..3 {
        service.signal(Signal::TERM);
        std::thread::park_timeout(Duration::from_millis(600));
    }
    assert_ne!(service.wait(), 0, "{}", setting.tree.log());
    assert!(setting.tree.path("in/large").exists());
    assert_eq!(setting.once(), 0, "{}", setting.tree.log());
    let content = decrypt(&setting.identity, &setting.output("large.age"));
    assert!(content.expect("whole") == setting.tree.contents[std::path::Path::new("large")]);
}
