//! What a running Tidemill shows over HTTP. The program under test is the real one.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// The most that is waited for one condition.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running service; killed when dropped.
struct Service {
    child: Child,
    address: SocketAddr,
    lines: Receiver<String>,
}

impl Service {
    fn run(dir: &Path, failpoints: &str) -> Self {
        for name in ["in", "out"] {
            std::fs::create_dir(dir.join(name)).unwrap();
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidemill"))
            .args(["run", "-v", "in", "out", "--http", "127.0.0.1:0", "--events", "events"])
            .current_dir(dir)
            .env("FAILPOINTS", failpoints)
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            log.lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut service = Self { child, address: any, lines };
        let line = service.until("http://");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        service.address = address.unwrap().parse().unwrap();
        service
    }

    /// The next line of the log that has this in it.
    fn until(&self, part: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("the log says no more");
            if line.contains(part) {
                return line;
            }
        }
    }

    /// The answer to a GET, head and body.
    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// Asks until the answer has all of these in it.
    fn get_until(&self, path: &str, parts: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path);
            let Some(missing) = parts.iter().find(|part| !answer.contains(**part)) else {
                return;
            };
            assert!(Instant::now() < deadline, "no `{missing}` in {answer}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Fails only where it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_published_file_is_seen_in_the_metrics_of_the_running_service() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::run(dir.path(), "");
    service.until("phase=READY");
    std::fs::write(dir.path().join("in/a"), "hello").unwrap();
    service.get_until(
        "/metrics",
        &[
            "tidemill_files_total{pipeline=\"main\",outcome=\"published\"} 1\n",
            "tidemill_source_bytes_total{pipeline=\"main\",outcome=\"published\"} 5\n",
            "tidemill_channel_entered_total{channel=\"read\"} 1\n",
            "tidemill_channel_capacity{channel=\"claim\"} 64\n",
            "tidemill_stage_seconds_count{pipeline=\"main\",stage=\"transform\"} 1\n",
            "tidemill_commit_batch_files_sum{pipeline=\"main\"} 1\n",
            "tidemill_sync_seconds_count{pipeline=\"main\",kind=\"file\"} 1\n",
            "tidemill_phase{phase=\"READY\"} 1\n",
        ],
    );
}

#[test]
fn a_draining_service_lives_and_is_not_ready_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::run(dir.path(), "commit::sync=pause");
    service.until("phase=READY");
    service.get_until("/readyz", &["200 OK"]);
    std::fs::write(dir.path().join("in/a"), "hello").unwrap();
    // Before that a stop would hand it back.
    let transformed = "tidemill_stage_seconds_count{pipeline=\"main\",stage=\"transform\"} 1\n";
    service.get_until("/metrics", &[transformed]);
    kill_process(Pid::from_child(&service.child), Signal::TERM).unwrap();
    service.get_until("/readyz", &["503", "phase DRAINING"]);
    service.get_until("/livez", &["200 OK"]);
    service.get_until("/metrics", &["tidemill_phase{phase=\"DRAINING\"} 1\n"]);
}

#[test]
fn a_file_that_vanishes_between_settling_and_its_claim_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::run(dir.path(), "claim=1*sleep(5000)->off");
    service.until("phase=READY");
    std::fs::write(dir.path().join("in/a"), "hello").unwrap();
    service.get_until("/metrics", &["tidemill_in_flight_files{pipeline=\"main\"} 1\n"]);
    #[expect(clippy::disallowed_methods, reason = "the test is the producer")]
    std::fs::remove_file(dir.path().join("in/a")).unwrap();
    service.get_until(
        "/metrics",
        &[
            "tidemill_in_flight_files{pipeline=\"main\"} 0\n",
            "tidemill_files_total{pipeline=\"main\",outcome=\"skipped\"} 1\n",
            "tidemill_retries_total{pipeline=\"main\"} 0\n",
        ],
    );
}

#[test]
fn a_hostile_name_is_escaped_in_the_log_and_exact_in_the_events() {
    let dir = tempfile::tempdir().unwrap();
    let service = Service::run(dir.path(), "");
    service.until("phase=READY");
    let name = b"a\n\x1b[2J\xff";
    std::fs::write(dir.path().join("in").join(OsStr::from_bytes(name)), "hello").unwrap();
    let line = service.until("event=file.published");
    assert!(line.contains(r"source=a\n\u{1b}[2J\xff "), "{line}");
    let events = std::fs::read_to_string(dir.path().join("events")).unwrap();
    assert_eq!(events.lines().count(), 1, "{events}");
    let event: serde_json::Value = serde_json::from_str(&events).unwrap();
    assert_eq!(event["source_hex"], "610a1b5b324aff");
    assert_eq!(event["outcome"], "published");
}
