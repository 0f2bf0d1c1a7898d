//! The supervisor of one run: starts the program, waits for its end, kills everything that it started, and
//! reports.
//!
//! Its standard input and output are the program's, and its standard error is the control socket. That
//! socket closes when the transform is dropped: then the run is over.

use std::{
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{ChildStderr, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_setfl},
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, WaitStatus, getpid, kill_process_group, pidfd_open,
        set_child_subreaper,
    },
};
use tidemill_lifecycle::Signals;

use super::{
    descendants::{descendants, kill_all},
    messages::{self, Job, Report, RunEnd},
    program::NOT_STARTED,
};
use crate::{error::Exit, limits, transforms::exec::Program};

/// The time between two looks at the processes of a run.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Runs the program of the job in the environment, to its end.
#[must_use]
pub fn main() -> Exit {
    // The service follows the signals that are sent to its process group or control group.
    let _signals = Signals::register();
    let Some(job) = Job::of_this_process() else { return Exit::Usage };
    let Ok(control) = io::stderr().as_fd().try_clone_to_owned() else { return Exit::Internal };
    let report = supervise(&job, &control).unwrap_or_else(|error| {
        kill_all(None);
        let end = RunEnd::NotStarted(error.to_string());
        Some(Report { end, stderr: String::new() })
    });
    // Without a report nobody waits for one.
    let sent = report.map(|report| messages::send(control.as_fd(), &report, &[]));
    if sent.is_some_and(|sent| sent.is_err()) { Exit::Internal } else { Exit::Success }
}

/// Returns the report, or `None` if nobody waits for it any more.
fn supervise(job: &Job, control: &OwnedFd) -> io::Result<Option<Report>> {
    set_child_subreaper(Some(getpid()))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("exec-program").stderr(Stdio::piped()).process_group(0);
    command.current_dir(&job.request.scratch);
    if job.program.takes_file() {
        command.stdin(Stdio::null());
    }
    if job.program.makes_file() {
        command.stdout(Stdio::null());
    }
    let mut child = command.spawn()?;
    let leader = Pid::from_child(&child);
    let exited = pidfd_open(leader, PidfdFlags::empty())?;
    // The program alone holds the ends of its pipes, so that they close with it.
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    let stderr = child.stderr.take().ok_or_else(|| io::Error::other("no pipe"))?;
    fcntl_setfl(&stderr, OFlags::NONBLOCK)?;
    let mut stderr = Tail { pipe: Some(stderr), bytes: Vec::new() };

    let end = wait_for_end(&job.program, control, &exited, &mut stderr);
    // The group keeps its number until its leader is reaped; an empty group is no error.
    kill_process_group(leader, Signal::KILL).ok();
    let status = kill_all(Some(leader));
    stderr.read();
    let end = match end? {
        End::Abandoned => return Ok(None),
        End::Over(end) => end,
        End::Exited => status.map_or(RunEnd::Killed(0), ended),
    };
    let stderr = stderr.text();
    Ok(Some(match stderr.strip_prefix(NOT_STARTED) {
        Some(reason) => {
            Report { end: RunEnd::NotStarted(reason.to_owned()), stderr: String::new() }
        }
        None => Report { end, stderr },
    }))
}

fn ended(status: WaitStatus) -> RunEnd {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => RunEnd::Exited(code),
        (_, signal) => RunEnd::Killed(signal.unwrap_or(0)),
    }
}

enum End {
    /// The program has exited.
    Exited,
    /// It exceeds a limit.
    Over(RunEnd),
    /// The control socket was closed.
    Abandoned,
}

fn wait_for_end(
    program: &Program,
    control: &OwnedFd,
    exited: &OwnedFd,
    stderr: &mut Tail,
) -> io::Result<End> {
    let mut looked_at = Instant::now();
    loop {
        let mut handles =
            vec![PollFd::new(control, PollFlags::IN), PollFd::new(exited, PollFlags::IN)];
        handles.extend(stderr.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let timeout = LOOK_INTERVAL.saturating_sub(looked_at.elapsed());
        match poll(&mut handles, Timespec::try_from(timeout).ok().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |index: usize| {
            handles.get(index).is_some_and(|handle: &PollFd<'_>| !handle.revents().is_empty())
        };
        let (is_abandoned, has_exited, has_text) = (is_ready(0), is_ready(1), is_ready(2));
        drop(handles);
        if has_text {
            stderr.read();
        }
        if is_abandoned {
            return Ok(End::Abandoned);
        }
        if has_exited {
            return Ok(End::Exited);
        }
        if looked_at.elapsed() >= LOOK_INTERVAL {
            if let Some(over) = exceeded(program) {
                return Ok(End::Over(over));
            }
            looked_at = Instant::now();
        }
    }
}

/// Returns the limit that the processes of the run exceed.
fn exceeded(program: &Program) -> Option<RunEnd> {
    let all = descendants();
    let threads: u64 = all.iter().map(|process| process.threads).sum();
    if threads > u64::from(program.processes) {
        return Some(RunEnd::Processes(threads));
    }
    let pages: u64 = all.iter().map(|process| process.resident_pages).sum();
    let bytes = pages.saturating_mul(rustix::param::page_size() as u64);
    (bytes > program.memory).then_some(RunEnd::Memory(bytes))
}

/// The end of what the program writes to its standard error.
struct Tail {
    /// `None` after its end.
    pipe: Option<ChildStderr>,
    bytes: Vec<u8>,
}

impl Tail {
    /// Reads what is there.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    self.bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    let surplus = self.bytes.len().saturating_sub(limits::EXEC_STDERR_BYTES_MAX);
                    self.bytes.drain(..surplus);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).trim().to_owned()
    }
}
