//! What follows from the declarations of the keys: rows of the reference, lines of the annotated file, and
//! values that are refused. `TIDEMILL_BLESS=1` writes them.

use std::{env, fs, path::Path};

use tidemill::config::{Facts, Key, KeyTable, tables};

/// The tables of which the annotated file shows each default.
const SHOWN: [&str; 5] = ["Top level", "[limits]", "[retention]", "[hooks]", "[[pipeline]]"];

pub fn blesses() -> bool {
    env::var_os("TIDEMILL_BLESS").is_some()
}

/// Compares a file with what it should be, after writing that if it is to be blessed.
fn compare(file: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if blesses() {
        fs::write(&path, expected).expect("blessed");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{file} differs from the declarations of the keys");
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect(file)
}

/// The annotated file as it is now: a test that blesses may have written it since this one was built.
pub fn annotated() -> String {
    read("config/tidemill.toml")
}

/// The keys with a kind, of one table.
fn with_kinds(keys: &'static [Key]) -> impl Iterator<Item = (&'static Key, Facts)> {
    keys.iter().filter_map(|key| Some((key, key.facts?)))
}

/// A key's row in the reference. Only pipelines can change while the service runs.
fn row(heading: &str, key: &Key, facts: Facts) -> String {
    let Facts { kind, meaning, unset, .. } = facts;
    let default = key.default.map_or(unset.to_owned(), |default| format!("`{default}`"));
    let reload = if heading == "[[pipeline]]" { "yes" } else { "no" };
    format!("| `{}` | {kind} | {default} | {reload} | {meaning} |", key.name)
}

#[test]
fn the_reference_has_a_row_for_each_key() {
    let mut reference = read("REFERENCE.md");
    for (heading, table) in tables() {
        let title = if heading.starts_with('[') { format!("`{heading}`") } else { heading.clone() };
        let begin = reference.find(&format!("\n### {title}\n")).expect(&title);
        let rows_at = begin + reference[begin..].find("\n| `").expect("rows") + 1;
        let length = reference[rows_at..].find("\n\n").expect("an end") + 1;
        let old = reference[rows_at..rows_at + length].to_owned();
        let rows = table.keys.iter().filter(|key| !key.help.is_empty()).map(|key| {
            let found = old.lines().find(|row| row.starts_with(&format!("| `{}` |", key.name)));
            match key.facts {
                Some(facts) => row(&heading, key, facts),
                None => found.unwrap_or_else(|| panic!("no row for `{}`", key.name)).to_owned(),
            }
        });
        let rows: String = rows.map(|row| row + "\n").collect();
        reference.replace_range(rows_at..rows_at + length, &rows);
    }
    for key in tables().flat_map(|(_, table)| table.keys) {
        let Some(option) = key.option.filter(|option| option.starts_with("--")) else { continue };
        if !reference.contains(&format!("\n| `{option}` |")) {
            let at = reference.find("\n| `--verbose` |").expect("the options") + 1;
            reference.insert_str(at, &format!("| `{option}` | `{}` | |\n", key.name));
        }
    }
    compare("REFERENCE.md", &reference);
}

/// The keys that the annotated file shows with their default, in a comment.
pub fn keys_with_defaults() -> Vec<&'static str> {
    let shown = tables().filter(|(heading, _)| SHOWN.contains(&&**heading));
    let keys = shown.flat_map(|(_, table)| table.keys);
    // These are not in a comment.
    keys.filter(|key| key.default.is_some() && !["transforms", "on_success"].contains(&key.name))
        .map(|key| key.name)
        .collect()
}

/// A sentence in a comment of lines that fit, as the annotated file has them.
fn comment(text: &str) -> String {
    let mut lines = vec!["#".to_owned()];
    let (first, rest) = text.split_at(1);
    for word in format!("{}{rest}.", first.to_uppercase()).split(' ') {
        if lines.last().is_some_and(|line| line.len() + word.len() > 108) {
            lines.push("#".to_owned());
        }
        lines.last_mut().expect("a line").push_str(&format!(" {word}"));
    }
    lines.join("\n")
}

#[test]
fn the_annotated_file_shows_each_key_that_has_a_kind() {
    let mut file = annotated();
    for (_, table) in tables().filter(|(heading, _)| SHOWN.contains(&&**heading)) {
        let mut at = None;
        for (key, facts) in with_kinds(table.keys) {
            let assigned = format!("\n# {} = ", key.name);
            let named = format!("`{} = ", key.name);
            let found = file.find(&assigned).map(|found| found + 1).or_else(|| file.find(&named));
            if let Some(found) = found {
                at = Some(found + file[found..].find('\n').map_or(0, |end| end + 1));
                continue;
            }
            let begin = at.expect("the first key of a table is there");
            let line = match key.default {
                Some(default) => format!("# {} = {default}", key.name),
                None => comment(&format!("As `{} = {}`.", key.name, (facts.other)(None))),
            };
            let block = format!("\n{}\n{line}\n", comment(facts.meaning));
            file.insert_str(begin, &block);
            at = Some(begin + block.len());
        }
    }
    compare("config/tidemill.toml", &file);
}

/// The tables that have a key with a kind.
fn tables_with_kinds() -> impl Iterator<Item = (String, &'static KeyTable)> {
    tables().filter(|(_, table)| with_kinds(table.keys).next().is_some())
}

/// A file with a value for each key that its kind refuses; `every_bad_file_is_reported_in_full` reports it.
pub fn bad_keys() {
    let mut text = String::new();
    for (heading, table) in tables_with_kinds() {
        if heading.starts_with('[') {
            text.push_str(&format!("\n{heading}\n"));
        }
        text.push_str(match &*heading {
            "[[pipeline]]" => "input = \"inbox\"\noutput = \"outbox\"\n",
            "[exec.NAME]" => "command = [\"/bin/cat\"]\n",
            _ => "",
        });
        for (key, facts) in with_kinds(table.keys) {
            if let Some(refused) = facts.refused {
                text.push_str(&format!("{} = {refused}\n", key.name));
            }
        }
    }
    compare("tests/config/bad_keys.toml", &text);
}

#[test]
fn each_value_that_a_kind_refuses_is_reported() {
    let refused = tables_with_kinds().flat_map(|(_, table)| with_kinds(table.keys));
    let refused = refused.filter(|(_, facts)| facts.refused.is_some()).count();
    let reported = read("tests/config/bad_keys.stderr");
    let reported = reported.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(reported, refused);
    assert!(refused >= 20, "{refused}");
}
