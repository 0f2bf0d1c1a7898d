//! Services as processes: the example `http`, and small programs that receive real signals.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process_group};

mod http;
mod programs;
mod signals;

/// The most that is waited for one condition.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program in a process group of its own; killed, with all of the group, when dropped.
struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).process_group(0).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        Self { child, lines }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the program prints no further line")
    }

    /// Skips to the line that contains this, and returns what follows it.
    fn until(&self, text: &str) -> String {
        loop {
            if let Some((_, rest)) = self.line().split_once(text) {
                return rest.to_owned();
            }
        }
    }

    /// Waits for the end. Returns the lines that were not read yet.
    fn end(mut self) -> (ExitStatus, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        // The output ends when the last process that holds it has ended.
        while let Ok(line) =
            self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            lines.push(line);
        }
        assert!(Instant::now() < deadline, "the program does not end; its output: {lines:?}");
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
