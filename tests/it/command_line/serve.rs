//! `run`: its exit codes, its address, its events, and one instance for one state directory.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

use crate::files::{Ended, Running, TestDir, tree, until};

#[test]
fn a_second_instance_is_refused_by_name_and_the_first_one_works_on() {
    let place = TestDir::new();
    let running = place.watch(&[]);
    let second = place.once(&[]);
    assert_eq!(second.code, 75, "{second:?}");
    let (pid, state) = (running.pid(), place.state().display().to_string());
    for wanted in [
        format!("cannot lock the state directory {state}: process {pid} (`tidemill run "),
        format!(", since {}-", &jiff::Timestamp::now().to_string()[..4]),
        format!("hint: `tidemill drain --wait --state-dir {state}` stops it"),
    ] {
        assert!(second.stderr.contains(&wanted), "{wanted}: {second:?}");
    }
    place.put("a", "content");
    until("a", || place.output().join("a.zst").exists());
    assert_eq!(running.stop().code, 0);
    assert_eq!(place.once(&[]).code, 0, "the lock is free again");
}

/// An answer, with its head.
fn answer(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The body of an answer with code 200.
fn get(address: SocketAddr, path: &str) -> String {
    let answer = answer(address, path);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// The address that its log names.
fn served_at(running: &Running) -> SocketAddr {
    let begin = "HTTP server listening\" url=http://";
    running.until_logged(begin);
    let log = running.log();
    let (_, rest) = log.split_once(begin).unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

#[test]
fn a_named_address_is_served_and_one_that_is_taken_is_an_error() {
    let place = TestDir::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = place.once(&["--http", &address]);
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(refused.stderr.contains(&address), "{refused:?}");
    let last = refused.stderr.lines().last().unwrap();
    assert!(last.contains("ERROR") && last.contains("Address already in use"), "{refused:?}");
    place.assert_clean();

    let running = place.watch(&["--http", "127.0.0.1:0"]);
    assert!(get(served_at(&running), "/metrics").contains("tidemill_"));
    assert_eq!(running.stop().code, 0);
}

#[test]
fn where_the_default_address_is_taken_another_port_is_served_and_logged() {
    // This test or another process has the port: it is taken.
    let _taken = TcpListener::bind(("127.0.0.1", tidemill::limits::HTTP_PORT));
    let place = TestDir::new();
    let running = place.watch(&["--http", "default"]);
    let address = served_at(&running);
    assert_ne!(address.port(), tidemill::limits::HTTP_PORT);
    assert!(address.ip().is_loopback());
    assert!(running.log().contains("127.0.0.1:9464"), "{}", running.log());
    // The phase follows the pipelines.
    until("it is ready", || answer(address, "/readyz").starts_with("HTTP/1.1 200"));
    assert_eq!(running.stop().code, 0);
}

#[test]
fn every_event_matches_a_record_of_the_history() {
    let place = TestDir::new();
    place.put("good", "good");
    place.put("sub/good", "good");
    place.put("bad", "bad");
    std::fs::write(place.output().join("bad.zst"), "theirs").unwrap();
    let ended = place.once(&["--events", "events.jsonl"]);
    assert_eq!(ended.code, 65, "{ended:?}");
    let text = std::fs::read_to_string(place.root().join("events.jsonl")).unwrap();
    let events: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 3, "{text}");
    for event in &events {
        let source = event["source"].as_str().unwrap();
        let history = place.history(source);
        let [record] = history.as_slice() else { panic!("{history:?}") };
        let state = if source == "bad" { "quarantined" } else { "done" };
        let outcome = if source == "bad" { "quarantined" } else { "published" };
        assert_eq!((&record["state"], &event["outcome"]), (&state.into(), &outcome.into()));
        let same = ["pipeline", "source_bytes", "output", "output_bytes", "output_hash"];
        for key in same.into_iter().chain(["reason_code", "reason"]) {
            assert_eq!(record.get(key), event.get(key), "{key}: {record} {event}");
        }
        assert_eq!(record["id"], event["id"], "{record} {event}");
    }
}

#[test]
fn the_exit_code_reports_the_outcome() {
    let place = TestDir::new();
    place.put("a", "content");
    assert_eq!(place.once(&[]).code, 0);
    place.put("b", "no archive");
    assert_eq!(place.once(&["--transform", "gunzip"]).code, 65);
    place.put("c", "content");
    let failing = [("commit::directory=return(eio)", "cannot make the directory of")];
    for (failpoint, wanted) in failing {
        let args = ["run", "--config", "tidemill.toml", "--once"];
        let Ended { code, stderr, .. } =
            Running::start(place.tidemill(&args).env("FAILPOINTS", failpoint)).end();
        assert_eq!(code, 74, "{stderr}");
        assert!(stderr.contains(wanted), "{stderr}");
    }
    let out = place.output();
    assert_eq!(tree(&out), [out.join("a.zst")]);
    place.assert_clean();
    assert_eq!(place.once(&[]).code, 65, "the next start does it, and `b` still is in quarantine");
    assert_eq!(place.published("c.zst"), b"content");
    assert_eq!(place.state_of("c"), "done");
}

#[test]
fn a_stop_without_time_defers_files_and_reports_them() {
    let place = TestDir::new();
    for number in 0..20 {
        place.put(format!("file{number}"), "content");
    }
    let running = place.watch_with(&["--shutdown-deadline", "2500ms"], "write=sleep(1000)");
    until("the first output", || !tree(&place.output()).is_empty());
    let ended = running.stop();
    assert_eq!(ended.code, 75, "{ended:?}");
    assert!(!ended.stderr.contains("unfinished=0"), "{ended:?}");
    place.assert_clean();
    assert_eq!(place.once(&[]).code, 0);
    assert_eq!(tree(&place.output()).len(), 20);
}

#[test]
fn logs_are_text_or_json_on_the_standard_error() {
    let place = TestDir::new();
    place.put("a", "content");
    let ended = place.once(&["--log-format", "json"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.stdout, "");
    let lines: Vec<serde_json::Value> =
        ended.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["message"].is_string()), "{lines:?}");
    let published = lines.iter().find(|line| line["event"] == "file.published").unwrap();
    assert_eq!(published["source"], "a", "{published}");
    assert_eq!(published["attempts"], serde_json::Value::Null, "{published}");
    let finished = lines.last().unwrap();
    assert_eq!(finished["event"], "once.finished");
    assert_eq!((&finished["published"], &finished["source_size"]), (&1.into(), &"7 B".into()));
}

#[test]
fn once_ends_at_once_where_there_is_nothing_to_do() {
    let place = TestDir::new();
    place.put("a.part", "");
    let began = std::time::Instant::now();
    assert_eq!(place.once(&["--exclude", "*.part"]).code, 0);
    std::fs::remove_file(place.input().join("a.part")).unwrap();
    assert_eq!(place.once(&[]).code, 0);
    assert!(began.elapsed() < tidemill::limits::ONCE_BUSY_TIMEOUT, "{:?}", began.elapsed());
}
