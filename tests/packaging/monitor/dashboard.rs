//! The dashboard: what it asks for, and that it is whole.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    monitor::service::{has, read, run},
    prove,
};

const PATH: &str = "deploy/grafana/tidemill.json";

fn dashboard() -> Value {
    serde_json::from_str(&read(PATH)).expect("JSON")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Every query of the dashboard, with its variables filled in as Grafana does for "All".
pub fn queries() -> Vec<String> {
    let dashboard = dashboard();
    let panels = list(&dashboard, "panels").iter();
    let annotations = list(&dashboard["annotations"], "list").iter();
    let queries = panels.flat_map(|panel| list(panel, "targets")).chain(annotations);
    queries
        .map(|target| {
            let query = text(target, "expr").to_owned();
            let filled = [
                ("$__rate_interval", "1m"),
                ("$__range", "5m"),
                ("$job", ".*"),
                ("$instance", ".*"),
                ("$pipeline", ".*"),
            ];
            filled.iter().fold(query, |query, (from, to)| query.replace(from, to))
        })
        .collect()
}

#[test]
fn promtool_parses_every_query_of_the_dashboard() {
    if !has("promtool") {
        return prove::skipped("the dashboard's queries", "promtool is not there");
    }
    let queries = queries();
    assert!(queries.len() >= 40, "{}", queries.len());
    let rules: Vec<Value> = queries
        .iter()
        .enumerate()
        .map(|(number, query)| serde_json::json!({"record": format!("q:{number}"), "expr": query}))
        .collect();
    let rules = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    let dir = tempfile::tempdir().expect("temporary directory");
    // JSON is YAML.
    let path = dir.path().join("rules.yml");
    std::fs::write(&path, rules.to_string()).expect("write");
    let (is_well, printed) =
        run("promtool", &["check", "rules", path.to_str().expect("a path")], "");
    assert!(is_well && printed.contains(&format!("{} rules found", queries.len())), "{printed}");
}

#[test]
fn every_panel_has_a_title_says_what_it_shows_and_asks_the_chosen_data_source() {
    let dashboard = dashboard();
    let mut ids = BTreeSet::new();
    for panel in list(&dashboard, "panels") {
        let title = text(panel, "title");
        assert!(!title.is_empty() && ids.insert(panel["id"].as_u64()), "{title} {:?}", panel["id"]);
        if text(panel, "type") == "row" {
            continue;
        }
        assert!(text(panel, "description").ends_with('.'), "{title} does not say what it shows");
        assert!(!list(panel, "targets").is_empty(), "{title} asks for nothing");
        for target in list(panel, "targets") {
            assert!(!text(target, "expr").is_empty(), "{title}");
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

#[test]
fn no_panel_covers_another() {
    let dashboard = dashboard();
    let mut taken = BTreeSet::new();
    for panel in list(&dashboard, "panels") {
        let at = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
        assert!(at("x") + at("w") <= 24, "{} is too wide", panel["title"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "{} covers another panel", panel["title"]);
            }
        }
    }
}

#[test]
fn every_variable_that_a_query_has_is_one_of_the_dashboard() {
    let dashboard = dashboard();
    let variables = list(&dashboard["templating"], "list").iter();
    let defined: BTreeSet<&str> = variables.map(|variable| text(variable, "name")).collect();
    assert_eq!(defined, BTreeSet::from(["datasource", "instance", "job", "pipeline"]));
    for query in queries() {
        assert!(!query.contains('$'), "{query}");
        let is_service = query.contains("tidemill_") || query.contains("process_");
        assert!(is_service || query.contains("ALERTS"), "{query}");
        let labelled = query.matches('{').count() == query.matches("job=~").count();
        assert!(labelled, "a selector without the chosen job: {query}");
    }
}
