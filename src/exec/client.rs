//! The service's side: the process of the runner, and the socket to it.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio_util::sync::CancellationToken;

use super::{
    messages::{self, Plan, Request},
    scratch::{Scratch, Scratches},
};
use crate::{
    limits,
    policy::Sandbox,
    sync::Mutex,
    transforms::exec::{Program, Programs},
};

/// The runner's process and the socket to it.
#[derive(Debug)]
pub struct RunnerProcess {
    socket: OwnedFd,
    child: Child,
}

/// Starts the runner, if a program is configured. Call it before the sandbox and before any thread.
pub fn spawn(programs: &Programs, sandbox: Sandbox) -> io::Result<Option<RunnerProcess>> {
    if programs.is_empty() {
        return Ok(None);
    }
    let (socket, of_runner) = messages::pair()?;
    let mut command = Command::new("/proc/self/exe");
    for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FAILPOINTS"] {
        command.env_remove(variable);
    }
    let child = command.arg("exec-runner").stdin(of_runner).stdout(Stdio::null()).spawn()?;
    let programs = programs.values().map(|program| Program::clone(program)).collect();
    messages::send(socket.as_fd(), &Plan { programs, sandbox }, &[])?;
    Ok(Some(RunnerProcess { socket, child }))
}

/// Requests runs.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    runner: Mutex<Child>,
    scratches: Scratches,
    /// Cancelled at a forced stop: every run ends.
    cut: CancellationToken,
}

impl Client {
    /// Takes over the runner, and removes what runs of an earlier service left.
    pub fn new(runner: RunnerProcess, state_dir: &Path, cut: CancellationToken) -> Arc<Self> {
        let RunnerProcess { socket, child } = runner;
        let scratches = Scratches::new(state_dir);
        Arc::new(Self { socket, runner: Mutex::new(child), scratches, cut })
    }

    /// Ends the runner and waits for it. Runs that have not ended are killed.
    pub fn close(&self) -> io::Result<()> {
        rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both)?;
        let mut runner = self.runner.lock();
        let exited = pidfd_open(Pid::from_child(&runner), PidfdFlags::empty())?;
        let timeout = Timespec::try_from(limits::EXEC_RUNNER_EXIT_TIMEOUT).ok();
        match poll(&mut [PollFd::new(&exited, PollFlags::IN)], timeout.as_ref())? {
            0 => Err(io::Error::other(format!("the process {} does not exit", runner.id()))),
            _ => runner.wait().map(|_| self.scratches.close()),
        }
    }

    pub fn is_cut(&self) -> bool {
        self.cut.is_cancelled()
    }

    pub fn scratch(&self) -> io::Result<Scratch> {
        self.scratches.make()
    }

    /// Starts a run with these ends of its pipes and of its control socket.
    pub fn start(
        &self,
        request: &Request,
        [stdin, stdout, control]: [OwnedFd; 3],
    ) -> io::Result<()> {
        let descriptors = [stdin.as_fd(), stdout.as_fd(), control.as_fd()];
        messages::send(self.socket.as_fd(), request, &descriptors)
    }
}
