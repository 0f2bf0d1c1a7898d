//! The project's own rules, held by reading its source.

#![expect(clippy::expect_used, reason = "a test fails by a panic")]

mod spelling;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 70;
/// Modules of layer 1 and below, and the layer of each.
const LAYERS: [(&str, u32); 25] = [
    ("cli", 8),
    ("service", 7),
    ("http", 6),
    ("queries", 5),
    ("recovery", 5),
    ("pipeline", 5),
    ("protocol", 3),
    ("exec", 3),
    ("hooks", 3),
    ("source", 2),
    ("sink", 2),
    ("config", 1),
    ("sandbox", 1),
    ("fs", 1),
    ("ledger", 1),
    ("observe", 1),
    ("error", 0),
    ("failpoint", 0),
    ("fingerprint", 0),
    ("limits", 0),
    ("patience", 0),
    ("policy", 0),
    ("reason", 0),
    ("stage", 0),
    ("transforms", 0),
];
/// Within `pipeline`: stages are of layer 4, what they share of layer 3.
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

/// `tidemill-lifecycle` is for other services too, and what the layers below 3 share needs no start and stop.
#[test]
fn the_lifecycle_uses_nothing_of_tidemill_and_the_lowest_layers_nothing_of_it() {
    let mut count = 0;
    for (path, text) in sources() {
        if path.starts_with("lifecycle/") {
            assert!(!text.contains("tidemill::"), "{path} names tidemill");
            // Its files name one another by `super::`, where circles are found.
            assert!(is_test(&path) || imports(&text).is_empty(), "{path} names `crate::`");
            count += 1;
        } else if path.split(['/', '.']).next().and_then(layer).is_some_and(|layer| layer < 3) {
            assert!(!text.contains("tidemill_lifecycle"), "{path} names the lifecycle");
        }
    }
    assert!(count > 8, "{count} files of the lifecycle were read");
    let manifest = fs::read_to_string(root().join("src/lifecycle/Cargo.toml")).expect("read");
    let names = manifest.lines().filter(|line| line.starts_with("tidemill"));
    assert_eq!(names.count(), 0, "the lifecycle depends on tidemill");
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
    let lines = code(text).lines().filter(|line| !line.trim_start().starts_with("//"));
    let text = lines.collect::<Vec<_>>().join("\n");
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder).replace('/', "::");
    let begins = ["super::".to_owned(), format!("crate::{folder}::")];
    let is_named = |name: &str| {
        begins.iter().any(|begin| {
            text.split(begin.as_str()).skip(1).any(|rest| {
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

/// The paths of a tree of imports.
fn paths_of(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let mut depth = 0_usize;
    let ends_item = |letter: char| {
        depth = match letter {
            '{' => depth + 1,
            '}' => depth.saturating_sub(1),
            _ => depth,
        };
        letter == ',' && depth == 0
    };
    for item in tree.split(ends_item).map(str::trim).filter(|item| !item.is_empty()) {
        match item.split_once('{') {
            Some((parent, group)) => {
                let group = group.strip_suffix('}').expect("the end of a group");
                paths_of(&format!("{prefix}{parent}"), group, found);
            }
            None => found.push(format!("{prefix}{item}")),
        }
    }
}

/// The items that a folder's `mod.rs` passes on, and the files that they are from.
fn passed_on(text: &str) -> BTreeMap<String, String> {
    let mut paths = Vec::new();
    for part in code(text).split("\npub").skip(1) {
        let part = part.strip_prefix("(crate)").or(part.strip_prefix("(super)")).unwrap_or(part);
        if let Some(tree) = part.strip_prefix(" use ").and_then(|rest| rest.split(';').next()) {
            paths_of("", tree, &mut paths);
        }
    }
    let item = |path: &String| {
        let path = path.strip_prefix("self::").unwrap_or(path);
        let (file, rest) = path.split_once("::")?;
        let name = rest.rsplit(['\u{20}', ':']).next()?;
        Some((name.to_owned(), file.to_owned()))
    };
    paths.iter().filter_map(item).collect()
}

/// Of two files of one folder at most one names the other, however long the way, and whether it names
/// the file or what `mod.rs` passes on of it.
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
        let mut names: BTreeMap<&str, &str> =
            files.iter().map(|(_, name, _)| (*name, *name)).collect();
        let parent = sources.iter().find(|(path, _)| *path == format!("{folder}/mod.rs"));
        let passed_on = parent.map(|(_, text)| passed_on(text)).unwrap_or_default();
        let is_file = |file: &str| files.iter().any(|(_, name, _)| *name == file);
        let items = passed_on.iter().filter(|(_, file)| is_file(file));
        names.extend(items.map(|(item, file)| (item.as_str(), file.as_str())));
        let words: Vec<&str> = names.keys().copied().collect();
        let mut left: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (path, name, text) in &files {
            let named = siblings(path, text, &words).into_iter().filter_map(|word| names.get(word));
            left.insert(name, named.copied().filter(|other| other != name).collect());
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
        ("inotify", "source/local/"),
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

#[test]
fn only_the_agreed_folders_are_at_the_top() {
    let agreed = ["src", "config", "tests", "benches", "deploy", ".ci"];
    let listed = std::process::Command::new("git").arg("ls-files").current_dir(root()).output();
    let listed = listed.expect("git");
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

/// The calls of `tracing` in the code, each with its file and its arguments.
fn log_calls() -> Vec<(String, String)> {
    let mut calls = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| !is_test(path)) {
        for part in code(text).split("tracing::").skip(1) {
            let Some((level, arguments)) = part.split_once("!(") else { continue };
            if !["error", "warn", "info", "debug", "trace"].contains(&level) {
                continue;
            }
            let (mut depth, mut is_quoted, mut last) = (1, false, ' ');
            let end = arguments.find(|letter| {
                is_quoted ^= letter == '"' && last != '\\';
                last = letter;
                match letter {
                    '(' if !is_quoted => depth += 1,
                    ')' if !is_quoted => depth -= 1,
                    _ => {}
                }
                depth == 0
            });
            calls.push((path.clone(), arguments[..end.expect("its end")].to_owned()));
        }
    }
    calls
}

#[test]
fn a_log_line_is_one_event_in_at_most_ten_words_and_names_its_source() {
    let calls = log_calls();
    assert!(calls.len() > 100, "{} calls", calls.len());
    for (path, arguments) in calls {
        let event = arguments.split("event = ").nth(1).and_then(|rest| rest.split('"').nth(1));
        let event = event.unwrap_or_else(|| panic!("{path}: no event: {arguments}"));
        let message = arguments.trim_end().trim_end_matches(',').rsplit('"').nth(1);
        let words = message.expect("a message").split_whitespace().count();
        assert!(words <= 10, "{path}: {words} words: {arguments}");
        let has_source = arguments.contains(" source = ") || arguments.contains(" source,");
        assert!(has_source || !event.starts_with("file."), "{path}: no source: {arguments}");
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
fn the_recipe_for_a_key_names_every_file_that_has_one() {
    let text = fs::read_to_string(root().join("CONTRIBUTING.md")).expect("the recipes");
    let recipe = text.split("**Add a configuration key.**").nth(1).expect("a recipe");
    let mut files: Vec<PathBuf> = ["src/config", "tests/config", "tests/packaging/deploy"]
        .iter()
        .flat_map(|dir| fs::read_dir(root().join(dir)).expect("list"))
        .map(|entry| entry.expect("entry").path())
        .collect();
    files.extend(["config/tidemill.toml", "REFERENCE.md"].map(|path| root().join(path)));
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    for (key, least) in [("attempts", 9), ("backoff", 7), ("shutdown_deadline", 8)] {
        let mut named = 0;
        for file in files.iter().filter(|file| file.is_file()) {
            let content = fs::read_to_string(file).expect("read");
            let path = file.strip_prefix(root()).expect("below").to_string_lossy();
            // A case of another fault, with this key.
            if !content.split(|letter| !is_word(letter)).any(|word| word == key)
                || path.contains("wrong_types")
            {
                continue;
            }
            assert!(recipe.contains(&format!("`{path}`")), "{path} has `{key}`");
            named += 1;
        }
        assert!(named >= least, "{key}: {named} files");
    }
}
