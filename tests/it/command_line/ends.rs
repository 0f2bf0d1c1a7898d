//! The exit of the service: no reader of its log delays it, and every report of it agrees.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::{fs::OpenOptionsExt, process::ExitStatusExt},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::files::{PATIENCE, Running, TestDir, tree, until};

/// A service whose log is read until it is ready, and never again.
struct Unread {
    child: Child,
    /// Holds the pipe open, as a stalled reader does.
    pipe: File,
}

/// Leaves no room in a pipe.
fn fill(mut pipe: &File) {
    while !matches!(pipe.write(b"."), Err(error) if error.kind() == ErrorKind::WouldBlock) {}
}

impl Unread {
    /// A service whose log goes to a pipe that is full once it is ready.
    fn start(place: &TestDir, args: &[&str], failpoints: &str) -> Self {
        let service = Self::spawn(place, (args, failpoints), |_| ());
        let text = std::cell::RefCell::new((&service.pipe, Vec::new()));
        until("it is ready", || {
            let (pipe, text) = &mut *text.borrow_mut();
            let mut some = [0; 4096];
            if let Ok(count) = pipe.read(&mut some) {
                text.extend_from_slice(&some[..count]);
            }
            String::from_utf8_lossy(text).contains("phase=READY")
        });
        fill(&service.pipe);
        service
    }

    /// A service whose log goes to this pipe.
    fn spawn(place: &TestDir, (args, failpoints): (&[&str], &str), before: fn(&File)) -> Self {
        let path = place.root().join("log");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        // O_NONBLOCK: the test never waits for the pipe.
        let pipe =
            OpenOptions::new().read(true).write(true).custom_flags(0o4000).open(&path).unwrap();
        let mut command = place.tidemill(&[&["run", "--config", "tidemill.toml"], args].concat());
        command.env("FAILPOINTS", failpoints).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(OpenOptions::new().write(true).open(&path).unwrap());
        before(&pipe);
        Self { child: command.spawn().unwrap(), pipe }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Returns its exit code, and the time until its exit.
    fn end(&mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), began.elapsed());
            }
            assert!(began.elapsed() < PATIENCE, "it does not end");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Its first line waited for the reader, before it followed signals.
#[test]
fn a_log_that_is_full_before_the_start_delays_neither_the_start_nor_the_stop() {
    let place = TestDir::new();
    let mut service = Unread::spawn(&place, (&[], ""), fill);
    until("it is ready", || place.run(&["status"]).stdout.contains("READY"));
    service.signal(Signal::TERM);
    let (code, took) = service.end();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// The pipe has no room for the log lines of this many files.
const FILES: usize = 300;

#[test]
fn an_unread_log_delays_no_file_and_no_stop() {
    let place = TestDir::new();
    let mut service = Unread::start(&place, &[], "");
    for number in 0..FILES {
        place.put(format!("{number}"), "content");
    }
    until("all are published", || tree(&place.output()).len() == FILES);
    service.signal(Signal::TERM);
    let (code, took) = service.end();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn an_unread_log_delays_neither_the_deadline_nor_the_third_signal() {
    for signals in [&[Signal::TERM][..], &[Signal::TERM, Signal::INT, Signal::TERM]] {
        let place = TestDir::new();
        let deadline = if signals.len() == 1 { "2s" } else { "1h" };
        let mut service = Unread::start(
            &place,
            &["--shutdown-deadline", deadline],
            "commit::directory=sleep(3600000)",
        );
        place.put("a", "content");
        until("it is in flight", || {
            tree(&place.output()).iter().any(|path| path.to_string_lossy().contains(".tidemill-"))
        });
        for (signal, phase) in signals.iter().zip(["DRAINING", "COMMITTING", ""]) {
            service.signal(*signal);
            if signals.len() > 1 {
                until(phase, || place.run(&["status"]).stdout.contains(phase));
            }
        }
        let (code, took) = service.end();
        assert_eq!(code, Some(75));
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}

#[test]
fn a_signal_ends_a_start_that_hangs() {
    let place = TestDir::new();
    // As in a mount that does not answer: the call on it does not return.
    assert!(Command::new("mkfifo").arg(place.root().join("hangs")).status().unwrap().success());
    let mut child =
        place.tidemill(&["run", "--config", "hangs"]).stderr(Stdio::null()).spawn().unwrap();
    let wchan = format!("/proc/{}/wchan", child.id());
    let hangs = || {
        let at = std::fs::read_to_string(&wchan).unwrap_or_default();
        at.contains("fifo") || at.contains("partner")
    };
    until("it hangs in the start", hangs);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    until("it ends", || {
        std::fs::read_to_string(&wchan)
            .is_ok_and(|at| !at.contains("partner") && !at.contains("fifo"))
    });
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(15), "{status}");
}

#[test]
fn drain_wait_ends_as_the_service_does_and_the_log_agrees() {
    let place = TestDir::new();
    let failpoint = "commit::directory=sleep(3600000)";
    let running = place.watch_with(&["--shutdown-deadline", "2s"], failpoint);
    place.put("a", "content");
    until("it is in flight", || {
        tree(&place.output()).iter().any(|path| path.to_string_lossy().contains(".tidemill-"))
    });
    let drained = place.run(&["drain", "--wait"]);
    assert_eq!(drained.code, 75, "{drained:?}");
    assert!(drained.stdout.contains("exited with code 75: 1 file unfinished"), "{drained:?}");
    let ended = running.end();
    assert_eq!(ended.code, 75, "{ended:?}");
    let stopped = ended
        .stderr
        .lines()
        .find(|line| line.contains("event=service.stopped "))
        .expect("the line");
    assert!(stopped.contains("unfinished=1"), "{stopped}");
    assert!(stopped.contains("exit_code=75"), "{stopped}");
    let last = ended.stderr.lines().last().unwrap();
    assert!(last.contains("ERROR") && last.contains("stopped at once"), "{ended:?}");
    let is_noise = |line: &str| line.contains("level=ERROR") && line.contains("resource.closed");
    assert!(!ended.stderr.lines().any(is_noise), "{ended:?}");
    assert_eq!(place.once(&[]).code, 0);
}

#[test]
fn drain_wait_reports_a_killed_service() {
    let place = TestDir::new();
    let running = place.watch_with(&["--shutdown-deadline", "1h"], "write=sleep(3600000)");
    place.put("a", "content");
    until("it is in flight", || place.run(&["status"]).stdout.contains("1 in flight"));
    let mut command = place.tidemill(&["drain", "--wait"]);
    let waiting = Running::start(&mut command);
    running.until_logged("phase=DRAINING");
    running.signal(Signal::KILL);
    let waited = waiting.end();
    assert_eq!(waited.code, 75, "{waited:?}");
    assert!(waited.stderr.contains("it was killed"), "{waited:?}");
}

#[test]
fn the_same_signal_twice_at_once_is_one_and_the_drain_goes_on() {
    let place = TestDir::new();
    let running = place.watch_with(&[], "write=sleep(20)");
    for number in 0..20 {
        place.put(format!("{number}"), "content");
    }
    until("work has begun", || !tree(&place.output()).is_empty());
    running.signal(Signal::TERM);
    running.signal(Signal::TERM);
    let ended = running.end();
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn once_names_the_file_that_it_defers_and_the_reason() {
    let place = TestDir::new();
    place.put("done", "content");
    let path = place.put("open", "content");
    let _writer = OpenOptions::new().append(true).open(path).unwrap();
    let ended = place.once(&[]);
    assert_eq!(ended.code, 75, "{ended:?}");
    let named = ended.stderr.lines().find(|line| line.contains("not processed")).unwrap();
    assert!(named.contains("/in/open") && named.contains("open for writing"), "{named}");
    assert!(ended.stderr.contains("1 deferred to the next run"), "{ended:?}");
}

/// Returns the names after `source=…/in/` of the files that a log names as left.
fn left(log: &str) -> Vec<&str> {
    let lines = log.lines().filter(|line| line.contains("event=file.deferred "));
    let mut names: Vec<_> = lines
        .map(|line| line.split("/in/").nth(1).unwrap().split([' ', '"']).next().unwrap())
        .collect();
    names.sort_unstable();
    names
}

/// It named the first ten.
#[test]
fn once_names_every_file_that_it_leaves() {
    let place = TestDir::new();
    let wanted: Vec<_> = (10..35).map(|number| format!("open{number}")).collect();
    let open = |name| OpenOptions::new().append(true).open(place.put(name, "content")).unwrap();
    let _writers: Vec<_> = wanted.iter().map(open).collect();
    let ended = place.once(&[]);
    assert_eq!(ended.code, 75, "{ended:?}");
    assert_eq!(left(&ended.stderr), wanted, "{ended:?}");
    assert_eq!(ended.stderr.matches("open for writing").count(), 25, "{ended:?}");
    assert!(ended.stderr.contains("25 deferred to the next run"), "{ended:?}");
}

/// It named those in flight only.
#[test]
fn once_names_every_file_that_a_signal_makes_it_leave() {
    let place = TestDir::new();
    let wanted: Vec<_> = (10..35).map(|number| format!("open{number}")).collect();
    let open = |name| OpenOptions::new().append(true).open(place.put(name, "content")).unwrap();
    let _writers: Vec<_> = wanted.iter().map(open).collect();
    place.put("done", "content");
    let running =
        Running::start(&mut place.tidemill(&["run", "--config", "tidemill.toml", "--once"]));
    until("the scan has ended", || place.output().join("done.zst").exists());
    let ended = running.stop();
    assert_eq!(ended.code, 75, "{ended:?}");
    assert_eq!(left(&ended.stderr), wanted, "{ended:?}");
    assert!(ended.stderr.contains("25 deferred to the next run"), "{ended:?}");
}

#[test]
fn once_names_a_file_that_min_age_keeps_back_also_one_of_the_future() {
    let place = TestDir::new();
    place.configure("min_age = \"1h\"");
    let path = place.put("tomorrow", "content");
    let later = std::time::SystemTime::now() + Duration::from_hours(1);
    File::open(path).unwrap().set_modified(later).unwrap();
    let ended = place.once(&[]);
    assert_eq!(ended.code, 75, "{ended:?}");
    assert!(ended.stderr.contains("younger than `min_age`"), "{ended:?}");
}

#[test]
fn once_ends_with_65_for_as_long_as_a_file_is_in_quarantine() {
    let place = TestDir::new();
    place.configure("transforms = \"gunzip\"\non_success = \"delete\"");
    place.put("bad.gz", "no gzip at all");
    for run in 0..2 {
        let ended = place.once(&[]);
        assert_eq!(ended.code, 65, "{run}: {ended:?}");
        assert!(ended.stderr.contains("1 in quarantine"), "{run}: {ended:?}");
    }
    std::fs::remove_file(place.quarantine().join("bad.gz")).unwrap();
    assert_eq!(place.once(&[]).code, 0);
}

#[test]
fn once_with_no_time_to_stop_and_nothing_to_do_ends_with_0_in_silence() {
    let place = TestDir::new();
    let ended = place.once(&["--shutdown-deadline", "0"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stderr.contains("ERROR") && !ended.stderr.contains("WARN"), "{ended:?}");
}

#[test]
fn a_closed_terminal_ends_a_service_that_has_no_file_to_read_again() {
    let place = TestDir::new();
    place.put("a", "content");
    let shown =
        format!("exec {} run in out --http off --state-dir state", env!("CARGO_BIN_EXE_tidemill"));
    let mut terminal = Command::new("script")
        .args(["-qefc", &shown, "/dev/null"])
        .current_dir(place.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("it is running", || place.output().join("a.zst").exists());
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    until("it has ended", || place.once(&[]).code == 0);
    let ended = std::fs::read_to_string(place.state().join("stopped.json")).unwrap();
    assert!(ended.contains("\"exit_code\":0"), "{ended}");
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let place = TestDir::new();
    place.put("a", "content");
    assert_eq!(place.once(&[]).code, 0);
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = place.tidemill(&["history"]).stdout(full).output().unwrap();
    assert_eq!(ended.status.code(), Some(74), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("No space left"), "{ended:?}");
}

#[test]
fn a_command_that_needs_a_service_exits_with_69_without_one() {
    let place = TestDir::new();
    assert_eq!(place.once(&[]).code, 0);
    let empty = tempfile::tempdir().unwrap();
    for command in ["status", "pause", "resume", "drain"] {
        let ended = place.run(&[command, "--state-dir", empty.path().to_str().unwrap()]);
        assert_eq!(ended.code, 69, "{command}: {ended:?}");
        // A `--once` has no socket, and has ended.
        let ended = place.run(&[command]);
        assert_eq!(ended.code, 69, "{command}: {ended:?}");
        assert!(ended.stderr.contains("`tidemill run` starts one"), "{ended:?}");
    }
    let running = place.watch(&["--admin-socket", "off"]);
    let ended = place.run(&["status"]);
    assert_eq!(ended.code, 78, "{ended:?}");
    let wanted = format!("(process {}) has no admin socket", running.pid());
    assert!(ended.stderr.contains(&wanted), "{ended:?}");
}
