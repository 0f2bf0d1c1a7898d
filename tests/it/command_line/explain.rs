//! `explain` of files that wait: for a writer, for an operator, for a service.

use std::fs::OpenOptions;

use crate::files::{TestDir, until};

fn explained(place: &TestDir, path: &str) -> String {
    let ended = place.run(&["explain", path]);
    assert_eq!(ended.code, 0, "{path}: {ended:?}");
    ended.stdout
}

#[test]
fn a_file_that_waits_names_its_writer_and_the_state_of_the_service() {
    let place = TestDir::new();
    let running = place.watch(&[]);
    let path = place.input().join("open");
    let writer = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
    let text = explained(&place, "in/open");
    let pid = std::process::id();
    assert!(
        text.contains("  waits:      open for writing by ") && text.contains(&format!("({pid})")),
        "{text}"
    );
    assert!(!text.contains("service:"), "{text}");
    assert_eq!(place.run(&["pause"]).code, 0);
    let text = explained(&place, "in/open");
    assert!(text.contains("  service:    PAUSED by the operator since 20"), "{text}");
    assert_eq!(running.stop().code, 0);
    drop(writer);
    let text = explained(&place, "in/open");
    assert!(text.contains("  service:    no service is running: "), "{text}");
    assert!(!text.contains("open for writing"), "{text}");
}

#[test]
fn a_file_that_is_not_quiet_for_long_enough_names_the_time_that_is_missing() {
    let place = TestDir::new();
    for (key, wanted) in
        [("settle", " s of 3600s (`settle`)"), ("min_age", " s of 3600s (`min_age`)")]
    {
        place.configure(&format!("{key} = \"1h\""));
        assert_eq!(place.once(&["--exclude", "*"]).code, 0);
        let resolved = place.state().join("config.toml");
        let rules = std::fs::read_to_string(&resolved).unwrap();
        std::fs::write(&resolved, rules.replace("exclude = [\"*\"]", "exclude = []")).unwrap();
        place.put("new", key);
        let text = explained(&place, "in/new");
        let facts: Vec<_> = text.lines().skip(1).collect();
        assert!(facts[0].starts_with("  waits:      unchanged for "), "{key}: {text}");
        assert!(facts[0].ends_with(wanted), "{key}: {text}");
        assert_eq!(
            facts.last(),
            Some(&"  next:       it is processed once it is settled"),
            "{text}"
        );
    }
}

#[test]
fn no_label_touches_its_fact() {
    let place = TestDir::new();
    place.configure("transforms = \"gunzip\"\non_success = \"delete\"");
    place.put("bad.gz", "no gzip at all");
    assert_eq!(place.once(&[]).code, 65);
    let quarantined = place.quarantine().join("bad.gz");
    for path in ["in/bad.gz", quarantined.to_str().unwrap()] {
        let text = explained(&place, path);
        assert!(text.contains("\n  code:       corrupt\n"), "{text}");
        for line in text.lines().skip(1) {
            let fact = line.get(14..).unwrap_or_default();
            assert!(line[..14].trim_end().ends_with(':') && !fact.starts_with(' '), "{text}");
        }
    }
}

#[test]
fn a_processed_file_has_a_line_for_each_fact() {
    let place = TestDir::new();
    place.put("a", "content");
    assert_eq!(place.once(&[]).code, 0);
    let text = explained(&place, "in/a");
    let labels: Vec<_> =
        text.lines().skip(1).filter_map(|line| line.trim().split_once(':')).collect();
    let labels: Vec<_> = labels.into_iter().map(|(label, _)| label).collect();
    assert_eq!(labels, ["record", "output", "size", "transforms", "next"], "{text}");
    assert!(text.lines().all(|line| !line.contains(';')), "{text}");
}

#[test]
fn a_path_of_no_input_is_answered_from_the_working_directory() {
    let place = TestDir::new();
    assert_eq!(place.once(&[]).code, 0);
    std::fs::remove_file(place.root().join("tidemill.toml")).unwrap();
    assert_eq!(place.run(&["run", "in", "out", "--once"]).code, 0);
    let text = explained(&place, "/etc/passwd");
    assert!(text.contains("is in no input and no output of this service"), "{text}");
    assert!(text.contains(&format!("  inputs:     {}\n", place.input().display())), "{text}");
}

#[test]
fn history_repeats_no_path() {
    let place = TestDir::new();
    place.configure("transforms = \"gunzip\"");
    let path = place.put("bad.gz", "no gzip at all");
    assert_eq!(place.once(&[]).code, 65);
    let line = place.run(&["history"]).stdout;
    assert_eq!(line.matches(path.to_str().unwrap()).count(), 1, "{line}");
    assert!(line.contains("  (corrupt: `gunzip`: "), "{line}");
    until("the record", || place.state_of("bad.gz") == "quarantined");
}
