//! The project's own rules, held by reading its source.

#![expect(clippy::expect_used, reason = "a test fails by a panic")]

mod imports;
mod log_events;
mod spelling;
mod words;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 70;
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The source files, by their path below `src`, without their tests.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut pending = vec![root().join("src")];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).expect("list").map(|entry| entry.expect("entry").path()) {
            if entry.is_dir() {
                pending.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let path = entry.strip_prefix(root().join("src")).expect("below");
                let text = fs::read_to_string(&entry).expect("read");
                found.push((path.to_string_lossy().into_owned(), text));
            }
        }
    }
    found.sort();
    found
}

fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs") || path.contains("/tests/")
}

fn code(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().expect("a first part")
}

#[test]
fn files_and_functions_are_small_rooms() {
    for (path, text) in sources() {
        let most = if is_test(&path) { 600 } else { FILE_LINES };
        let count = text.lines().count();
        assert!(count <= most, "{path} has {count} lines, and {most} is the most");
        let mut start = None;
        for (number, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let words = line.trim_start();
            let begins = [
                "fn ",
                "pub fn ",
                "async fn ",
                "pub async fn ",
                "pub(super) fn ",
                "pub(crate) fn ",
            ];
            if begins.iter().any(|begin| words.starts_with(begin)) && !words.ends_with(';') {
                start = Some((number, indent));
            }
            if let Some((from, depth)) = start
                && indent == depth
                && words == "}"
            {
                let length = number - from + 1;
                assert!(length <= FUNCTION_LINES, "{path}:{} has {length} lines", from + 1);
                start = None;
            }
        }
    }
}

#[test]
fn the_channel_diagram_has_the_channels_and_their_capacities() {
    let diagram = fs::read_to_string(root().join("src/pipeline/mod.rs")).expect("read");
    for (name, capacity) in tidemill::pipeline::CHANNELS {
        let arrow = format!("{name}: {capacity}");
        assert!(diagram.contains(&arrow), "the diagram has no arrow `{arrow}`");
    }
}

#[test]
fn each_side_effect_has_one_home() {
    for (what, home) in [
        ("process::exit(", "main.rs"),
        ("SELECT ", "ledger/sqlite/"),
        ("rusqlite", "ledger/sqlite/"),
        ("Sqlite::", "ledger/"),
        ("PoisonError", "sync.rs"),
        ("sqlite::", "ledger/"),
        ("libc::", "fs/sys.rs"),
        ("signal(SignalKind", "lifecycle/"),
        ("metrics::counter!", "observe/"),
        ("renameat", "fs/"),
        ("inotify", "source/local/"),
    ] {
        for (path, text) in sources().iter().filter(|(path, _)| !is_test(path)) {
            let mut lines = code(text).lines().filter(|line| !line.trim_start().starts_with("//"));
            let used = lines.any(|line| line.contains(what));
            let allowed = path.starts_with(home);
            assert!(!used || allowed, "{path} uses `{what}`, whose home is {home}");
        }
    }
}

/// Another store than a directory needs no change of these files.
#[test]
fn what_decides_about_sources_reaches_them_through_the_port() {
    let deciding = [
        "pipeline/intake/",
        "pipeline/process/claim.rs",
        "pipeline/process/read.rs",
        "pipeline/publish/dispose/",
        "protocol/disposal.rs",
        "protocol/eligibility.rs",
        "protocol/quarantine.rs",
        "protocol/retention.rs",
        "queries/quarantined.rs",
        "queries/retention",
        "service/retention.rs",
    ];
    let mut count = 0;
    for (path, text) in sources().iter().filter(|(path, _)| !is_test(path)) {
        if !deciding.iter().any(|begin| path.starts_with(begin)) {
            continue;
        }
        count += 1;
        let lines = code(text).lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in lines {
            let mut words = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            let own_way = words.find(|word| ["Dir", "Walk", "Local"].contains(word));
            assert_eq!(own_way, None, "{path}: {line}");
        }
    }
    assert!(count >= 15, "{count} files were read");
}

/// Each test executable links the whole program.
#[test]
fn the_tests_are_four_executables_at_most() {
    let entries = fs::read_dir(root().join("tests")).expect("list");
    let paths = entries.map(|entry| entry.expect("entry").path());
    let is_executable = |path: &PathBuf| {
        path.extension().is_some_and(|it| it == "rs") || path.join("main.rs").exists()
    };
    let count = paths.filter(is_executable).count();
    assert!((1..=4).contains(&count), "{count} executables");
}

#[test]
fn only_the_agreed_folders_are_at_the_top() {
    let agreed = ["src", "config", "tests", "benches", "deploy", ".ci"];
    let listed = std::process::Command::new("git").arg("ls-files").current_dir(root()).output();
    let Ok(listed) = listed else {
        return crate::prove::skipped("the folders", "there is no git");
    };
    if !listed.status.success() {
        return crate::prove::skipped("the folders", "this is no git repository");
    }
    for path in String::from_utf8_lossy(&listed.stdout).lines() {
        if let Some((folder, _)) = path.split_once('/') {
            assert!(agreed.contains(&folder), "{path}");
        }
    }
}

#[test]
fn nothing_is_left_open_in_the_text() {
    let words =
        ["TO", "FIX"].map(|begin| format!("{begin}{}", if begin == "TO" { "DO" } else { "ME" }));
    for (path, text) in sources() {
        for word in words.iter().map(String::as_str).chain(["unimplemented!(", "todo!("]) {
            assert!(!text.contains(word), "{path} has {word}");
        }
    }
}

#[test]
fn every_failpoint_is_named_and_every_name_is_met() {
    let mut met = BTreeSet::new();
    for (path, text) in sources() {
        if PathBuf::from(&path).ends_with("failpoint.rs") {
            continue;
        }
        for begin in ["hit", "pass", "barrier", "is_skipped"] {
            let begin = format!("failpoint::{begin}(\"");
            let names = text.split(&begin).skip(1).filter_map(|rest| rest.split('"').next());
            met.extend(names.map(str::to_owned));
        }
    }
    // One that only stalls the watch; it is no place for a kill.
    met.remove("discover::event");
    let named = tidemill::failpoint::NAMES.iter().chain(&tidemill::failpoint::RECOVERY_NAMES);
    let named = named.chain(&tidemill::failpoint::DETOUR_NAMES);
    let named = named.chain(&tidemill::failpoint::STORE_NAMES);
    let named = named.chain(&tidemill::failpoint::SIDE_FILE_NAMES);
    let named = named.chain(&tidemill::failpoint::RETENTION_NAMES);
    let named = named.chain(&tidemill::failpoint::ERROR_NAMES);
    let named = named.chain(&tidemill::failpoint::BARRIERS).chain(&tidemill::failpoint::GATES);
    assert_eq!(met, named.map(|name| (*name).to_owned()).collect());
}

/// The first number after each of these words in a file.
fn seconds(path: &str, word: &str) -> Vec<u64> {
    let text = fs::read_to_string(root().join(path)).expect("read");
    let numbers = text.split(word).skip(1).map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_else(|_| panic!("{path}: no number after {word}"))
    });
    numbers.collect()
}

#[test]
fn every_supervisor_waits_longer_than_the_drain() {
    let deadline = tidemill::limits::SHUTDOWN_DEADLINE.as_secs();
    for (path, word, times) in [
        ("deploy/systemd/tidemill.service", "\nTimeoutStopSec=", 1),
        ("deploy/systemd/tidemill@.service", "\nTimeoutStopSec=", 1),
        ("deploy/kubernetes/deployment.yaml", "terminationGracePeriodSeconds: ", 1),
        ("deploy/kubernetes/statefulset.yaml", "terminationGracePeriodSeconds: ", 1),
        ("deploy/docker/compose.yaml", "stop_grace_period: ", 1),
        ("deploy/docker/Dockerfile", "--stop-timeout ", 1),
    ] {
        let found = seconds(path, word);
        assert_eq!(found.len(), times, "{path}: {word}");
        for given in found {
            assert!(
                given >= deadline + 5,
                "{path}: {word}{given}, and the drain may last {deadline} s"
            );
        }
    }
    // Where it is put in words.
    for path in ["systemd/tidemill.service", "docker/Dockerfile", "kubernetes/deployment.yaml"] {
        let text = fs::read_to_string(root().join("deploy").join(path)).expect("read");
        assert!(text.contains(&format!("{deadline} s")), "{path} has another deadline");
    }
}

/// What two languages have in common in one section.
#[derive(Debug, PartialEq, Eq)]
struct Skeleton {
    commands: Vec<String>,
    words_in_code: Vec<String>,
    /// Those of two digits or more: a small one may be a word in one language.
    numbers_in_prose: Vec<String>,
    figures_of_rows: Vec<Vec<String>>,
}

fn skeleton(path: &str) -> Vec<Skeleton> {
    let text = fs::read_to_string(root().join(path)).expect("read");
    let sections = text.split("\n## ").map(|section| {
        let command = |line: &str| {
            let line = line.strip_prefix("    ")?.split(" # ").next()?.trim_end();
            (!line.trim_start().starts_with('#') && !line.is_empty()).then(|| line.to_owned())
        };
        let commands: Vec<String> = section.lines().filter_map(command).collect();
        let is_command = |line: &&str| line.starts_with("    ");
        let prose: String = section.lines().filter(|line| !is_command(line)).collect();
        let mut words: Vec<String> =
            prose.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        words.sort();
        let figures =
            section.lines().filter(|line| line.starts_with('|')).map(|row| numbers(row, 1));
        let is_prose = |line: &&str| !is_command(line) && !line.starts_with('|');
        let lines: Vec<&str> = section.lines().filter(is_prose).collect();
        Skeleton {
            commands,
            words_in_code: words,
            numbers_in_prose: numbers(&lines.join(" "), 2),
            figures_of_rows: figures.collect(),
        }
    });
    sections.collect()
}

/// The numbers of a text that have at least this number of digits, in order.
fn numbers(text: &str, digits: usize) -> Vec<String> {
    let is_inside = |letter: char| letter.is_ascii_digit() || ".,".contains(letter);
    let parts = text.split(|letter| !is_inside(letter)).map(|part| part.trim_matches(['.', ',']));
    let count = |part: &&str| part.chars().filter(char::is_ascii_digit).count() >= digits;
    let mut found: Vec<String> = parts.filter(count).map(str::to_owned).collect();
    found.sort();
    found
}

#[test]
fn the_chinese_readme_is_in_step_with_the_english_one() {
    let (english, chinese) = (skeleton("README.md"), skeleton("README.zh.md"));
    assert!(english.iter().map(|section| section.commands.len()).sum::<usize>() > 8);
    for (number, (one, other)) in english.iter().zip(&chinese).enumerate() {
        assert_eq!(one, other, "section {number}");
    }
    assert_eq!(english.len(), chinese.len(), "sections");
    for (path, other) in [("README.md", "(README.zh.md)"), ("README.zh.md", "(README.md)")] {
        let text = fs::read_to_string(root().join(path)).expect("read");
        assert!(text.contains(other), "{path} links no {other}");
    }
}

#[test]
fn a_test_that_cannot_run_is_reported_in_one_way() {
    let texts = words::texts_of(&["tests"]);
    let prints = |text: &str| text.contains(concat!("(\"SKIP", "PED"));
    let found =
        texts.iter().filter(|(name, text)| words::has_extension(name, "rs") && prints(text));
    let found: Vec<_> = found.map(|(name, _)| name.as_str()).collect();
    assert_eq!(found, ["tests/support/prove.rs"], "`PROVE_ALL` makes only its skips a failure");
}

#[test]
fn a_key_is_declared_in_one_file_and_used_in_another() {
    let directories = ["src/config", "src/cli", "tests/config", "tests/packaging/deploy"];
    let files = directories.iter().flat_map(|dir| fs::read_dir(root().join(dir)).expect("list"));
    let files: Vec<PathBuf> = files.map(|entry| entry.expect("entry").path()).collect();
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    // What `TIDEMILL_BLESS` writes, and a case of another fault, with a key.
    let made = ["bad_keys", "unknown_keys", "wrong_types", "tests/config/hooks"];
    for key in ["backoff", "batch_delay", "min_size", "max_ratio"] {
        let has_it = |file: &&PathBuf| {
            let content = fs::read_to_string(file).expect("read");
            content.split(|letter| !is_word(letter)).any(|word| word == key)
        };
        let is_made =
            |file: &&PathBuf| made.iter().any(|name| file.to_string_lossy().contains(name));
        let named = files.iter().filter(|file| file.is_file() && !is_made(file)).filter(has_it);
        let named: Vec<_> = named
            .map(|file| file.strip_prefix(root()).expect("below").display().to_string())
            .collect();
        let (declared, others): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|file| file == "src/config/keys.rs");
        assert_eq!(declared.len(), 1, "{key}");
        // Its use in the configuration itself, if there is one.
        let used =
            others.iter().filter(|file| !file.starts_with("tests/config/bad_values")).count();
        assert!(used <= 1, "{key}: {others:?}");
    }
}
