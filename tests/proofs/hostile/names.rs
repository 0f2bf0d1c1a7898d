//! A name that is as sly as a name can be, in everything that names it.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::PathBuf};

use crate::{
    files::{Running, TestDir, tree, until},
    hostile::process::get,
};

/// A line break, escape codes, bytes that are no text, a mark that turns text around; 251 bytes, so
/// that the output's name has as many as a name may have.
fn sly() -> Vec<u8> {
    let mut name =
        b"a\nERROR forged\r\x1b[2J\x1b]0;title\x07\xff\xe9\"'\\\xe2\x80\xae${x}`x`".to_vec();
    name.resize(251, b'n');
    name
}

/// No control character, and no line that the name began.
fn assert_harmless(what: &str, text: &str) {
    for line in text.lines() {
        assert!(!line.contains(char::is_control), "{what}: {line:?}");
        assert!(!line.starts_with("ERROR forged"), "{what}: {text:?}");
    }
}

/// In addition, no mark that turns text around: for what people read.
fn assert_plain(what: &str, text: &str) {
    assert_harmless(what, text);
    assert!(!text.contains('\u{202e}'), "{what}: {text:?}");
}

/// The service at its most talkative, on a directory and two files of that name: one good, one bad.
fn assert_escaped(format: &str) {
    let place = TestDir::new();
    let (name, good) = (sly(), crate::hostile::packed::pack("gz", b"content"));
    let (name, dir) = (OsStr::from_bytes(&name), PathBuf::from(OsStr::from_bytes(&sly()[..200])));
    let args = [
        "run",
        "--config",
        "tidemill.toml",
        "--transform",
        "gunzip,zstd",
        "--on-success",
        "delete",
        "--log-format",
        format,
        "--events",
        "events.jsonl",
        "--http",
        "127.0.0.1:0",
    ];
    fs::create_dir(place.input().join(&dir)).unwrap();
    let running = Running::start(place.tidemill(&args).env("RUST_LOG", "trace"));
    running.until_logged("phase=READY".trim_start_matches(if format == "json" {
        "phase="
    } else {
        ""
    }));
    place.put(dir.join(name), good);
    place.put(name, "no archive");
    let events = || fs::read_to_string(place.root().join("events.jsonl")).unwrap_or_default();
    until("both are in the events file", || events().lines().count() == 2);
    assert_plain("metrics", &get(&running, "/metrics"));
    assert_plain("status", &get(&running, "/api/v1/status"));
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    let mut output = name.to_owned();
    output.push(".zst");
    assert_eq!(place.published(dir.join(output)), b"content");
    assert_plain(format, &ended.stderr);
    assert!(ended.stderr.contains("ERROR forged"), "the name is logged, escaped");
    assert_harmless("events", &events());
    for line in events().lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(event["source_hex"].as_str().unwrap().contains("0a4552524f52"), "{event}");
    }
    for args in [&["history"][..], &["history", "--json"]] {
        let history = place.run(args);
        assert_eq!(history.code, 0, "{history:?}");
        assert!(history.stdout.contains("ERROR forged"), "{history:?}");
        assert_harmless("history", &history.stdout);
    }
    let mut explain = place.tidemill(&["explain"]);
    let explained = Running::start(explain.arg(place.input().join(name))).end();
    assert_eq!(explained.code, 0, "{explained:?}");
    assert_plain("explain", &explained.stdout);
    let reason = tree(&place.quarantine())
        .into_iter()
        .find(|path| path.extension() == Some("json".as_ref()));
    assert_plain("the reason", &fs::read_to_string(reason.unwrap()).unwrap());
    assert_plain("requeue", &place.run(&["requeue", "--all"]).stdout);
    assert!(place.input().join(name).exists());
    place.assert_clean();
}

#[test]
fn a_sly_name_is_escaped_in_text_logs_events_metrics_history_and_explain() {
    assert_escaped("text");
}

#[test]
fn a_sly_name_is_escaped_in_json_logs_events_metrics_history_and_explain() {
    assert_escaped("json");
}
