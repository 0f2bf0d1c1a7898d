//! Words that must not come back: plain English has a better one, or what they named has another name.

use std::{fs, path::Path};

use super::root;

/// Words and phrases of comments, messages and documents, and what to write in place of each. A part
/// of a name in code counts: `told_at`.
const PHRASES: [(&str, &str); 37] = [
    ("anew", "again"),
    ("another hand", "another process, an operator"),
    ("another hands", "of another process, of an operator"),
    ("at work", "running, busy"),
    ("beside", "next to, alongside"),
    ("besides", "in addition to, also, except"),
    ("by itself", "automatically, on its own, alone"),
    ("desk", "state"),
    ("doubtful", "questionable"),
    ("for ever", "indefinitely"),
    ("for so long", "for that long"),
    ("gives back", "returns"),
    ("goes its way", "passes the stages"),
    ("in work", "in flight"),
    ("kin", "sibling"),
    ("last words", "stderr tail"),
    ("mend", "fix, repair"),
    ("mended", "fixed, repaired"),
    ("mends", "fixes, repairs"),
    ("once more", "again"),
    ("said", "logged, printed, reported, returned"),
    ("sick", "unavailable"),
    ("sighting", "observation"),
    ("so many", "up to N"),
    ("so much", "at most N bytes"),
    ("stands still", "stalls"),
    ("standstill", "stall"),
    ("stranger", "another user or program"),
    ("taken up", "resumed, picked up"),
    ("tell", "report, log, notify"),
    ("tells", "reports, logs, notifies"),
    ("told", "reported, logged, notified"),
    ("what became of", "the outcome of, the state of"),
    ("who has", "with"),
    ("who knows", "with"),
    ("whoever", "the operator, the producer, the caller"),
    ("whosoever", "the operator, the producer, the caller"),
];

/// Names of types that were replaced.
const NAMES: [(&str, &str); 30] = [
    ("Bell", "WakeHandle"),
    ("Candidates", "Discovery"),
    ("Cause", "FailureCause of a transform, OutcomeCause of a record"),
    ("Desk", "ApiState"),
    ("Disposable", "DisposeRequest"),
    ("Door", "Transport"),
    ("Extent", "Coverage"),
    ("Feed", "OutcomeStream"),
    ("Fence", "SandboxGuard"),
    ("Follower", "SignalThread"),
    ("Handing", "Handoff"),
    ("Hold", "OperatorPause"),
    ("Hooked", "HookService"),
    ("Identity", "Fingerprint"),
    ("Instance", "NodeId"),
    ("Intended", "Intent"),
    ("Judge", "ProgressMonitor"),
    ("LastStop", "PreviousShutdown"),
    ("Life", "Heartbeats"),
    ("Means", "RecoveryContext"),
    ("Notice", "Outcome"),
    ("Patient", "WriteTimeout"),
    ("Place", "TestDir"),
    ("Roots", "PipelineDirs"),
    ("Sealed", "DurableBatch"),
    ("SharedEvents", "SharedOutcomeLog"),
    ("Sighting", "Observation"),
    ("Steer", "PipelineArgs"),
    ("Trust", "SourceRules"),
    ("Unwritten", "DirtyPages"),
];

/// Keys of JSON, of the log and of metrics that were replaced, as they stand in a line.
const KEYS: [(&str, &str); 11] = [
    (".held", ".paused"),
    ("\"held\"", "\"paused\""),
    ("file.left", "file.deferred"),
    ("files_left", "files_deferred"),
    ("held_since", "paused[].since"),
    ("in_work", "in_flight"),
    ("left_bytes", "unfinished_bytes"),
    ("left_files", "unfinished_files"),
    ("left_for_the_next_start", "unfinished"),
    ("left_more", "files_deferred, not_scanned"),
    ("tidemill_held", "tidemill_paused"),
];

/// A file in which a word is a name that is not ours.
const EXCEPTIONS: [(&str, &str); 1] = [("benches/compare", "tell")];

/// What is read: the program with its page, the configuration, what is shipped, the tests, the documents.
const READ: [&str; 7] = ["src", "config", "deploy", "benches", "tests", ".ci", "."];
/// The Chinese document has none of these words; this file has them all.
const NOT_READ: [&str; 2] = ["README.zh.md", "tests/it/tidy/words.rs"];

fn texts() -> Vec<(String, String)> {
    texts_of(&READ)
}

/// Every text file of these folders, by its path below the root; of the root itself only the documents.
pub(super) fn texts_of(dirs: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut pending: Vec<_> = dirs.iter().map(|dir| root().join(dir)).collect();
    while let Some(dir) = pending.pop() {
        let is_top = dir == root().join(".");
        for path in fs::read_dir(&dir).expect("list").map(|entry| entry.expect("entry").path()) {
            if path.is_dir() {
                let is_ours = !path.ends_with("node_modules") && !path.ends_with("target");
                pending.extend((is_ours && !is_top).then_some(path));
                continue;
            }
            let is_document = path.extension().is_some_and(|extension| extension == "md");
            let name = path.strip_prefix(root()).expect("below").to_string_lossy().into_owned();
            let name = name.trim_start_matches("./").to_owned();
            if NOT_READ.contains(&name.as_str()) || (is_top && !is_document) {
                continue;
            }
            // What is no text has no words.
            if let Ok(text) = fs::read_to_string(&path) {
                found.push((name, text));
            }
        }
    }
    found.sort();
    found
}

/// The words of a text, each with its line. An empty one stands where a sentence or a name is broken,
/// so that no phrase reaches over it; the marks of comments and `_` do not break one. What a proof printed once
/// is quoted as it was.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let lines = text.lines().enumerate();
    for (number, line) in lines.filter(|(_, line)| !line.trim_start().starts_with("proved: ")) {
        let line = line.trim_start().trim_start_matches(['/', '!', '#', '*', '|', '>']);
        let mut word = String::new();
        for letter in line.trim_end_matches('\\').chars().chain([' ']) {
            if letter.is_alphanumeric() {
                word.extend(letter.to_lowercase());
                continue;
            }
            if !word.is_empty() {
                found.push((number + 1, std::mem::take(&mut word)));
            }
            if letter != '_' && !letter.is_whitespace() {
                found.push((number + 1, String::new()));
            }
        }
    }
    found
}

/// The lines in which a phrase begins.
fn lines_of(phrase: &str, words: &[(usize, String)]) -> Vec<usize> {
    let parts: Vec<&str> = phrase.split(' ').collect();
    let begins = words
        .windows(parts.len())
        .filter(|window| window.iter().zip(&parts).all(|((_, word), part)| word == part));
    begins.filter_map(|window| window.first()).map(|(line, _)| *line).collect()
}

#[test]
fn phrases_are_found_in_comments_names_and_over_the_ends_of_lines() {
    let text = "/// Told twice, and by\n/// itself.\nlet is_told = \"so \\\n    many\";\nbeside_s so. Many told-tales\nfn one_at_work() {}";
    let words = words(text);
    assert_eq!(lines_of("told", &words), [1, 3, 5]);
    assert_eq!(lines_of("by itself", &words), [1]);
    assert_eq!(lines_of("so many", &words), [3]);
    assert_eq!(lines_of("at work", &words), [6]);
    assert_eq!(lines_of("besides", &words), [0; 0]);
}

#[test]
fn no_word_is_used_that_was_replaced() {
    let texts = texts();
    assert!(texts.len() > 200, "{} files were read", texts.len());
    let mut found = Vec::new();
    for (path, text) in &texts {
        let words = words(text);
        let is_ours = |phrase: &str| !EXCEPTIONS.contains(&(path.as_str(), phrase));
        for (phrase, better) in PHRASES.into_iter().filter(|(phrase, _)| is_ours(phrase)) {
            for line in lines_of(phrase, &words) {
                found.push(format!("{path}:{line}: \"{phrase}\": write {better}"));
            }
        }
    }
    assert!(found.is_empty(), "{} words to replace:\n{}", found.len(), found.join("\n"));
}

/// Whether the line has the key, alone or as a part of a longer one that `_` joins.
fn has_key(line: &str, key: &str) -> bool {
    let is_end = |letter: Option<char>| letter.is_none_or(|letter| !letter.is_alphanumeric());
    line.match_indices(key).any(|(at, _)| {
        let (before, after) = (line.get(..at), line.get(at + key.len()..));
        let before = before.filter(|_| key.starts_with(char::is_alphanumeric));
        is_end(before.and_then(|before| before.chars().next_back()))
            && is_end(after.and_then(|after| after.chars().next()))
    })
}

#[test]
fn no_key_is_used_that_was_replaced() {
    assert!(has_key("oldest_in_work_seconds", "in_work") && has_key("one.held)", ".held"));
    assert!(!has_key("main_workers", "in_work") && !has_key("one.heldSource", ".held"));
    let mut found = Vec::new();
    for (path, text) in &texts() {
        for (number, line) in text.lines().enumerate() {
            let replaced = KEYS.into_iter().filter(|(key, _)| has_key(line, key));
            found.extend(
                replaced.map(|(key, now)| format!("{path}:{}: {key} is {now} now", number + 1)),
            );
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Where `Identity` is the secret key of the library `age`.
const AGE_PLACES: [&str; 2] = ["src/transforms/age/", "tests/it/age"];

#[test]
fn no_type_has_a_name_that_was_replaced() {
    let mut found = Vec::new();
    for (path, text) in texts().iter().filter(|(path, _)| has_extension(path, "rs")) {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let mut names = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            let replaced = names.find_map(|name| NAMES.iter().find(|(old, _)| *old == name));
            let is_of_age = AGE_PLACES.iter().any(|place| path.starts_with(place));
            let replaced = replaced.filter(|(old, _)| *old != "Identity" || !is_of_age);
            if let Some((old, new)) = replaced {
                found.push(format!("{path}:{}: {old} is {new} now", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_files_that_documents_and_comments_name_exist() {
    let mut count = 0;
    for (path, text) in texts() {
        for (number, line) in text.lines().enumerate() {
            for quoted in line.split('`').skip(1).step_by(2) {
                let named = quoted.split([' ', ':']).next().unwrap_or_default();
                let is_ours = ["src/", "tests/", "config/", "deploy/", "benches/"];
                // Those in capitals stand for a name.
                let is_pattern = named.contains(['*', '{', '<', '…'])
                    || named.chars().any(|letter| letter.is_ascii_uppercase())
                        && !has_extension(named, "md");
                if is_ours.iter().any(|begin| named.starts_with(begin)) && !is_pattern {
                    let is_found =
                        ["", "src"].iter().any(|top| root().join(top).join(named).exists());
                    assert!(is_found, "{path}:{}: there is no {named}", number + 1);
                    count += 1;
                }
            }
        }
    }
    assert!(count > 20, "{count} paths were read");
}

pub(super) fn has_extension(path: &str, wanted: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == wanted)
}
