//! SIGHUP: the configuration is read again and applied without dropping a file, or not at all.

#![cfg(feature = "failpoints")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests are another program")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
};

use crate::files::{Ended, Running, TestDir, decompressed, tree, until};
use crate::manager::Manager;
use rustix::process::Signal;

/// A place with a configuration of several pipelines: `a` watches `in-a`, and so on.
struct Several(TestDir);

const HEAD: &str =
    "state_dir = \"state\"\nhttp = \"off\"\nevents = \"log/events\"\nsandbox = \"off\"\n";

impl Several {
    fn new(pipelines: &[(&str, &str)]) -> Self {
        let several = Self(TestDir::new());
        fs::create_dir(several.0.root().join("log")).unwrap();
        several.configure(HEAD, pipelines);
        several
    }

    /// Writes the configuration as an editor does: a new file in place of the old one. Each pipeline
    /// is a name and its other lines.
    fn configure(&self, head: &str, pipelines: &[(&str, &str)]) {
        let mut text = head.to_owned();
        for (name, lines) in pipelines {
            fs::create_dir_all(self.0.root().join(format!("in-{name}"))).unwrap();
            let output = if lines.contains("output") { "" } else { "output = \"out-NAME\"\n" };
            let table =
                "[[pipeline]]\nname = \"NAME\"\ninput = \"in-NAME\"\non_success = \"delete\"\n";
            text += &format!("{table}{output}{lines}\n").replace("NAME", name);
        }
        let new = self.0.root().join("tidemill.toml.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.0.root().join("tidemill.toml")).unwrap();
    }

    fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.0.root().join(path);
        let hidden = path.with_file_name(format!(
            ".tidemill-put-{}",
            path.file_name().unwrap().to_str().unwrap()
        ));
        fs::write(&hidden, content).unwrap();
        fs::rename(hidden, path).unwrap();
    }

    fn is_there(&self, path: &str) -> bool {
        self.0.root().join(path).exists()
    }

    fn content(&self, path: &str) -> Vec<u8> {
        decompressed(&self.0.root().join(path))
    }

    /// How often each source was acknowledged.
    fn acknowledged(&self) -> BTreeMap<String, usize> {
        let text = fs::read_to_string(self.0.root().join("log/events")).unwrap_or_default();
        let mut counts = BTreeMap::new();
        // The last line may not be complete.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            if event["outcome"] == "published" {
                let of = |key: &str| event[key].as_str().unwrap().to_owned();
                *counts.entry(format!("{}/{}", of("pipeline"), of("source"))).or_default() += 1;
            }
        }
        counts
    }

    /// Every file of these pipelines, `0` to `count`, was published once and whole, and nothing else.
    fn assert_all_once(&self, names: &[&str], count: usize, log: &str) {
        let mut expected = BTreeMap::new();
        for name in names {
            for number in 0..count {
                expected.insert(format!("{name}/{number}"), 1);
                let content = self.content(&format!("out-{name}/{number}.zst"));
                assert_eq!(content, content_of(name, number), "{name}/{number}");
            }
            assert_eq!(
                tree(&self.0.root().join(format!("in-{name}"))),
                Vec::<std::path::PathBuf>::new()
            );
            assert_eq!(tree(&self.0.root().join(format!("out-{name}"))).len(), count, "{name}");
        }
        assert_eq!(self.acknowledged(), expected, "{log}");
        self.0.assert_clean();
    }
}

fn content_of(name: &str, number: usize) -> Vec<u8> {
    format!("{name} {number}\n").repeat(number % 40 + 1).into_bytes()
}

fn count(log: &str, text: &str) -> usize {
    log.matches(text).count()
}

/// Reloads, and waits until the result is logged.
fn reload(running: &Running) {
    let results = |log: &str| count(log, "event=config.reloaded") + count(log, "reload refused");
    let before = results(&running.log());
    running.signal(Signal::HUP);
    until("the result is logged", || results(&running.log()) > before);
}

fn transforms(level: usize) -> String {
    format!("transforms = \"zstd:{level}\"")
}

#[test]
fn a_reload_under_load_loses_and_doubles_nothing() {
    const FILES: usize = 400;
    let several = Several::new(&[("a", ""), ("b", "")]);
    let running = several.0.watch(&[]);
    std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            for number in 0..FILES {
                for name in ["a", "b"] {
                    several.put(&format!("in-{name}/{number}"), content_of(name, number));
                }
                if number % 8 == 0 {
                    std::thread::park_timeout(std::time::Duration::from_millis(10));
                }
            }
        });
        let mut level = 0;
        while !producer.is_finished() || level < 10 {
            level += 1;
            several.configure(HEAD, &[("a", ""), ("b", &transforms(level % 3 + 1))]);
            reload(&running);
        }
    });
    until("all are acknowledged", || several.acknowledged().len() == 2 * FILES);
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(count(&ended.stderr, " changed=b ") >= 10, "{ended:?}");
    assert_eq!(count(&ended.stderr, "reload refused"), 0, "{ended:?}");
    several.assert_all_once(&["a", "b"], FILES, &ended.stderr);
}

#[test]
fn an_unchanged_pipeline_keeps_its_files_in_flight() {
    let head = HEAD.replace("off\"\nevents", "127.0.0.1:0\"\nevents");
    let several = Several::new(&[]);
    several.configure(&head, &[("a", ""), ("b", "")]);
    let running = several.0.watch_with(&[], "transform=1*sleep(6000)");
    let address = address(&running);
    let in_flight = || status(&address)["pipelines"][0]["in_flight"] == 1;
    several.put("in-a/0", content_of("a", 0));
    until("it is in flight", in_flight);
    several.configure(&head, &[("a", ""), ("b", "transforms = \"gzip\"")]);
    reload(&running);
    assert!(in_flight(), "{}", running.log());
    assert_eq!(count(&running.log(), "event=file.published"), 0, "{}", running.log());
    assert!(running.log().contains("unchanged=a"), "{}", running.log());
    until("a/0", || several.is_there("out-a/0.zst") && several.acknowledged().len() == 1);
    several.put("in-b/1", "content");
    until("b/1", || several.is_there("out-b/1.gz"));
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(several.acknowledged()["a/0"], 1);
}

/// The table of the sources between publication and removal was the old pipeline's.
#[test]
fn a_source_that_is_renamed_while_its_pipeline_is_reloaded_is_not_published_again() {
    let head = format!("shutdown_deadline = \"3s\"\n{HEAD}");
    let several = Several::new(&[]);
    several.configure(&head, &[("a", "")]);
    let gate = several.0.root().join("gate");
    fs::write(&gate, "").unwrap();
    let points = format!("dispose=return(while:{})", gate.display());
    let running = several.0.watch_with(&[], &points);
    several.put("in-a/before", "content");
    until("it is acknowledged", || several.acknowledged().len() == 1);
    several.configure(&head, &[("a", "transforms = \"zstd:1\"")]);
    running.signal(Signal::HUP);
    running.until_logged("event=pipeline.busy");
    let input = several.0.root().join("in-a");
    fs::rename(input.join("before"), input.join("after")).unwrap();
    fs::remove_file(gate).unwrap();
    running.until_logged("event=config.reloaded");
    until("its source is removed", || tree(&input).is_empty());
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(several.acknowledged(), BTreeMap::from([("a/before".to_owned(), 1)]), "{ended:?}");
}

#[test]
fn a_broken_file_keeps_the_old_configuration_and_names_the_line_and_the_key() {
    let several = Several::new(&[("a", ""), ("b", "")]);
    let running = several.0.watch(&[]);
    several.configure(HEAD, &[("a", "transforms = \"gzip\""), ("b", "on_exits = \"fail\"")]);
    reload(&running);
    let log = running.log();
    assert!(log.contains("event=config.refused") && log.contains("kind=invalid"), "{log}");
    assert!(
        log.contains("tidemill.toml:16:1") && log.contains("there is no key `on_exits`"),
        "{log}"
    );
    assert!(log.contains("write `on_exists`"), "{log}");
    for name in ["a", "b"] {
        several.put(&format!("in-{name}/0"), content_of(name, 0));
    }
    until("both", || several.acknowledged().len() == 2);
    fs::remove_file(several.0.root().join("tidemill.toml")).unwrap();
    reload(&running);
    assert!(running.log().contains("cannot read tidemill.toml"), "{}", running.log());
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    several.assert_all_once(&["a", "b"], 1, &ended.stderr);
}

fn status(address: &str) -> serde_json::Value {
    let body = get(address, "/api/v1/status");
    serde_json::from_str(&body).unwrap()
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn address(running: &Running) -> String {
    let log = running.log();
    let rest = log.split("HTTP server listening\" url=http://").nth(1).unwrap();
    rest.split('/').next().unwrap().to_owned()
}

#[test]
fn pipelines_are_added_removed_and_changed_and_the_status_follows() {
    let head = HEAD.replace("off\"\nevents", "127.0.0.1:0\"\nevents");
    let several = Several::new(&[]);
    several.configure(&head, &[("a", ""), ("b", ""), ("c", "")]);
    let running = several.0.watch(&[]);
    let address = address(&running);
    for name in ["a", "b", "c"] {
        several.put(&format!("in-{name}/0"), "old");
    }
    until("all three", || several.acknowledged().len() == 3);
    several.configure(&head, &[("b", ""), ("c", "transforms = \"gzip\""), ("d", "")]);
    reload(&running);
    let log = running.log();
    for field in [" changed=c ", " added=d ", " removed=a ", " unchanged=b"] {
        assert!(log.contains(field), "{field}: {log}");
    }
    for name in ["a", "b", "c", "d"] {
        several.put(&format!("in-{name}/1"), "new");
    }
    until("three of four", || several.acknowledged().len() == 6);
    assert_eq!(several.content("out-d/1.zst"), b"new");
    assert!(several.is_there("out-c/1.gz") && several.is_there("in-a/1"));
    let answer = status(&address);
    let names: Vec<_> = answer["pipelines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["b", "c", "d"]);
    // It goes on counting.
    until("c/1 is counted", || status(&address)["pipelines"][1]["published"] == 2);
    let counted = "tidemill_files_total{pipeline=\"d\",outcome=\"published\"} 1";
    until(counted, || get(&address, "/metrics").contains(counted));
    let written = fs::read_to_string(several.0.state().join("config.toml")).unwrap();
    assert!(written.contains("name = \"d\"") && !written.contains("name = \"a\""), "{written}");

    several.configure(&head, &[("a", ""), ("b", ""), ("c", "transforms = \"gzip\""), ("d", "")]);
    reload(&running);
    until("what waited for it", || several.acknowledged().contains_key("a/1"));
    until("a/1 is counted", || status(&address)["pipelines"][0]["published"] == 2);
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("published=7"), "{ended:?}");
    assert!(several.acknowledged().values().all(|times| *times == 1));
}

#[test]
fn a_key_that_cannot_change_is_named_and_nothing_at_all_is_applied() {
    let several = Several::new(&[("a", "")]);
    let running = several.0.watch(&[]);
    for (key, line, old) in [
        ("state_dir", "state_dir = \"other\"", "state_dir = \"state\""),
        ("http", "http = \"127.0.0.1:0\"", "http = \"off\""),
        ("events", "events = \"log/other\"", "events = \"log/events\""),
        ("sandbox", "sandbox = \"best-effort\"", "sandbox = \"off\""),
        ("log_format", "sandbox = \"off\"\nlog_format = \"json\"", "sandbox = \"off\""),
        ("limits.files", "sandbox = \"off\"\nlimits.files = 9", "sandbox = \"off\""),
        ("limits.memory", "sandbox = \"off\"\nlimits.memory = \"100MiB\"", "sandbox = \"off\""),
        ("shutdown_deadline", "sandbox = \"off\"\nshutdown_deadline = \"9s\"", "sandbox = \"off\""),
    ] {
        let head = HEAD.replace(old, line);
        several.configure(&head, &[("a", "transforms = \"gzip\""), ("b", "")]);
        reload(&running);
        let wanted = format!("cannot change `{key}` without a restart");
        assert!(running.log().contains(&wanted), "{wanted}: {}", running.log());
        assert!(!several.is_there("out-b"), "nothing is made: {key}");
    }
    several.put("in-a/0", content_of("a", 0));
    until("a/0", || several.acknowledged().len() == 1);
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(count(&ended.stderr, "event=config.reloaded"), 0, "{ended:?}");
    several.assert_all_once(&["a"], 1, &ended.stderr);
}

#[test]
fn in_the_sandbox_a_reload_stays_within_what_was_opened_at_the_start() {
    let head = HEAD.replace("sandbox = \"off\"", "sandbox = \"best-effort\"");
    let several = Several::new(&[]);
    several.configure(&head, &[("a", ""), ("b", "")]);
    let running = several.0.watch(&[]);
    let confined = running.log().contains("sandbox active");
    several.configure(&head, &[("a", ""), ("b", ""), ("c", "")]);
    reload(&running);
    if confined {
        let log = running.log();
        for key in ["`input`", "`output`"] {
            let wanted = format!("{key} of the pipeline `c`: {}", several.0.root().display());
            assert!(log.contains(&wanted), "{wanted}: {log}");
        }
        assert!(log.contains("is outside the sandbox"), "{log}");
        assert!(!several.is_there("out-c"), "{log}");
    }
    several.configure(&head, &[("a", ""), ("b", "output = \"out-b/below/it\"")]);
    reload(&running);
    several.put("in-a/0", "a");
    several.put("in-b/0", "b");
    until("both", || several.acknowledged().len() == 2);
    assert_eq!(several.content("out-b/below/it/0.zst"), b"b");
    assert_eq!(running.stop().code, 0);
}

#[test]
fn a_storm_of_hang_ups_ends_with_the_newest_file_in_force() {
    const FILES: usize = 100;
    let several = Several::new(&[("a", ""), ("b", "")]);
    let running = several.0.watch(&[]);
    for number in 0..50 {
        several.put(&format!("in-b/{number}"), content_of("b", number));
        several.configure(HEAD, &[("a", ""), ("b", &transforms(number % 5 + 1))]);
        running.signal(Signal::HUP);
    }
    several.configure(HEAD, &[("a", ""), ("b", "transforms = \"zstd:19\"")]);
    running.signal(Signal::HUP);
    let written = || fs::read_to_string(several.0.state().join("config.toml")).unwrap_or_default();
    until("the newest", || written().contains("zstd:19"));
    for number in 50..FILES {
        several.put(&format!("in-b/{number}"), content_of("b", number));
    }
    until("all", || several.acknowledged().len() == FILES);
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    several.assert_all_once(&["b"], FILES, &ended.stderr);
}

/// A service whose pipeline `b` has many files in flight when the reload begins.
fn in_the_middle(several: &Several, files: usize, manager: &Manager) -> Running {
    let mut command = several.0.tidemill(&["run", "--config", "tidemill.toml"]);
    command.env("NOTIFY_SOCKET", manager.path()).env("FAILPOINTS", "write=sleep(10)");
    let running = Running::start(&mut command);
    running.until_logged("event=pipeline.ready");
    for number in 0..files {
        several.put(&format!("in-b/{number}"), content_of("b", number));
    }
    until("files are in flight", || {
        several.is_there("out-b/0.zst") || several.acknowledged().len() > 1
    });
    several.configure(HEAD, &[("a", ""), ("b", "transforms = \"zstd:1\"")]);
    running.signal(Signal::HUP);
    manager.until("RELOADING=1");
    running
}

/// The next start resumes unfinished work, and then everything was published once.
fn finish(several: &Several, files: usize) -> Ended {
    let next = several.0.once(&[]);
    assert_eq!(next.code, 0, "{next:?}");
    several.assert_all_once(&["b"], files, &next.stderr);
    next
}

#[test]
fn a_stop_in_the_middle_of_a_reload_drains_as_ever() {
    const FILES: usize = 150;
    let several = Several::new(&[("a", ""), ("b", "")]);
    let manager = Manager::new(&several.0.root().join("notify"));
    let running = in_the_middle(&several, FILES, &manager);
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    manager.until("STOPPING=1");
    assert!(ended.stderr.contains("tasks_alive=0 temporary_files=0"), "{ended:?}");
    several.0.assert_clean();
    finish(&several, FILES);
}

#[test]
fn a_kill_in_the_middle_of_a_reload_is_recovered_from() {
    const FILES: usize = 150;
    let several = Several::new(&[("a", ""), ("b", "")]);
    let manager = Manager::new(&several.0.root().join("notify"));
    drop(in_the_middle(&several, FILES, &manager));
    finish(&several, FILES);
}

#[test]
fn the_service_manager_is_notified_of_a_reload_and_of_its_end() {
    let several = Several::new(&[("a", "")]);
    let manager = Manager::new(&several.0.root().join("notify"));
    let mut command = several.0.tidemill(&["run", "--config", "tidemill.toml"]);
    let running = Running::start(command.env("NOTIFY_SOCKET", manager.path()));
    manager.until("READY=1");
    several.configure(HEAD, &[("a", "on_exits = 1")]);
    for expected in ["reload refused", "event=config.reloaded"] {
        let before = manager.messages().len();
        reload(&running);
        let new = || {
            let mut messages = manager.messages().split_off(before);
            messages.retain(|message| !message.starts_with("STATUS="));
            messages
        };
        until("READY=1 again", || new().iter().any(|message| message.contains("READY=1")));
        let [begin, end] = new().try_into().unwrap();
        let mut lines: BTreeSet<&str> = begin.lines().collect();
        assert!(lines.remove("RELOADING=1"), "{begin}");
        let clock = lines.pop_first().unwrap().strip_prefix("MONOTONIC_USEC=").unwrap();
        assert!(clock.parse::<u64>().unwrap() > 0);
        assert_eq!(end.trim(), "READY=1");
        assert!(running.log().contains(expected), "{}", running.log());
        several.configure(HEAD, &[("a", "transforms = \"gzip\"")]);
    }
    assert_eq!(running.stop().code, 0);
}

#[test]
fn without_a_file_there_is_nothing_to_read_again() {
    let place = TestDir::new();
    let running = Running::start(&mut place.tidemill(&["run", "in", "out", "--http", "off"]));
    running.until_logged("event=pipeline.ready");
    reload(&running);
    assert!(
        running.log().contains("no configuration file: the service was started with options alone")
    );
    place.put("a", "content");
    until("a", || place.output().join("a.zst").exists());
    assert_eq!(running.stop().code, 0);
}

#[test]
fn a_hang_up_during_the_drain_is_logged_and_changes_nothing() {
    const FILES: usize = 50;
    let several = Several::new(&[("a", ""), ("b", "settle = \"0s\"")]);
    let running = several.0.watch_with(&[], "write=sleep(100)");
    for number in 0..FILES {
        several.put(&format!("in-b/{number}"), content_of("b", number));
    }
    until("files are in flight", || !several.acknowledged().is_empty());
    running.signal(Signal::TERM);
    running.until_logged("DRAINING");
    several.configure(HEAD, &[("a", "")]);
    running.signal(Signal::HUP);
    running.until_logged("SIGHUP ignored, service is stopping");
    let ended = running.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    several.configure(HEAD, &[("a", ""), ("b", "")]);
    finish(&several, FILES);
}

#[test]
fn options_of_the_command_line_override_the_file_again() {
    let place = TestDir::new();
    let running = place.watch(&["--transform", "gzip"]);
    place.configure("transforms = \"xz\"\non_exists = \"suffix\"");
    reload(&running);
    assert!(running.log().contains("changed=main"), "{}", running.log());
    place.put("a", "content");
    until("a", || place.output().join("a.gz").exists());
    assert!(!Path::new(&place.output()).join("a.xz").exists());
    assert_eq!(running.stop().code, 0);
}

/// A change that an operator asks for over the service's socket.
fn ask(several: &Several, what: &str) -> (u16, serde_json::Value) {
    let mut stream =
        std::os::unix::net::UnixStream::connect(several.0.state().join("admin.sock")).unwrap();
    write!(stream, "POST /api/v1/{what} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

/// The new intake of a paused pipeline took files, while the status showed it as paused.
#[test]
fn a_reload_of_the_only_pipeline_leaves_it_paused() {
    let several = Several::new(&[("a", "")]);
    let running = several.0.watch(&[]);
    assert_eq!(ask(&several, "pause").0, 200);
    several.configure(HEAD, &[("a", "transforms = \"gzip\"\nsettle = \"0s\"")]);
    assert_eq!(ask(&several, "reload").0, 200);
    several.put("in-a/0", "content");
    let state = several.0.state();
    let status = || several.0.run(&["status", "--json", "--state-dir", state.to_str().unwrap()]);
    let pipeline = || -> serde_json::Value {
        let status: serde_json::Value = serde_json::from_str(&status().stdout).unwrap();
        status["pipelines"][0].clone()
    };
    until("it is seen, and waits", || pipeline()["pending"] == 1);
    assert_eq!(pipeline()["paused"][0]["reason"], "operator");
    assert!(!several.is_there("out-a/0.gz"));
    assert_eq!(ask(&several, "resume").0, 200);
    until("it is published", || several.is_there("out-a/0.gz"));
    assert_eq!(pipeline()["paused"], serde_json::json!([]));
    assert_eq!(running.stop().code, 0);
}

#[test]
fn an_operator_reloads_over_the_socket_and_what_is_held_stays_held() {
    let several = Several::new(&[("a", ""), ("b", "")]);
    let running = several.0.watch(&[]);
    assert_eq!(ask(&several, "pause").0, 200);
    several.configure(HEAD, &[("a", "on_exits = 1")]);
    let (code, refused) = ask(&several, "reload");
    assert_eq!((code, &refused["error"]), (422, &"invalid".into()), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("write `on_exists`"), "{refused}");
    let head = HEAD.replace("log/events", "log/other");
    several.configure(&head, &[("a", ""), ("b", "")]);
    let (code, refused) = ask(&several, "reload");
    assert_eq!(code, 409, "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("cannot change `events`"), "{refused}");
    several.configure(HEAD, &[("b", "transforms = \"gzip\""), ("c", "")]);
    let (code, done) = ask(&several, "reload");
    let expected =
        serde_json::json!({"changed": ["b"], "unchanged": [], "added": ["c"], "removed": ["a"]});
    assert_eq!((code, done), (200, expected));
    several.put("in-b/0", "content");
    several.put("in-c/0", "content");
    assert_eq!(ask(&several, "rescan").0, 200);
    assert!(!several.is_there("out-b/0.gz") && !several.is_there("out-c/0.zst"));
    assert_eq!(ask(&several, "resume").0, 200);
    until("both", || several.is_there("out-b/0.gz") && several.is_there("out-c/0.zst"));
    assert_eq!(running.stop().code, 0);
}

/// The exit code was 0, with a published output that no line acknowledged.
#[test]
fn a_pipeline_that_is_removed_or_changed_while_its_outputs_wait_for_space_ends_with_75() {
    let others = [None, Some("exclude = [\"*\"]"), Some("output = \"other\"")];
    for lines in others {
        let several = Several::new(&[("a", ""), ("b", "")]);
        let running = several.0.watch_with(&[], "events::append=return(enospc)");
        several.put("in-a/0", "content");
        running.until_logged("storage unavailable, intake paused");
        let changed = lines.map(|lines| ("a", lines));
        let pipelines: Vec<_> = changed.into_iter().chain([("b", "")]).collect();
        several.configure(HEAD, &pipelines);
        reload(&running);
        let ended = running.stop();
        assert_eq!(ended.code, 75, "{lines:?}: {ended:?}");
        several.configure(HEAD, &[("a", ""), ("b", "")]);
        let ended = several.0.once(&[]);
        assert_eq!(ended.code, 0, "{lines:?}: {ended:?}");
        // With another output its pipeline is another one, which may have been quick enough to take the file.
        let most = if lines.is_some_and(|lines| lines.contains("output")) { 2 } else { 1 };
        let acknowledged = several.acknowledged()["a/0"];
        assert!((1..=most).contains(&acknowledged), "{lines:?}: {acknowledged}");
    }
}

/// The new intake had the pause of before.
#[test]
fn a_pause_during_the_drain_of_a_reload_is_kept() {
    let several = Several::new(&[("a", "")]);
    let gate = several.0.root().join("gate");
    fs::write(&gate, "").unwrap();
    let failpoints = format!("commit::sync=return(while:{})", gate.display());
    let running = several.0.watch_with(&[], &failpoints);
    several.put("in-a/0", "content");
    let is_staged = || {
        let staged = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "tmp");
        tree(&several.0.root().join("out-a")).iter().any(staged)
    };
    until("it is staged", is_staged);
    several.configure(HEAD, &[("a", "settle = \"0s\"")]);
    let results = |log: &str| count(log, "event=config.reloaded");
    let before = results(&running.log());
    running.signal(Signal::HUP);
    let intakes = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", running.pid())).unwrap();
        let names =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name == "intake\n").count()
    };
    until("the new intake waits for the old one", || intakes() == 2);
    assert_eq!(ask(&several, "pause").0, 200);
    fs::remove_file(&gate).unwrap();
    until("it is reloaded", || results(&running.log()) > before);
    several.put("in-a/1", "content");
    let state = several.0.state();
    let status = || several.0.run(&["status", "--json", "--state-dir", state.to_str().unwrap()]);
    let pending = || {
        let status: serde_json::Value = serde_json::from_str(&status().stdout).unwrap();
        status["pipelines"][0]["pending"].clone()
    };
    until("the next one waits", || pending() == 1);
    assert!(several.is_there("out-a/0.zst") && !several.is_there("out-a/1.zst"));
    assert_eq!(ask(&several, "resume").0, 200);
    until("it is published", || several.is_there("out-a/1.zst"));
    assert_eq!(running.stop().code, 0);
}
