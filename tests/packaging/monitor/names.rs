//! Every metric that a rule, an alert or the dashboard names is one that the service shows.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    monitor::{
        rules::{ALERTS, RULES, recorded},
        service::{Service, has, place, read, run},
    },
    prove,
};

/// Words of a text that can only be names of metrics.
pub fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    text.split(|letter| !is_part(letter))
        .map(|word| word.trim_matches(':'))
        .filter(|word| word.contains("tidemill_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// The table of the service, by the text that holds it: each name and what it is.
fn table() -> BTreeMap<String, String> {
    let text = read("src/observe/prometheus.rs");
    let entry = |line: &str| {
        let (kind, rest) = line.trim().split_once(" = ")?.1.split_once(" \"")?;
        let name = rest.split('"').next().filter(|name| name.starts_with("tidemill_"))?;
        Some((name.to_owned(), kind.to_owned()))
    };
    text.lines().filter_map(entry).collect()
}

/// Families of a scrape: each name and what it is.
fn families(scrape: &str) -> BTreeMap<String, String> {
    let family = |line: &str| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some((name.to_owned(), kind.to_owned()))
    };
    scrape.lines().filter_map(family).collect()
}

/// The series that a family has.
fn series(name: &str, kind: &str) -> Vec<String> {
    if kind.eq_ignore_ascii_case("histogram") {
        return ["_bucket", "_sum", "_count"].map(|end| format!("{name}{end}")).to_vec();
    }
    vec![name.to_owned()]
}

#[test]
fn every_name_in_rules_alerts_and_dashboard_is_a_metric_of_the_service_or_its_process() {
    let dir = place();
    let service = Service::start(dir.path(), &[]);
    let shown = families(&service.metrics());
    let table = table();
    assert!(table.len() >= 20, "the table was not understood: {table:?}");
    let process = shown.iter().filter(|(name, _)| name.starts_with("process_"));
    let known: BTreeSet<String> = table
        .iter()
        .chain(process)
        .flat_map(|(name, kind)| series(name, kind))
        .chain(recorded())
        .collect();
    for path in [RULES, ALERTS, "deploy/grafana/tidemill.json"] {
        let named = metrics_in(&read(path));
        assert!(named.len() >= 10, "{path} was not understood: {named:?}");
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{path} names what is no metric: {unknown:?}");
    }
}

#[test]
fn promtool_finds_nothing_to_say_about_the_metrics_of_a_running_service() {
    if !has("promtool") {
        return prove::skipped("promtool check metrics", "promtool is not there");
    }
    let dir = place();
    std::fs::write(dir.path().join("in/a"), "hello").expect("write");
    let service = Service::start(dir.path(), &[]);
    let (is_well, printed) = run("promtool", &["check", "metrics"], &service.metrics());
    assert!(is_well && printed.is_empty(), "{printed}");
}

#[test]
fn what_waits_is_shown_again_when_nothing_does() {
    let dir = place();
    for number in 0..20 {
        std::fs::write(dir.path().join(format!("in/{number}")), "hello").expect("write");
    }
    let service = Service::start(dir.path(), &[]);
    crate::monitor::service::until("nothing waits", || {
        let metrics = service.metrics();
        metrics.contains("tidemill_files_total{pipeline=\"main\",outcome=\"published\"} 20\n")
            && metrics.contains("tidemill_pending_files{pipeline=\"main\"} 0\n")
    });
}
