//! The sandbox: what is kept out, that all still works in it, and what is logged where it cannot be.

use std::{
    fs,
    net::TcpListener,
    process::{Command, Stdio},
};

use crate::{
    files::{Ended, Running, TestDir, tree, until},
    hostile::{
        packed,
        process::{field, threads},
        programs,
    },
    prove,
};

const ENFORCED: &str = "sandbox active";

/// Whether the kernel holds all of it; printed where it does not.
fn kernel_has_it(name: &str) -> bool {
    let place = TestDir::new();
    let ended = place.once(&["--sandbox", "require"]);
    if ended.code == 78 {
        prove::skipped(name, ended.stderr.trim());
    }
    ended.code == 0
}

#[test]
fn a_thread_of_a_confined_process_reaches_nothing_but_what_is_allowed() {
    let name = "a_thread_of_a_confined_process_reaches_nothing_but_what_is_allowed";
    if !kernel_has_it(name) {
        return;
    }
    let place = TestDir::new();
    let root = place.root();
    for dir in ["one", "two", "log", "read", "read_files"] {
        fs::create_dir(root.join(dir)).unwrap();
    }
    for file in ["one/file", "one/other", "read/file", "read_files/file", "secret"] {
        fs::write(root.join(file), "content").unwrap();
    }
    std::os::unix::fs::symlink(root.join("secret"), root.join("one/link")).unwrap();
    // The first is refused, the second allowed.
    let listeners = [0, 0].map(|port| TcpListener::bind(("127.0.0.1", port)).unwrap());
    let [one, other] = listeners.each_ref().map(|it| it.local_addr().unwrap().port());
    let ports = format!("{one} {other}");
    let mut child = programs::child("confined");
    let ended = Running::start(child.env(programs::ROOT, &root).env(programs::PORTS, ports)).end();
    assert_eq!(ended.code, 0, "{ended:?}");
    let prints = |what: &str, result: &str| {
        let line = format!("{what}: {result}");
        assert!(ended.stdout.lines().any(|found| found == line), "{line}\n{ended:?}");
    };
    prints("extent", "whole");
    for what in ["read inside", "rename inside", "remove inside", "directory inside"] {
        prints(what, "done");
    }
    prints("read below a file's directory", "done");
    for what in ["append", "read what is read", "listen", "connect"] {
        prints(what, "done");
    }
    for what in [
        "remove from the log",
        "write what is read",
        "truncate what is read",
        "list a file's directory",
        "read outside",
        "read outside by a link inside",
        "write outside",
        "remove outside",
        "link inside",
        "list outside",
        "run a program",
        "listen elsewhere",
        "connect elsewhere",
    ] {
        prints(what, "errno 13");
    }
    // To another directory: EXDEV, as between file systems; or EACCES, as for the others.
    for what in ["rename out", "rename in"] {
        let refused = [13, 18].map(|errno| format!("{what}: errno {errno}"));
        assert!(refused.iter().any(|line| ended.stdout.contains(line)), "{what}\n{ended:?}");
    }
    prints("signal", "errno 1");
    assert_eq!(fs::read(root.join("read/file")).unwrap(), b"content");
    assert_eq!(fs::read(root.join("secret")).unwrap(), b"content");
}

#[test]
fn in_the_sandbox_every_fate_of_a_source_is_met_across_directories() {
    let name = "in_the_sandbox_every_fate_of_a_source_is_met_across_directories";
    if !kernel_has_it(name) {
        return;
    }
    for on_success in ["keep", "delete", "archive:elsewhere/done"] {
        let place = TestDir::new();
        place.configure("quarantine = \"kept/for/me\"\ntransforms = \"gunzip,zstd\"");
        let running = place.watch(&[
            "--sandbox",
            "require",
            "--on-success",
            on_success,
            "--events",
            "events.jsonl",
            "--http",
            "127.0.0.1:0",
        ]);
        running.until_logged(ENFORCED);
        let packed = gzip(b"content");
        let large = gzip(&b"large".repeat(100_000));
        place.put("a.gz", &packed);
        place.put("sub/deep/large.gz", &large);
        place.put("sub/bad.gz", "no archive");
        let events = place.root().join("events.jsonl");
        let is_acknowledged =
            |what: &str| fs::read_to_string(&events).is_ok_and(|text| text.contains(what));
        until("all three are acknowledged", || {
            ["a.gz", "sub/deep/large.gz", "sub/bad.gz"].iter().all(|source| is_acknowledged(source))
        });
        // A log rotation: the file is created again in its directory.
        fs::rename(&events, place.root().join("events.jsonl.1")).unwrap();
        place.put("later.gz", &packed);
        until("the new events file", || is_acknowledged("later.gz"));
        let ended = running.stop();
        assert_eq!(ended.code, 0, "{on_success}: {ended:?}");
        assert_eq!(tree(&place.output()).len(), 3, "{on_success}: {ended:?}");
        let kept = place.root().join("kept/for/me/sub");
        let reason = fs::read_to_string(kept.join("bad.gz.json")).unwrap();
        assert!(reason.contains("cannot transform"), "{reason}");
        assert_eq!(kept.join("bad.gz").exists(), on_success != "keep");
        assert!(!place.quarantine().exists(), "another one is configured");
        assert_eq!(place.state_of("sub/bad.gz"), "quarantined");
        assert!(place.reason_of("sub/bad.gz").contains("cannot transform"));
        let left = if on_success == "keep" { 4 } else { 0 };
        assert_eq!(tree(&place.input()).len(), left, "{on_success}: {ended:?}");
        let archived = tree(&place.root().join("elsewhere/done")).len();
        assert_eq!(archived, if on_success.starts_with("archive") { 3 } else { 0 });
        place.assert_clean();
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    packed::pack("gz", content)
}

#[test]
fn every_thread_of_the_service_was_started_after_the_sandbox_closed() {
    let name = "every_thread_of_the_service_was_started_after_the_sandbox_closed";
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        return prove::skipped(name, "there is no strace");
    }
    let place = TestDir::new();
    let trace = place.root().join("trace");
    place.put("a", "content");
    let tidemill =
        place.tidemill(&["run", "--config", "tidemill.toml", "--once", "--http", "127.0.0.1:0"]);
    let mut traced = Command::new("strace");
    traced
        .args(["-f", "-qq", "-e", "trace=landlock_restrict_self,clone,clone3,capset", "-o"])
        .arg(&trace)
        .arg(tidemill.get_program())
        .args(tidemill.get_args())
        .current_dir(place.root());
    let ended = Running::start(&mut traced).end();
    let trace = fs::read_to_string(trace).unwrap_or_default();
    if trace.is_empty() {
        return prove::skipped(name, ended.stderr.trim());
    }
    assert_eq!(ended.code, 0, "{ended:?}");
    let first = |call: &str| trace.lines().position(|line| line.contains(call));
    let thread = first("CLONE_THREAD").unwrap();
    assert!(first("capset(").unwrap() < thread, "{trace}");
    match first("landlock_restrict_self(") {
        Some(closed) => assert!(closed < thread, "{trace}"),
        None => prove::skipped(name, "the kernel has no Landlock"),
    }
}

#[test]
fn every_thread_of_the_service_has_no_new_privileges() {
    for args in [["--sandbox", "best-effort"], ["--sandbox", "off"]] {
        let place = TestDir::new();
        let running = place.watch(&args);
        let threads = threads(running.pid());
        assert!(threads.len() > 10, "{}", threads.len());
        for status in &threads {
            assert_eq!(field(status, "NoNewPrivs"), "1", "{status}");
        }
        assert_eq!(running.stop().code, 0);
    }
}

#[test]
fn an_input_that_is_made_again_ends_the_service_for_its_next_start_to_take_in() {
    made_again("an_input_that_is_made_again_ends_the_service_for_its_next_start_to_take_in", "in");
}

#[test]
fn an_output_that_is_made_again_ends_the_service_for_its_next_start_to_write_to() {
    made_again(
        "an_output_that_is_made_again_ends_the_service_for_its_next_start_to_write_to",
        "out",
    );
}

fn made_again(name: &str, dir: &str) {
    if !kernel_has_it(name) {
        return;
    }
    let place = TestDir::new();
    let running = place.watch(&["--on-success", "delete"]);
    let dir = place.root().join(dir);
    fs::remove_dir_all(&dir).unwrap();
    fs::create_dir(&dir).unwrap();
    place.put("second", "second");
    let ended = running.end();
    assert_eq!(ended.code, 75, "{ended:?}");
    let wanted = format!(
        "{} was created or mounted after the start, or did not respond then, and the sandbox excludes it",
        dir.display()
    );
    assert!(ended.stderr.contains(&wanted), "{ended:?}");
    assert_eq!(fs::read(place.input().join("second")).unwrap(), b"second");
    let next = place.once(&["--on-success", "delete"]);
    assert_eq!(next.code, 0, "{next:?}");
    assert_eq!(place.published("second.zst"), b"second");
    place.assert_clean();
}

#[test]
fn a_directory_that_was_moved_away_and_back_is_the_same_to_the_sandbox() {
    let place = TestDir::new();
    let running = place.watch(&[]);
    let away = place.root().join("away");
    fs::rename(place.input(), &away).unwrap();
    running.until_logged("input unavailable, intake paused");
    fs::rename(&away, place.input()).unwrap();
    running.until_logged("input available, intake resumed");
    place.put("a", "content");
    until("a", || place.output().join("a.zst").exists());
    assert_eq!(running.stop().code, 0);
}

#[test]
fn what_a_pipeline_that_is_configured_no_more_left_is_finished_in_the_sandbox() {
    for killed_at in ["commit::renamed", "dispose::taken"] {
        is_finished_by_another(killed_at);
    }
}

fn is_finished_by_another(killed_at: &str) {
    let place = TestDir::new();
    place.put("a", "content");
    let old = ["run", "in", "out", "--once", "--state-dir", "state", "--on-success", "archive:old"];
    let mut killed = place.tidemill(&old);
    killed.env("FAILPOINTS", format!("{killed_at}=return(kill)")).stderr(Stdio::null());
    let has = cfg!(feature = "failpoints");
    assert!(has, "this test needs `--features failpoints`");
    assert!(!killed.status().unwrap().success());
    for dir in ["in2", "out2"] {
        fs::create_dir(place.root().join(dir)).unwrap();
    }
    let ended = place.run(&["run", "in2", "out2", "--once", "--state-dir", "state"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("recovery finished"), "{ended:?}");
    assert_eq!(place.published("a.zst"), b"content");
    assert_eq!(fs::read(place.root().join("old/a")).unwrap(), b"content");
    assert_eq!(tree(&place.input()), Vec::<std::path::PathBuf>::new());
    place.assert_clean();
}

/// The service in a process that has as many sandboxes around it as the kernel allows.
fn where_no_more_fits(place: &TestDir, mode: &str) -> Ended {
    let tidemill = env!("CARGO_BIN_EXE_tidemill");
    let next =
        [tidemill, "run", "--config", "tidemill.toml", "--once", "--sandbox", mode].join("\n");
    let mut child = programs::child("many_layers");
    child.current_dir(place.root()).env(programs::NEXT, next).env("RUST_LOG", "info");
    Running::start(child.env_remove("FAILPOINTS")).end()
}

#[test]
fn where_the_kernel_cannot_the_best_effort_goes_on_and_require_does_not_start() {
    if !kernel_has_it("where_the_kernel_cannot_the_best_effort_goes_on_and_require_does_not_start")
    {
        return;
    }
    let place = TestDir::new();
    place.put("a", "content");
    let refused = where_no_more_fits(&place, "require");
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(refused.stderr.contains(r#"`sandbox = \"require\"`"#), "{refused:?}");
    assert!(refused.stderr.contains("cannot enter the sandbox"), "{refused:?}");
    assert!(tree(&place.output()).is_empty(), "{refused:?}");

    let ended = where_no_more_fits(&place, "best-effort");
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.stderr.matches("sandbox not available").count(), 1, "{ended:?}");
    assert_eq!(place.published("a.zst"), b"content");
}

#[test]
fn off_is_off_and_says_so() {
    let place = TestDir::new();
    let running = place.watch(&["--sandbox", "off"]);
    assert!(running.log().contains("sandbox disabled by the configuration"), "{}", running.log());
    assert!(!running.log().contains(ENFORCED), "{}", running.log());
    assert_eq!(running.stop().code, 0);
}
