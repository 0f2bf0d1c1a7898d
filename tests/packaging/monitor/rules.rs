//! The rules and the alerts, each with its unit test.

use std::collections::BTreeSet;

use tidemill::{limits, pipeline::CHANNELS};

use crate::{
    monitor::service::{has, read, root, run},
    prove,
};

pub const RULES: &str = "deploy/prometheus/tidemill.rules.yml";
pub const ALERTS: &str = "deploy/prometheus/tidemill.alerts.yml";
const TESTS: [&str; 2] =
    ["tests/packaging/monitor/rules.test.yml", "tests/packaging/monitor/drain.test.yml"];

/// The values of a key, as these files write them: one a line.
fn values(text: &str, key: &str) -> Vec<String> {
    let key = format!("{key}: ");
    let value = |line: &str| {
        let line = line.trim_start();
        Some(line.strip_prefix("- ").unwrap_or(line).strip_prefix(&key)?.trim().to_owned())
    };
    text.lines().filter_map(value).collect()
}

/// The names that the recording rules make.
pub fn recorded() -> Vec<String> {
    values(&read(RULES), "record")
}

fn alerts() -> Vec<String> {
    values(&read(ALERTS), "alert")
}

/// The expressions that the unit tests ask for, each with what is expected.
fn cases() -> Vec<(String, String)> {
    let mut cases = Vec::new();
    for test in TESTS {
        let text = read(test);
        for part in text.split("- { eval_time").skip(1) {
            // In one line: nothing is expected.
            let line = part.lines().next().expect("a line");
            if line.contains("exp_samples: []") {
                cases.push((line.to_owned(), String::new()));
            }
        }
        for part in text.split("- eval_time").skip(1) {
            if let Some((asked, expected)) = part.split_once("exp_samples:\n") {
                let expected: Vec<_> =
                    expected.lines().take_while(|line| line.contains("- { labels")).collect();
                cases.push((asked.to_owned(), expected.join("\n")));
            }
        }
    }
    cases
}

#[test]
fn promtool_accepts_the_example_configuration_its_rules_and_its_alerts() {
    if !has("promtool") {
        return prove::skipped("promtool check config", "promtool is not there");
    }
    let config = root("deploy/prometheus/prometheus.yml");
    let config = config.to_str().expect("a path");
    let (is_well, printed) = run("promtool", &["check", "config", config], "");
    assert!(is_well && printed.contains("2 rule files found"), "{printed}");
    for path in [RULES, ALERTS] {
        let path = root(path);
        let lint = ["check", "rules", "--lint=all", "--lint-fatal", path.to_str().expect("a path")];
        let (is_well, printed) = run("promtool", &lint, "");
        assert!(is_well, "{printed}");
    }
}

#[test]
fn every_rule_says_in_its_unit_test_what_it_is_to_say() {
    if !has("promtool") {
        return prove::skipped("promtool test rules", "promtool is not there");
    }
    let tests = TESTS.map(root);
    let tests = tests.iter().map(|path| path.to_str().expect("a path"));
    let args: Vec<&str> = ["test", "rules"].into_iter().chain(tests).collect();
    let (is_well, printed) = run("promtool", &args, "");
    assert!(is_well && printed.matches("SUCCESS").count() == TESTS.len(), "{printed}");
}

#[test]
fn every_alert_has_a_case_where_it_fires_and_one_where_it_does_not() {
    let cases = cases();
    let alerts = alerts();
    assert!(alerts.len() >= 15, "{alerts:?}");
    for alert in alerts {
        let of =
            |(asked, _): &&(String, String)| asked.contains("ALERTS{") && asked.contains(&alert);
        let mut of = cases.iter().filter(of);
        let fires = of.clone().any(|(_, expected)| expected.contains(&format!("\"{alert}\"")));
        assert!(fires, "no case has {alert} fire");
        assert!(of.any(|(_, expected)| expected.is_empty()), "no case has {alert} silent");
    }
    for name in recorded() {
        let is_there = cases.iter().any(|(asked, expected)| {
            asked.contains(&name) && !expected.is_empty() && !asked.contains("ALERTS")
        });
        assert!(is_there, "no case asks for {name}");
    }
}

#[test]
fn every_alert_says_what_is_wrong_what_it_does_and_what_to_look_at() {
    let text = read(ALERTS);
    let readme = read("deploy/prometheus/README.md");
    let mut names = BTreeSet::new();
    for part in text.split("- alert: ").skip(1) {
        let name = part.lines().next().expect("a name").trim();
        assert!(names.insert(name), "{name} is there twice");
        assert!(name.starts_with("Tidemill"), "{name}");
        let severity = values(part, "severity").join(" ");
        assert!(["critical", "warning", "info"].contains(&severity.as_str()), "{name}: {severity}");
        for key in ["summary", "description", "runbook"] {
            let text = values(part, key).join("");
            assert!(text.len() > 30, "{name} has no {key}");
        }
        let place = values(part, "summary").join("");
        let named = place.contains("$labels.instance") || name == "TidemillAbsent";
        assert!(named, "{name} does not say where");
        assert!(readme.contains(&format!("### {name}\n")), "the README has nothing on {name}");
    }
    let headings = readme.lines().filter_map(|line| line.strip_prefix("### "));
    assert_eq!(headings.collect::<BTreeSet<_>>(), names);
}

#[test]
fn the_alerts_know_the_deadline_and_the_channels_of_the_service() {
    let text = read(ALERTS);
    let alert = |name: &str| {
        let found = text.split("- alert: ").find(|part| part.starts_with(name));
        found.expect("an alert").to_owned()
    };
    let (drain, deadline) = (alert("TidemillDrainSlow"), limits::SHUTDOWN_DEADLINE.as_secs());
    let wait: u64 = values(&drain, "for")[0].trim_end_matches('s').parse().expect("seconds");
    assert!(wait + 10 <= deadline, "a scrape each 10 s does not see it in time");
    assert!(drain.contains(&format!("the deadline is {deadline} s by default")));
    // A channel of one batch is full whenever there is work.
    let single = CHANNELS.iter().filter(|(_, capacity)| *capacity == 1).map(|(name, _)| *name);
    let single = single.collect::<Vec<_>>().join("|");
    assert!(alert("TidemillBackpressure").contains(&format!("channel!~\"{single}\"")));
}
