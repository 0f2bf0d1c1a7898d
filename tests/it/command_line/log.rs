//! The log of one run, line by line: its fields, its units, its levels and its colours.

use std::{collections::BTreeMap, process::Command};

use crate::files::{Running, TestDir};

type Fields = BTreeMap<String, String>;

/// The fields of a line of logfmt. Panics at a line that is none.
fn parsed(line: &str) -> Fields {
    let mut fields = Fields::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (key, value) = rest.split_once('=').unwrap_or_else(|| panic!("no `=`: {line}"));
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        assert!(!key.is_empty() && key.chars().all(is_word), "the key {key:?}: {line}");
        let end = match value.strip_prefix('"') {
            None => value.find(' ').unwrap_or(value.len()),
            Some(quoted) => {
                let mut is_escaped = false;
                let end = quoted.find(|letter| {
                    let is_end = letter == '"' && !is_escaped;
                    is_escaped = letter == '\\' && !is_escaped;
                    is_end
                });
                end.unwrap_or_else(|| panic!("an open quote: {line}")) + 2
            }
        };
        let (value, after) = value.split_at(end);
        let text = if value.starts_with('"') {
            serde_json::from_str(value).unwrap_or_else(|error| panic!("{error}: {line}"))
        } else {
            assert!(!value.contains(['"', '=']), "{value:?} is not quoted: {line}");
            value.to_owned()
        };
        assert!(fields.insert(key.to_owned(), text).is_none(), "{key} twice: {line}");
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    fields
}

/// A line of the log has its own parts, and each number its unit, rounded.
fn assert_fields(fields: &Fields) {
    for key in ["time", "level", "event", "msg"] {
        assert!(fields.contains_key(key), "no {key}: {fields:?}");
    }
    for (key, value) in fields {
        if key.ends_with("seconds") {
            let decimals = value.split_once('.').map_or(0, |(_, decimals)| decimals.len());
            assert!(value.parse::<f64>().is_ok() && decimals <= 3, "{key}={value}: {fields:?}");
        }
        if key.ends_with("size") {
            let unit = value.split_once(' ').map(|(_, unit)| unit);
            assert!(unit.is_some_and(|unit| unit.ends_with('B')), "{key}={value}: {fields:?}");
        }
        assert!(!key.contains("bytes") && key != "took", "{key}={value}: {fields:?}");
    }
    if fields["event"].starts_with("file.") {
        assert!(fields.contains_key("source") && fields.contains_key("pipeline"), "{fields:?}");
    }
}

fn lines(log: &str) -> Vec<Fields> {
    let lines: Vec<_> = log.lines().map(parsed).collect();
    lines.iter().for_each(assert_fields);
    lines
}

/// The fields of a line in JSON, as texts.
fn of_json(line: &str) -> Fields {
    let object: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).unwrap();
    let text = |value: serde_json::Value| value.as_str().map_or(value.to_string(), str::to_owned);
    object.into_iter().map(|(key, value)| (key, text(value))).collect()
}

fn of<'a>(lines: &'a [Fields], event: &str) -> Vec<&'a Fields> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

/// A command with the level and the colours that a user has by default.
fn plain(place: &TestDir, args: &[&str]) -> Command {
    let mut command = place.tidemill(args);
    command.env_remove("RUST_LOG").env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
    command
}

#[test]
fn each_line_of_a_service_is_logfmt_with_rounded_fields_from_start_to_stop() {
    let place = TestDir::new();
    place.put("a name of = words", "content");
    // A large file, which takes 20 s.
    place.put("large", "content".repeat(3_000_000));
    let running = place.watch_with(&["--http", "127.0.0.1:0"], "read=sleep(250)");
    running.until_logged("event=service.progress");
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    let lines = lines(&ended.stderr);
    let first = &lines[0];
    assert_eq!(first["event"], "service.starting");
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(first["config_hash"].len(), 12, "{first:?}");
    assert!(first["pid"].parse::<u32>().is_ok(), "{first:?}");
    assert_eq!(first["state_dir"], place.state().display().to_string());
    let listening = of(&lines, "http.listening");
    assert!(
        listening
            .iter()
            .any(|line| line.get("url").is_some_and(|url| url.starts_with("http://127")))
    );
    assert!(listening.iter().any(|line| line.contains_key("socket")), "{listening:?}");
    let published = of(&lines, "file.published");
    assert_eq!(published[0]["source"], "a name of = words");
    assert_eq!(published[0]["source_size"], "7 B");
    assert!(published.iter().all(|line| line["level"] == "DEBUG"), "{published:?}");
    let progress = of(&lines, "service.progress");
    assert_eq!((&*progress[0]["published"], &*progress[0]["seconds"]), ("1", "10"));
    let draining = of(&lines, "service.draining");
    assert_eq!(draining[0]["in_flight_size"], "21 MB", "{draining:?}");
    assert_eq!(draining[0]["moved"], "true", "its bytes count: {draining:?}");
    let phases = of(&lines, "service.phase");
    let phases: Vec<_> = phases.iter().map(|line| (&*line["phase"], &*line["msg"])).collect();
    assert_eq!(phases[0], ("READY", "ready, accepting work"));
    assert_eq!(phases.last().unwrap().0, "STOPPED");
    assert_eq!(of(&lines, "resource.opened").len(), of(&lines, "resource.closed").len());
}

#[test]
fn each_option_and_format_has_its_lines() {
    let place = TestDir::new();
    place.configure("transforms = \"gunzip\"");
    let events = |name: &str, args: &[&str]| -> Vec<String> {
        place.put(name, "no gzip at all");
        let args = [&["run", "--config", "tidemill.toml", "--once", "--log-format", "json"], args]
            .concat();
        let ended = Running::start(&mut plain(&place, &args)).end();
        assert_eq!(ended.code, 65, "{ended:?}");
        let lines = ended
            .stderr
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines
            .map(|line| {
                assert!(line["message"].is_string() && line["timestamp"].is_string(), "{line}");
                line["event"].as_str().unwrap().to_owned()
            })
            .collect()
    };
    let has = |events: &[String], wanted: &str| events.iter().any(|event| event == wanted);
    let default = events("a", &[]);
    let expected = ["file.quarantined", "once.finished"];
    assert_eq!(default, expected, "`--once` warns, and reports its end");
    let verbose = events("b", &["-v"]);
    assert!(has(&verbose, "resource.opened") && has(&verbose, "service.starting"), "{verbose:?}");
    assert_eq!(events("c", &["-q"]), ["once.finished"]);
    place.configure("");
    place.put("d", "content");
    let quiet = Running::start(&mut plain(&place, &["run", "--config", "tidemill.toml", "--once"]))
        .end()
        .stderr;
    assert!(!quiet.contains("file.published"), "a file is no line of INFO: {quiet}");
}

#[test]
fn a_panic_is_one_line_in_the_format_of_the_log() {
    for format in ["text", "json"] {
        let place = TestDir::new();
        place.put("a", "content");
        let mut command = plain(&place, &["run", "--config", "tidemill.toml", "-v"]);
        command.env("FAILPOINTS", "transform=1*panic(no \"luck\")").env("RUST_BACKTRACE", "1");
        let running = Running::start(command.args(["--log-format", format]));
        running.until_logged("file.published");
        let ended = running.stop();
        assert_eq!(ended.code, 70, "{ended:?}");
        let lines = match format {
            "text" => lines(&ended.stderr),
            _ => ended.stderr.lines().map(of_json).collect(),
        };
        let panic = of(&lines, "service.panic")[0];
        assert_eq!(panic["level"], "ERROR");
        assert_eq!(panic["error"], "no \"luck\"");
        assert!(panic["location"].contains(".rs:"), "{panic:?}");
        assert!(!panic["thread"].is_empty(), "{panic:?}");
        assert!(panic["backtrace"].contains('\n'), "{panic:?}");
        assert_eq!(of(&lines, "file.published")[0]["attempts"], "2");
    }
}

#[test]
fn colours_follow_the_variables_that_terminals_agree_on() {
    let place = TestDir::new();
    for (forced, no_color, is_coloured) in
        [("", "", false), ("1", "", true), ("0", "", false), ("1", "1", false)]
    {
        let mut command = plain(&place, &["run", "--config", "tidemill.toml", "--once", "-v"]);
        command.env("CLICOLOR_FORCE", forced).env("NO_COLOR", no_color);
        let ended = Running::start(&mut command).end();
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(
            ended.stderr.contains("\x1b["),
            is_coloured,
            "{forced:?} {no_color:?}: {ended:?}"
        );
    }
}

#[test]
fn the_error_of_a_failed_start_is_the_last_line_and_alone() {
    let place = TestDir::new();
    let running = place.watch(&[]);
    let refused = Running::start(&mut plain(&place, &["run", "--config", "tidemill.toml"])).end();
    assert_eq!(refused.code, 75, "{refused:?}");
    let lines = lines(&refused.stderr);
    let last = lines.last().unwrap();
    assert_eq!((&*last["event"], &*last["level"]), ("service.failed", "ERROR"), "{lines:?}");
    for event in ["service.phase", "service.stopped", "service.ended"] {
        assert_eq!(of(&lines, event), Vec::<&Fields>::new(), "{lines:?}");
    }
    let stopped = running.stop();
    assert_eq!(stopped.code, 0, "{stopped:?}");
    for part in ["phase=CLOSING", "phase=STOPPED", "event=service.stopped"] {
        assert!(stopped.stderr.contains(part), "a stop has its lines: {stopped:?}");
    }
}
