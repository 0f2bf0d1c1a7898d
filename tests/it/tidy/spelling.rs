//! The spelling of documents and comments, by the dictionaries of Debian's hunspell, which need no network.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    process::{Command, Stdio},
};

use super::{
    root,
    words::{has_extension, texts_of},
};
use crate::prove;

/// Words that are right and in no dictionary: terms of the field, and names of other programs.
const LIST: &str = "tests/it/tidy/spelling.txt";
/// Both are English; a document keeps to one of them.
const DICTIONARIES: &str = "en_US,en_GB";

/// The prose of a document or of a Rust file's comments, without blocks of code.
fn prose(name: &str, text: &str) -> String {
    let mut kept = String::new();
    let mut is_code = false;
    for line in text.lines() {
        let line = if has_extension(name, "md") {
            // An indented block is code.
            if line.starts_with("    ") { "" } else { line }
        } else {
            let comment = line.trim_start().strip_prefix("//");
            comment.unwrap_or_default().trim_start_matches(['/', '!'])
        };
        is_code ^= line.trim_start().starts_with("```");
        if !is_code {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    kept
}

/// The line without the targets of its links.
fn without_targets(line: &str) -> String {
    let mut parts = line.split("](");
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.map(|part| part.split_once(')').map_or("", |(_, rest)| rest));
    rest.fold(first, |line, rest| line + "]" + rest)
}

/// The words in small letters only, outside of backquotes and links: others are names. Each with its line.
fn words(prose: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut is_quoted = false;
    for (number, line) in prose.lines().enumerate() {
        // Backquotes do not reach over the end of a paragraph.
        is_quoted &= !line.trim().is_empty();
        for (index, part) in without_targets(line).split('`').enumerate() {
            is_quoted ^= index > 0;
            if is_quoted {
                continue;
            }
            let is_part = |letter: char| letter.is_alphanumeric() || "_'.:/@<>#".contains(letter);
            for word in part.split(|letter| !is_part(letter)) {
                let word = word.trim_matches(|letter: char| !letter.is_alphanumeric());
                let is_word = |letter: char| letter.is_ascii_lowercase() || letter == '\'';
                if !word.is_empty() && word.chars().all(is_word) {
                    found.push((number + 1, word.to_owned()));
                }
            }
        }
    }
    found
}

/// The words that no dictionary has; none without hunspell.
fn unknown(words: impl Iterator<Item = String>) -> Option<Vec<String>> {
    let mut child = Command::new("hunspell")
        .args(["-l", "-i", "utf-8", "-d", DICTIONARIES])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let input = words.collect::<Vec<_>>().join("\n");
    let mut stdin = child.stdin.take().expect("its input");
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let ended = child.wait_with_output().expect("its output");
    writer.join().expect("the writer").expect("all is written");
    // It succeeds without a dictionary, too.
    let has_both = ended.status.success() && ended.stderr.is_empty();
    has_both.then(|| String::from_utf8_lossy(&ended.stdout).lines().map(str::to_owned).collect())
}

#[test]
fn words_are_those_of_prose() {
    let text = "A wrod, `cdoe` and\n    blcok\n[lnk](trget) isn't 2nd-hand foo_bar.\n";
    let found: Vec<String> =
        words(&prose("a.md", text)).into_iter().map(|(_, word)| word).collect();
    assert_eq!(found, ["wrod", "and", "lnk", "isn't", "hand"]);
    let code =
        "let wrod = 1; // no comment of a line\n/// A wrod\n/// ```\n/// let cdoe = 1;\n/// ```\n";
    assert_eq!(words(&prose("a.rs", code)), [(2, "wrod".to_owned())]);
}

#[test]
fn documents_and_comments_are_spelled_as_in_a_dictionary_or_in_our_list() {
    let list = fs::read_to_string(root().join(LIST)).expect("the list");
    let list: Vec<&str> = list.lines().collect();
    assert!(list.is_sorted(), "{LIST} is not in order");
    let mut places = BTreeMap::<String, String>::new();
    let texts = texts_of(&["src", "tests", "benches", "deploy", "."]);
    let is_read = |name: &str| has_extension(name, "md") || has_extension(name, "rs");
    for (name, text) in texts.iter().filter(|(name, _)| is_read(name)) {
        for (line, word) in words(&prose(name, text)) {
            places.entry(word).or_insert_with(|| format!("{name}:{line}"));
        }
    }
    assert!(places.len() > 2000, "{} words", places.len());
    let Some(unknown) = unknown(places.keys().cloned()) else {
        return prove::skipped("spelling", "hunspell, hunspell-en-us or hunspell-en-gb is missing");
    };
    let found: Vec<_> = unknown
        .iter()
        .filter(|word| list.binary_search(&word.as_str()).is_err())
        .map(|word| format!("{}: {word}", places.get(word).map_or("", String::as_str)))
        .collect();
    assert!(found.is_empty(), "correct them, or add them to {LIST}:\n{}", found.join("\n"));
}
