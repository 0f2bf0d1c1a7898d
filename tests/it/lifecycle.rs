//! `tidemill::lifecycle` from outside: a small HTTP service built on it, and real signals.
//!
//! The services run in child processes: this test binary again, and `PROGRAM` names the one to run.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process_group};

mod programs;

/// The environment variable that names the program a child is to be.
const PROGRAM: &str = "TIDEMILL_TEST_PROGRAM";
/// The most that is waited for one condition.
const PATIENCE: Duration = Duration::from_secs(20);

/// Not a test but the `main` of the children.
#[test]
#[ignore = "run by the tests of this file, as their child"]
fn child() {
    match std::env::var(PROGRAM).as_deref() {
        Ok("hello") => programs::hello(),
        Ok("course") => programs::course(),
        Ok("hang") => programs::hang(),
        _ => {}
    }
}

/// A program in a process group of its own; killed, with all of the group, when dropped.
struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    fn run(name: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "lifecycle::child",
                "--exact",
                "--ignored",
                "--nocapture",
                "--quiet",
                "--test-threads=1",
            ])
            .env(PROGRAM, name)
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        let program = Self { child, lines };
        program.until("program ");
        program
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the program says no more")
    }

    /// Skips to the line that starts so, and gives the rest of it.
    fn until(&self, start: &str) -> String {
        loop {
            if let Some(rest) = self.line().strip_prefix(start) {
                return rest.to_owned();
            }
        }
    }

    /// Waits for the end; then everything it still had to say.
    fn end(mut self) -> (ExitStatus, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        // The output ends when the last process that holds it has ended.
        while let Ok(line) =
            self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            lines.push(line);
        }
        assert!(Instant::now() < deadline, "the program does not end; it said {lines:?}");
        let status = self.child.wait().unwrap();
        assert!(test_kill_process_group(self.pid()).is_err(), "a process of the group is alive");
        (status, lines)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            rustix::process::kill_process_group(self.pid(), Signal::KILL).ok();
            self.child.wait().ok();
        }
    }
}

fn send(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    body.to_owned()
}

#[test]
fn sigint_while_requests_and_tasks_run_answers_them_stops_the_tasks_and_exits_0() {
    let program = Program::run("hello");
    let address = program.until("listening ").parse().unwrap();
    assert_eq!(answer(send(address, "/")), "Hello, Async World!");
    assert_eq!(program.line(), "task errand begins");

    // It is answered after the stop has begun, so it is in flight when the signal comes.
    let slow = send(address, "/slow");
    assert_eq!(program.line(), "request in flight");
    program.signal(Signal::INT);
    assert_eq!(answer(slow), "Hello, Async World!");

    let (status, lines) = program.end();
    let spoken: Vec<_> = lines
        .iter()
        .map(|line| line.split_once(" in ").map_or(&**line, |(head, _)| head))
        .collect();
    assert_eq!(
        spoken,
        [
            "CLOSING",
            "request answered",
            "server stopped",
            "task errand ends",
            "task beat ends after beats: true",
            "resource closed, greetings: 2",
            "resource resource: closed",
            "tasks: 3 finished, 0 failed, 0 cancelled, 0 alive",
            "stopped",
            "STOPPED",
            "threads as before: true",
        ]
    );
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(TcpStream::connect(address).is_err(), "somebody still listens");
}

#[test]
fn the_second_signal_cuts_and_the_third_leaves() {
    let program = Program::run("course");
    for (signal, line) in [
        (Signal::TERM, "closing CLOSING"),
        (Signal::INT, "cut COMMITTING"),
        (Signal::TERM, "leave"),
    ] {
        program.signal(signal);
        assert_eq!(program.line(), line);
    }
    let (status, lines) = program.end();
    assert_eq!(lines[0], "resource endless: close abandoned");
    assert_eq!(status.code(), Some(75), "{status}");
}

#[test]
fn l7_the_third_signal_leaves_though_every_thread_of_the_runtime_is_blocked() {
    let program = Program::run("hang");
    assert_eq!(program.line(), "blocked");
    for (signal, line) in [(Signal::INT, "CLOSING"), (Signal::TERM, "COMMITTING")] {
        program.signal(signal);
        assert_eq!(program.line(), line);
    }
    program.signal(Signal::INT);
    let (status, lines) = program.end();
    assert_eq!(lines, ["leave"]);
    assert_eq!(status.code(), Some(70), "{status}");
}
