//! The project's own rules, held by reading its source.

#![expect(clippy::expect_used, reason = "a test fails by a panic")]

mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 70;
/// Modules of layer 1 and below, and the layer of each.
const LAYERS: [(&str, u32); 23] = [
    ("cli", 7),
    ("service", 6),
    ("http", 5),
    ("queries", 4),
    ("recovery", 4),
    ("pipeline", 4),
    ("protocol", 2),
    ("hooks", 2),
    ("codec", 1),
    ("config", 1),
    ("sandbox", 1),
    ("fs", 1),
    ("ledger", 1),
    ("lifecycle", 1),
    ("observe", 1),
    ("error", 0),
    ("failpoint", 0),
    ("fingerprint", 0),
    ("limits", 0),
    ("patience", 0),
    ("policy", 0),
    ("stage", 0),
    ("transforms", 0),
];
/// Within `pipeline`: stages are of layer 3, what they share of layer 2.
const STAGES: [&str; 8] =
    ["discover", "settle", "claim", "read", "transform", "write", "commit", "dispose"];

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

fn layer(module: &str) -> Option<u32> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// The modules of the crate that a file names after `crate::`, in paths and in grouped imports.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in code(text).split("crate::").skip(1) {
        if let Some(group) = part.strip_prefix('{') {
            let mut depth = 1;
            let mut word = String::new();
            let mut at_start = true;
            for letter in group.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => at_start = true,
                    letter
                        if depth == 1
                            && at_start
                            && (letter.is_alphanumeric() || letter == '_') =>
                    {
                        word.push(letter);
                        continue;
                    }
                    _ => {}
                }
                if !word.is_empty() {
                    found.insert(std::mem::take(&mut word));
                    at_start = false;
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            let end = part.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
            found.insert(part.split_at(end.unwrap_or(part.len())).0.to_owned());
        }
    }
    found
}

#[test]
fn imports_point_down_only() {
    for (path, text) in sources().iter().filter(|(path, _)| !is_test(path)) {
        let module = path.split(['/', '.']).next().expect("a first part");
        let Some(own) = layer(module) else { continue };
        for import in imports(text) {
            let Some(other) = layer(&import) else { continue };
            // Layer 0 is one set of words.
            let is_equal = own == other && own == 0;
            assert!(import == module || other < own || is_equal, "{path} imports {import}");
        }
    }
}

#[test]
fn sibling_stages_never_import_one_another() {
    for (path, text) in sources().iter().filter(|(path, _)| !is_test(path)) {
        let Some(stage) = STAGES.iter().find(|stage| {
            path.split(['/', '.']).any(|part| part == **stage) && path.starts_with("pipeline/")
        }) else {
            continue;
        };
        for other in STAGES.iter().filter(|other| *other != stage) {
            let named = code(text).lines().filter(|line| !line.trim_start().starts_with("//"));
            let mut named = named.filter(|line| {
                [
                    format!("intake::{other}"),
                    format!("process::{other}"),
                    format!("publish::{other}"),
                ]
                .iter()
                .any(|name| line.contains(name.as_str()))
            });
            assert_eq!(named.next(), None, "{path} is {stage} and names {other}");
        }
    }
}

/// The sibling modules that a file names after `super::`, or after the path of their folder.
fn siblings<'a>(path: &str, text: &str, names: &[&'a str]) -> Vec<&'a str> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder).replace('/', "::");
    let begins = ["super::".to_owned(), format!("crate::{folder}::")];
    let is_named = |name: &str| {
        begins.iter().any(|begin| {
            code(text).split(begin.as_str()).skip(1).any(|rest| {
                // A group has its items up to its end; of deeper ones only the first word counts.
                let items = rest.strip_prefix('{').map_or(rest, |group| group);
                let end = if rest.starts_with('{') { items.find(';') } else { None };
                let items = &items[..end.unwrap_or_else(|| items.find([';', '(']).unwrap_or(0))];
                let mut depth = 0;
                items.split_inclusive([',', '{', '}']).any(|part| {
                    let word = part.trim().trim_end_matches([',', '{', '}']);
                    let is_it = depth == 0 && word.split("::").next() == Some(name);
                    depth += part.matches('{').count();
                    depth = depth.saturating_sub(part.matches('}').count());
                    is_it
                })
            })
        })
    };
    names.iter().copied().filter(|name| is_named(name)).collect()
}

/// Of two files of one folder at most one names the other, however long the way.
#[test]
fn no_files_of_one_folder_name_one_another_in_a_circle() {
    let sources = sources();
    let in_folder = |folder: &str| {
        let files = sources.iter().filter(|(path, _)| !is_test(path) && !path.ends_with("mod.rs"));
        let files = files.filter_map(|(path, text)| {
            let (of, name) = path.rsplit_once('/')?;
            (of == folder).then_some((path.as_str(), name.strip_suffix(".rs")?, text.as_str()))
        });
        files.collect::<Vec<_>>()
    };
    let folders: BTreeSet<&str> =
        sources.iter().filter_map(|(path, _)| Some(path.rsplit_once('/')?.0)).collect();
    let mut edges = 0;
    for folder in folders {
        let files = in_folder(folder);
        let names: Vec<&str> = files.iter().map(|(_, name, _)| *name).collect();
        let mut left: BTreeMap<&str, Vec<&str>> =
            files.iter().map(|(path, name, text)| (*name, siblings(path, text, &names))).collect();
        for (name, named) in &mut left {
            named.retain(|other| other != name);
        }
        edges += left.values().map(Vec::len).sum::<usize>();
        // A file that names none of the rest is in no circle.
        while let Some(free) = left
            .iter()
            .find(|(_, named)| named.iter().all(|other| !left.contains_key(other)))
            .map(|(name, _)| *name)
        {
            left.remove(free);
        }
        assert!(left.is_empty(), "a circle in {folder}: {left:?}");
    }
    assert!(edges > 60, "{edges} imports between files of one folder were read");
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
        ("libc::", "fs/sys.rs"),
        ("signal(SignalKind", "lifecycle/"),
        ("metrics::counter!", "observe/"),
        ("renameat", "fs/"),
        ("inotify", "pipeline/intake/discover/"),
    ] {
        for (path, text) in sources().iter().filter(|(path, _)| !is_test(path)) {
            let mut lines = code(text).lines().filter(|line| !line.trim_start().starts_with("//"));
            let used = lines.any(|line| line.contains(what));
            let allowed =
                path.starts_with(home) || (what == "libc::" && path.ends_with("watch.rs"));
            assert!(!used || allowed, "{path} uses `{what}`, whose home is {home}");
        }
    }
}

#[test]
fn only_the_agreed_folders_are_at_the_top() {
    let agreed = ["src", "config", "tests", "benches", "deploy", ".ci"];
    let listed = std::process::Command::new("git").arg("ls-files").current_dir(root()).output();
    let listed = listed.expect("git");
    if !listed.status.success() {
        println!("SKIPPED: this is no git repository, so nobody knows which folders are its own");
        return;
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
fn whoever_stops_the_service_waits_longer_than_its_drain() {
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
    // Where it is said in words.
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
        let prose: String = section.lines().filter(|line| !line.starts_with("    ")).collect();
        let mut words: Vec<String> =
            prose.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        words.sort();
        let figures = section.lines().filter(|line| line.starts_with('|')).map(|row| {
            let numbers = row.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
            let mut numbers: Vec<String> = numbers
                .map(|number| number.trim_matches('.').to_owned())
                .filter(|number| !number.is_empty())
                .collect();
            numbers.sort();
            numbers
        });
        Skeleton { commands, words_in_code: words, figures_of_rows: figures.collect() }
    });
    sections.collect()
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
