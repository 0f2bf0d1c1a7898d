//! The events of the log: each is one line of code, and has a row in the reference, which `TIDEMILL_BLESS=1`
//! writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use super::{code, is_test, root, sources};
use crate::config::documents::blesses;

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// A call of `tracing`.
struct Call {
    path: String,
    level: &'static str,
    arguments: Vec<String>,
}

impl Call {
    /// The event's name, as the code has it.
    fn event(&self) -> String {
        let text = self.arguments.iter().find_map(|argument| argument.strip_prefix("event = "));
        let name = text.and_then(|text| text.split('"').nth(1));
        name.unwrap_or_else(|| panic!("{}: no event: {:?}", self.path, self.arguments)).to_owned()
    }

    fn message(&self) -> &str {
        let last = self.arguments.last().expect("a message");
        let text = last.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        text.unwrap_or_else(|| panic!("{}: no message: {last}", self.path))
    }

    /// The names of the fields, without the event.
    fn fields(&self) -> impl Iterator<Item = &str> {
        let fields = self.arguments.iter().rev().skip(1);
        let names = fields.filter(|field| !field.starts_with("target:")).map(|field| {
            let name = field.split_once(" = ").map_or(&**field, |(name, _)| name);
            name.trim_start_matches(['%', '?']).rsplit('.').next().expect("a name")
        });
        names.filter(|name| *name != "event")
    }
}

/// The calls of `tracing` in the code.
fn calls() -> Vec<Call> {
    let mut calls = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| !is_test(path)) {
        for part in code(text).split("tracing::").skip(1) {
            let Some((level, rest)) = part.split_once("!(") else { continue };
            let Some(level) = LEVELS.into_iter().find(|known| *known == level) else { continue };
            calls.push(Call { path: path.clone(), level, arguments: arguments(rest) });
        }
    }
    assert!(calls.len() > 100, "{} calls", calls.len());
    calls
}

/// The arguments of a call, up to its closing parenthesis.
fn arguments(rest: &str) -> Vec<String> {
    let (mut depth, mut is_quoted, mut last) = (1, false, ' ');
    let mut arguments = vec![String::new()];
    for letter in rest.chars() {
        is_quoted ^= letter == '"' && last != '\\';
        last = letter;
        match letter {
            '(' | '{' | '[' if !is_quoted => depth += 1,
            ')' | '}' | ']' if !is_quoted => depth -= 1,
            _ => {}
        }
        match letter {
            _ if depth == 0 => break,
            ',' if depth == 1 && !is_quoted => arguments.push(String::new()),
            letter => arguments.last_mut().expect("one").push(letter),
        }
    }
    let words = |argument: &String| argument.split_whitespace().collect::<Vec<_>>().join(" ");
    arguments.iter().map(words).filter(|argument| !argument.is_empty()).collect()
}

#[test]
fn a_log_line_is_one_event_in_at_most_ten_words_and_names_its_source() {
    for call in calls() {
        let Call { path, arguments, .. } = &call;
        let (event, message) = (call.event(), call.message());
        // The phases of the service, the outcomes of a file and the lines of the report are fixed texts.
        let is_fixed = ["service.phase", "file.{outcome}", "service.report"].contains(&&*event);
        assert!(is_fixed || !message.contains('{'), "{path}: a fact in the message: {arguments:?}");
        let words = message.split_whitespace().count();
        assert!(words <= 10, "{path}: {words} words: {arguments:?}");
        let has_source = call.fields().any(|field| field == "source");
        assert!(has_source || !event.starts_with("file."), "{path}: no source: {arguments:?}");
        let is_debug = |argument: &String| argument.starts_with('?') || argument.contains("= ?");
        assert!(!arguments.iter().any(is_debug), "{path}: text for programmers: {arguments:?}");
    }
}

/// The rows of the reference, by the names of the events.
fn rows() -> String {
    let mut events: BTreeMap<String, Vec<Call>> = BTreeMap::new();
    for call in calls() {
        events.entry(call.event()).or_default().push(call);
    }
    let row = |(event, calls): (&String, &Vec<Call>)| {
        let is_used = |level: &&str| calls.iter().any(|call| call.level == *level);
        let levels: Vec<_> = LEVELS.into_iter().filter(is_used).collect();
        let messages: BTreeSet<_> = calls.iter().map(Call::message).collect();
        let messages: Vec<_> = messages.into_iter().map(escaped).collect();
        let fields: BTreeSet<_> = calls.iter().flat_map(Call::fields).collect();
        let fields: Vec<_> = fields.into_iter().map(|field| format!("`{field}`")).collect();
        format!(
            "| `{event}` | {} | {} | {} |\n",
            levels.join(", "),
            messages.join("; "),
            fields.join(", ")
        )
    };
    events.iter().map(row).collect()
}

/// A message; what is between braces stands for one of several fixed texts.
fn escaped(message: &str) -> String {
    message.replace(['{', '}'], "*").replace('|', "\\|")
}

#[test]
fn the_reference_has_a_row_for_each_log_event() {
    let path = root().join("REFERENCE.md");
    let reference = fs::read_to_string(&path).expect("read");
    let begin = reference.find("\n## Log events\n").expect("the section");
    let from = begin + reference[begin..].find("\n| `").expect("rows") + 1;
    let to = from + reference[from..].find("\n\n").map_or(reference.len() - from, |end| end + 1);
    let rows = rows();
    if blesses() {
        let written = [&reference[..from], &rows, &reference[to..]].concat();
        return fs::write(&path, written).expect("blessed");
    }
    assert!(reference[from..to] == rows, "REFERENCE.md differs: bless it:\n{rows}");
}
