//! The example `examples/http.rs`, as a process.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use rustix::process::Signal;
use tempfile::TempDir;

use super::{PATIENCE, Program};

/// Builds the example, which is quick where the tests were built with all targets, and returns its path.
/// `--workspace` gives its dependencies the features that they have in a test of all crates.
fn example() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--offline", "--workspace", "--example", "http"]);
        cargo.arg("--message-format=json").current_dir(env!("CARGO_MANIFEST_DIR"));
        let built = cargo.stderr(Stdio::inherit()).output().unwrap();
        assert!(built.status.success(), "cannot build the example");
        let messages = String::from_utf8(built.stdout).unwrap();
        let paths = messages.split("\"executable\":\"").skip(1);
        let mut paths = paths.filter_map(|rest| rest.split('"').next());
        paths.next().expect("cargo names the executable").into()
    })
}

struct Service {
    program: Program,
    address: SocketAddr,
    dir: TempDir,
}

impl Service {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("visits"), "41\n").unwrap();
        let mut command = Command::new(example());
        command.args(["127.0.0.1:0", "visits"]).current_dir(dir.path()).env("NO_COLOR", "1");
        let program = Program::start(&mut command);
        let address = program.until("listening on ").parse().unwrap();
        program.until("phase=READY");
        Self { program, address, dir }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a GET request and returns the status and the body of its response.
    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = self.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        response(stream)
    }

    /// Sends the head of a POST request. It is in flight when this returns: the service waits for its
    /// body of five bytes.
    fn begin_post(&self) -> TcpStream {
        let mut stream = self.connect();
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                    Content-Length: 5\r\nExpect: 100-continue\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut interim = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
        stream.read_exact(&mut interim).unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream
    }
}

fn response(mut stream: TcpStream) -> (u16, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    (status.unwrap().parse().unwrap(), body.to_owned())
}

/// What was closed, and the line that the task prints when it stops, in their order.
fn clean_up(lines: &[String]) -> Vec<String> {
    let end = |line: &String| {
        let (_, name) = line.split_once("event=\"resource.closed\" resource=").unzip();
        let name = name.and_then(|rest| rest.split(' ').next()).map(|name| format!("close {name}"));
        name.or_else(|| (line == "statistics stopped").then(|| line.clone()))
    };
    lines.iter().filter_map(end).collect()
}

/// The lines of the report, without their durations.
fn report(lines: &[String]) -> Vec<&str> {
    let from = lines.iter().position(|line| line.starts_with("resource ")).expect("a report");
    lines[from..].iter().map(|line| line.split(" in ").next().unwrap_or_default()).collect()
}

#[test]
fn sigterm_with_a_request_in_flight_answers_it_and_closes_in_reverse_order() {
    let service = Service::start();
    assert_eq!(service.get("/"), (200, "visitor 42\n".to_owned()));
    assert_eq!(service.get("/ready").0, 200);

    let mut in_flight = service.begin_post();
    service.program.signal(Signal::TERM);
    service.program.until("phase=CLOSING");
    assert_eq!(service.get("/ready").0, 503);

    service.program.until("phase=DRAINING");
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(service.address).is_ok() {
        assert!(Instant::now() < deadline, "the service still listens");
    }
    in_flight.write_all(b"hello").unwrap();
    assert_eq!(response(in_flight), (200, "visitor 43\nhello".to_owned()));

    let Service { program, dir, .. } = service;
    let (status, lines) = program.end();
    assert_eq!(clean_up(&lines), ["close http", "statistics stopped", "close pool"]);
    assert_eq!(
        report(&lines),
        [
            "resource http: closed",
            "resource pool: closed",
            "tasks: 1 finished, 0 failed, 0 cancelled, 0 alive",
            "stopped",
        ]
    );
    assert_eq!(status.code(), Some(0), "{status}");
    assert_eq!(fs::read_to_string(dir.path().join("visits")).unwrap(), "43");
}

#[test]
fn a_close_that_fails_is_reported_and_everything_else_is_closed() {
    let Service { program, dir, .. } = Service::start();
    // The pool cannot write its file.
    drop(dir);
    program.signal(Signal::TERM);
    program.until("phase=CLOSING");
    // The second one ends the wait for the load balancer.
    program.signal(Signal::INT);
    let (status, lines) = program.end();
    assert_eq!(clean_up(&lines), ["close http", "statistics stopped", "close pool"]);
    let report = report(&lines);
    assert_eq!(report[..2], ["resource http: closed", "resource pool: close failed"]);
    let cause = lines.iter().any(|line| line.ends_with(": No such file or directory (os error 2)"));
    assert!(cause, "{lines:?}");
    assert_eq!(status.code(), Some(1), "{status}");
}

#[test]
fn a_start_that_fails_closes_what_was_opened_and_names_the_resource() {
    let service = Service::start();
    let mut command = Command::new(example());
    command.args([&service.address.to_string(), "visits"]).current_dir(service.dir.path());
    let (status, lines) = Program::start(command.env("NO_COLOR", "1").stderr(Stdio::null())).end();
    assert_eq!(clean_up(&lines), ["statistics stopped", "close pool"]);
    assert_eq!(report(&lines)[0], "resource pool: closed");
    let opened =
        lines.iter().filter_map(|line| line.split_once("event=\"resource.opened\" resource="));
    let opened: Vec<_> = opened.filter_map(|(_, rest)| rest.split(' ').next()).collect();
    assert_eq!(opened, ["pool"], "the listener was not opened");
    assert_eq!(status.code(), Some(1), "{status}");
}
