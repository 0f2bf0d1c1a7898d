//! REFERENCE.md names what the program has: commands, options, keys with their defaults, exit codes, endpoints.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt,
};

use rustix::process::Signal;

use crate::{
    deploy::{root, text},
    files::{Running, TestDir, until},
};

type Row = Vec<String>;

/// The rows of the table below this heading, cell by cell, without their backquotes.
fn table(heading: &str) -> Vec<Row> {
    let reference = text("REFERENCE.md");
    let (_, section) = reference
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("REFERENCE.md has no {heading}"));
    let section = section.split("\n#").next().unwrap();
    let rows: Vec<Row> = section
        .lines()
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim_matches(['|', ' ', '`']).to_owned()).collect()
        })
        .collect();
    assert!(rows.len() >= 3, "{heading}: {rows:?}");
    rows
}

fn first_cells(heading: &str) -> BTreeSet<String> {
    table(heading).into_iter().map(|row| row[0].clone()).collect()
}

/// The words in backquotes.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A table of the configuration: its heading, and how a file gets to it.
const TABLES: [(&str, &str); 8] = [
    ("### Top level", ""),
    ("### `[limits]`", "[limits]\n"),
    ("### `[[pipeline]]`", "[[pipeline]]\n"),
    ("### `[hooks]`", "[hooks]\n"),
    ("### `[otlp]`", "[otlp]\nendpoint = \"http://127.0.0.1:4318\"\n"),
    ("### `[exec.NAME]`", "[exec.x]\ncommand = [\"/bin/cat\"]\n"),
    ("### `[retention]`", "[retention]\n"),
    ("### `[age]`", "[age]\n"),
];

const PIPELINE: &str = "[[pipeline]]\ninput = \"in\"\noutput = \"out\"\n";

/// A whole configuration with these lines in one of its tables.
fn configuration(begin: &str, lines: &str) -> String {
    match begin {
        "" => format!("{lines}\n{PIPELINE}"),
        "[[pipeline]]\n" => format!("{PIPELINE}{lines}\n"),
        begin => format!("{begin}{lines}\n{PIPELINE}"),
    }
}

fn check(place: &TestDir, configuration: &str) -> crate::files::Ended {
    std::fs::write(place.root().join("tidemill.toml"), configuration).unwrap();
    place.run(&["check", "--config", "tidemill.toml"])
}

#[test]
fn the_keys_are_those_of_the_program() {
    let place = TestDir::new();
    for (heading, begin) in TABLES {
        // A key that does not exist is answered with all that do.
        let answer = check(&place, &configuration(begin, "zzz = 1")).stderr;
        let (_, help) = answer.rsplit_once("help:").unwrap_or_else(|| panic!("{answer}"));
        let mut keys = quoted(help);
        if begin.is_empty() {
            let tables = ["limits", "hooks", "age", "otlp", "exec", "pipeline", "retention"];
            keys.retain(|key| !tables.contains(&&**key));
        }
        assert_eq!(first_cells(heading), keys, "{heading}");
    }
}

/// Whether the cell is a value and not its description.
fn is_value(cell: &str) -> bool {
    format!("key = {cell}").parse::<toml::Table>().is_ok()
}

#[test]
fn the_defaults_are_those_of_the_program() {
    let place = TestDir::new();
    let mut shown = 0;
    for (heading, begin) in TABLES {
        let implicit = check(&place, &configuration(begin, ""));
        assert_eq!(implicit.code, 0, "{implicit:?}");
        for row in table(heading) {
            let (key, default) = (&row[0], &row[2]);
            if !is_value(default) {
                continue;
            }
            let explicit = check(&place, &configuration(begin, &format!("{key} = {default}")));
            assert_eq!(explicit.code, 0, "{explicit:?}");
            assert_eq!(explicit.stdout, implicit.stdout, "{key} = {default}");
            shown += 1;
        }
    }
    assert!(shown >= 28, "{shown}");
}

/// A key pair of no use.
const RECIPIENT: &str = "age14yq68zc4glmhrpca3dnmje7lk9ccfkq7khlvhavu9hmxr4eqeqcsu9zg8g";
const IDENTITY: &str = "AGE-SECRET-KEY-17N7WZ4HF6VD80Q9P0NTYA5FYQ53TJX3UGA82RYUXM2DF9450TFCSUJHSEY";

/// A value for each key that is not its default: by the kind of the key, or from here.
fn others(place: &TestDir) -> BTreeMap<String, String> {
    let token = place.root().join("token");
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    for name in ["other", "log"] {
        std::fs::create_dir(place.root().join(name)).unwrap();
    }
    let (recipients, identities) =
        (place.root().join("recipients"), place.root().join("identities"));
    std::fs::write(&recipients, RECIPIENT).unwrap();
    std::fs::write(&identities, IDENTITY).unwrap();
    std::fs::set_permissions(&identities, std::fs::Permissions::from_mode(0o600)).unwrap();
    let age = format!(
        "recipients=['{RECIPIENT}'] recipients_file='recipients' identity_file='identities'"
    );
    let by_hand = "state_dir='other-state' http='127.0.0.1:1' admin_socket='off' admin_token_file='token' \
        events='log/events' once=true name='another' input='other' output='other-out' transforms='gzip' \
        on_success='delete' include=['*.log'] exclude=['*.bak'] quarantine='other-quarantine' \
        on_start=['/bin/true'] on_published=['/bin/true'] on_failed=['/bin/true'] on_overdue=['/bin/true'] on_drained=['/bin/true'] \
        endpoint='http://127.0.0.1:4319' sampling=0.5 paths=true command=['/bin/true'] read=['/srv'] \
        write=['/srv'] environment=['A=1']";
    let by_hand = by_hand
        .split_whitespace()
        .chain(age.split_whitespace())
        .map(|pair| pair.split_once('=').unwrap());
    let by_hand = by_hand.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let keys = tidemill::config::tables().flat_map(|(_, table)| table.keys);
    let by_kind = keys.filter_map(|key| {
        let facts = key.facts?;
        Some((key.name.to_owned(), (facts.other)(key.default)))
    });
    by_hand.chain(by_kind).collect()
}

#[test]
fn a_reload_changes_exactly_the_keys_that_the_reference_marks() {
    let place = TestDir::new();
    let others = others(&place);
    let path = place.root().join("tidemill.toml");
    // A sandbox would keep a reload from new directories.
    let head = "sandbox = 'off'\nstate_dir = 'state'\nhttp = 'off'\n";
    let (otlp, exec) = (TABLES[4].1, TABLES[5].1);
    let whole = |top: &str, otlp: &str, rest: &str| format!("{top}{exec}{otlp}{rest}");
    let original = whole(head, otlp, PIPELINE);
    std::fs::write(&path, &original).unwrap();
    let running = Running::start(&mut place.tidemill(&["run", "--config", "tidemill.toml"]));
    running.until_logged("event=pipeline.ready");
    let reload = |text: &str| {
        let count = |what: &str| running.log().matches(what).count();
        let before = [count("event=config.reloaded"), count("event=config.refused")];
        std::fs::write(&path, text).unwrap();
        running.signal(Signal::HUP);
        until("the reload", || {
            before != [count("event=config.reloaded"), count("event=config.refused")]
        });
        count("event=config.reloaded") > before[0]
    };
    let mut tried = BTreeSet::new();
    for (heading, begin) in TABLES {
        for row in table(heading) {
            let (key, can_change) = (row[0].clone(), row[3] == "yes");
            assert!(can_change || row[3] == "no", "{key}: {}", row[3]);
            let value = others.get(&key).unwrap_or_else(|| panic!("no other value of {key}"));
            let line = format!("{key} = {value}\n");
            // The line takes the place of the one that there is.
            let without = |text: &str| -> String {
                let is_other = |line: &&str| !line.starts_with(&format!("{key} = "));
                text.lines().filter(is_other).flat_map(|line| [line, "\n"]).collect()
            };
            let changed = match begin {
                "" => whole(&format!("{}{line}", without(head)), otlp, PIPELINE),
                "[[pipeline]]\n" => whole(head, otlp, &format!("{}{line}", without(PIPELINE))),
                "[limits]\n" | "[hooks]\n" | "[age]\n" | "[retention]\n" => {
                    whole(head, &format!("{begin}{line}{otlp}"), PIPELINE)
                }
                begin if begin == exec => {
                    format!("{head}{}{line}{otlp}{PIPELINE}", without(exec))
                }
                _ => whole(head, &format!("{}{line}", without(otlp)), PIPELINE),
            };
            assert_eq!(reload(&changed), can_change, "{changed}\n{}", running.log());
            if can_change {
                assert!(reload(&original), "{}", running.log());
            } else {
                let log = running.log();
                let refused =
                    log.lines().rfind(|line| line.contains("event=config.refused")).unwrap();
                let table = begin.trim_start_matches('[').split([']', '.']).next().unwrap();
                let names = |name: &str| !name.is_empty() && refused.contains(name);
                assert!(names(&key) || names(table), "{key}: {refused}");
            }
            tried.insert(key);
        }
    }
    assert_eq!(tried.len(), others.len());
    assert_eq!(running.stop().code, 0);
}

/// The long options that a help text lists.
fn options(help: &str) -> BTreeSet<String> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = lines.filter_map(|line| line.split_whitespace().find(|it| it.starts_with("--")));
    let is_part = |letter: char| letter == '-' || letter.is_ascii_lowercase();
    words.map(|word| word.chars().take_while(|letter| is_part(*letter)).collect()).collect()
}

#[test]
fn the_commands_and_options_are_those_of_the_program() {
    let place = TestDir::new();
    let help = place.run(&["--help"]).stdout;
    let listed = help.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands = listed.lines().filter_map(|line| line.split_whitespace().next());
    let commands: BTreeSet<String> =
        commands.filter(|word| *word != "help").map(str::to_owned).collect();
    assert_eq!(first_cells("## Commands"), commands);
    let mut elsewhere = options(&place.run(&["run", "--help"]).stdout);
    elsewhere.insert("--state-dir".into());
    for row in table("## Commands") {
        let of_command = options(&place.run(&[&row[0], "--help"]).stdout);
        let named: BTreeSet<_> =
            quoted(&row[1]).into_iter().filter(|it| it.starts_with("--")).collect();
        for option in &named {
            assert!(of_command.contains(option), "{} has no {option}", row[0]);
        }
        // The table below has those of `run`, and the sentence below the two that find a service.
        let is_own = |option: &&String| !elsewhere.contains(*option) && !named.contains(*option);
        let missing: Vec<_> = of_command.iter().filter(is_own).collect();
        assert!(missing.is_empty(), "{} has {missing:?}", row[0]);
    }

    let rows = table("## Options of `tidemill run`");
    let of_run = options(&place.run(&["run", "--help"]).stdout);
    assert_eq!(rows.iter().map(|row| row[0].clone()).collect::<BTreeSet<_>>(), of_run);
    let (top, pipeline) = (first_cells("### Top level"), first_cells("### `[[pipeline]]`"));
    let age = first_cells("### `[age]`");
    for key in rows.iter().map(|row| &row[1]).filter(|key| !key.is_empty()) {
        let has_key = [&top, &pipeline, &age].iter().any(|keys| keys.contains(key));
        assert!(has_key, "no table has {key}");
    }
}

#[test]
fn the_exit_codes_are_those_of_the_program() {
    let help = TestDir::new().run(&["--help"]).stdout;
    let (_, codes) = help.split_once("Exit codes:").unwrap();
    let codes: BTreeSet<String> = codes
        .split(|letter: char| !letter.is_ascii_digit())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    assert_eq!(first_cells("## Exit codes"), codes);
}

#[test]
fn the_reason_codes_are_those_of_the_program() {
    let codes = tidemill::reason::ReasonCode::WORDS.iter().map(|code| (*code).to_owned());
    assert_eq!(first_cells("## Reason codes"), codes.collect());
}

#[test]
fn the_endpoints_are_those_that_the_api_describes() {
    let described: serde_json::Value =
        serde_json::from_str(&text("src/http/openapi.json")).unwrap();
    let mut endpoints = BTreeSet::new();
    for (path, methods) in described["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            endpoints.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    assert_eq!(first_cells("## Endpoints"), endpoints);
}

#[test]
fn every_link_of_the_readme_and_the_reference_leads_to_something() {
    let documents = [
        "README.md",
        "README.zh.md",
        "GUARANTEES.md",
        "REFERENCE.md",
        "OPERATIONS.md",
        "SECURITY.md",
    ];
    for file in documents {
        let text = text(file);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") || link.starts_with('<') {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = if path.is_empty() { file } else { path };
            assert!(root().join(path).exists(), "{file}: {link}");
            if !anchor.is_empty() {
                let linked = super::text(path).to_lowercase();
                let heading = format!("\n## {}\n", anchor.replace('-', " "));
                assert!(linked.contains(&heading), "{file}: {link}");
            }
        }
    }
}

/// The cells of the table of the events file that name this outcome, or all of them.
fn fields_of(outcome: &str) -> BTreeSet<String> {
    let rows = table("## Events file").into_iter();
    let has_it = |row: &Row| {
        row[1] == "all" || row[1].split(", ").any(|cell| cell.trim_matches('`') == outcome)
    };
    rows.filter(has_it).map(|row| row[0].clone()).collect()
}

#[test]
fn the_fields_of_the_events_file_are_those_of_its_lines() {
    use std::os::unix::ffi::OsStrExt;
    let place = TestDir::new();
    let run = |transform: &str| {
        let args = ["--events", "events", "--transform", transform, "--on-exists", "update"];
        drop(place.once(&args));
    };
    place.put("a", "content");
    place.put(std::ffi::OsStr::from_bytes(b"\xff"), "content");
    run("zstd");
    place.put("a", "other content");
    place.put("bad", "no gzip at all");
    std::fs::write(place.output().join("taken.zst"), "theirs").unwrap();
    place.put("taken", "content");
    drop(place.once(&["--events", "events", "--on-exists", "skip", "--include", "taken"]));
    run("zstd");
    place.put("bad.gz", "no gzip at all");
    drop(place.once(&["--events", "events", "--transform", "gunzip", "--include", "bad.gz"]));
    let text = std::fs::read_to_string(place.root().join("events")).unwrap();
    let mut seen = BTreeSet::new();
    let mut outcomes = BTreeSet::new();
    for line in text.lines() {
        let line: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        let keys: BTreeSet<String> = line.keys().cloned().collect();
        let outcome = line["outcome"].as_str().unwrap();
        let missing: Vec<_> =
            fields_of(outcome).into_iter().filter(|key| !keys.contains(key)).collect();
        assert!(missing.is_empty(), "{missing:?} in {line:?}");
        outcomes.insert(outcome.to_owned());
        seen.extend(keys);
    }
    assert_eq!(outcomes.len(), 3, "{text}");
    assert_eq!(first_cells("## Events file"), seen, "{text}");
}
