//! What OPERATIONS.md says of the program is what the program does.

use std::{collections::BTreeSet, path::Path};

use crate::{
    deploy::{root, text},
    files::{TestDir, until},
};

/// The source as one line: strings that are broken over lines are whole again.
fn source() -> String {
    let mut found = String::new();
    let mut pending = vec![root().join("src")];
    while let Some(dir) = pending.pop() {
        for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    found.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The rows of the table that begins with this head.
fn rows(head: &str) -> Vec<String> {
    let operations = text("OPERATIONS.md");
    let table =
        operations.split(&format!("\n| {head} |")).nth(1).unwrap_or_else(|| panic!("{head}"));
    table.split("\n\n").next().unwrap().lines().skip(2).map(str::to_owned).collect()
}

#[test]
fn the_table_of_events_has_actions_and_translates_nothing() {
    let rows = rows("event");
    assert!(rows.len() >= 15, "{rows:?}");
    for row in rows {
        let action = row.split('|').nth(2).unwrap().trim();
        let is_none = action.starts_with("nothing") || action.starts_with("the message");
        assert!(!is_none && !action.is_empty(), "no action: {row}");
    }
}

#[test]
fn the_events_of_the_log_are_those_of_operations() {
    let operations = text("OPERATIONS.md");
    let log = operations.split("\n### Log events\n").nth(1).unwrap();
    let log = log.split("\n### Start failures\n").next().unwrap();
    let is_event = |word: &&str| {
        !word.starts_with("fs.")
            && word.contains('.')
            && word.chars().all(|one| one.is_ascii_lowercase() || "._".contains(one))
    };
    let named: BTreeSet<&str> = log.split('`').skip(1).step_by(2).filter(is_event).collect();
    let source = source();
    let keys = source.split("event = \"").skip(1).filter_map(|rest| rest.split('"').next());
    // An outcome's name is put together.
    let logged: BTreeSet<&str> = keys.chain(["file.quarantined", "file.skipped"]).collect();
    assert_eq!(named, logged);
}

#[test]
fn every_metric_of_operations_exists() {
    let (operations, metrics) = (text("OPERATIONS.md"), text("src/observe/prometheus.rs"));
    let mut named = 0;
    for word in
        operations.split('`').filter(|word| word.starts_with("tidemill_") && !word.contains('*'))
    {
        assert!(metrics.contains(&format!("\"{word}\"")), "{word}");
        named += 1;
    }
    assert!(named >= 8, "{named}");
}

#[test]
fn every_file_of_operations_is_there() {
    let operations = text("OPERATIONS.md");
    let words =
        operations.split(|letter: char| letter.is_whitespace() || "`(),;:".contains(letter));
    let mut named = 0;
    for path in words.filter(|word| word.starts_with("deploy/") || word.starts_with("tests/")) {
        assert!(root().join(path.trim_end_matches('.')).exists(), "{path}");
        named += 1;
    }
    assert!(named >= 8, "{named}");
}

fn count(history: &str) -> usize {
    history.lines().count()
}

/// The way of OPERATIONS.md: `VACUUM INTO` while the service runs, then the copy in place of the ledger.
#[test]
fn a_ledger_is_copied_while_it_is_in_use_and_restored() {
    let place = TestDir::new();
    let running = place.watch(&[]);
    for number in 0..30 {
        place.put(format!("{number}.log"), format!("content {number}"));
    }
    let published = |name: &str| place.output().join(format!("{name}.zst")).exists();
    until("all are published", || (0..30).all(|number| published(&format!("{number}.log"))));
    until("all are in the history", || count(&place.run(&["history", "--json"]).stdout) == 30);
    let ledger = place.state().join("ledger.sqlite");
    let copy = place.root().join("copy.sqlite");
    vacuum(&ledger, &copy);
    place.put("later.log", "after the copy");
    until("the later one is published", || published("later.log"));
    assert_eq!(running.stop().code, 0);
    assert_eq!(count(&place.run(&["history", "--json"]).stdout), 31);

    for suffix in ["-wal", "-shm"] {
        drop(std::fs::remove_file(format!("{}{suffix}", ledger.display())));
    }
    std::fs::rename(&copy, &ledger).unwrap();
    assert_eq!(count(&place.run(&["history", "--json"]).stdout), 30);
    let before = place.published("later.log.zst");
    let once = place.once(&[]);
    assert_eq!(once.code, 0, "{once:?}");
    assert!(once.stderr.contains("published=1"), "the copy does not know the later file: {once:?}");
    assert_eq!(place.published("later.log.zst"), before, "the same output is taken over");
    assert_eq!(place.state_of("later.log"), "done");
    assert!(place.input().join("later.log").exists());
}

fn vacuum(ledger: &Path, copy: &Path) {
    let connection = rusqlite::Connection::open(ledger).unwrap();
    connection.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
}
