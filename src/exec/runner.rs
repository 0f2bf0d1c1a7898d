//! The runner: a process outside of the service's sandbox that starts a supervisor for each request, and
//! does nothing else. It exits when its socket to the service closes and the runs have ended.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    process::{Child, Command},
};

use tidemill_lifecycle::Signals;

use super::messages::{self, Job, Plan, Report, Request, RunEnd};
use crate::error::Exit;

/// Variables of the service's environment that programs inherit.
const INHERITED_VARIABLES: [&str; 5] = ["LANG", "LC_ALL", "LC_CTYPE", "PATH", "TZ"];

/// Serves requests from the socket on standard input until it closes.
#[must_use]
pub fn main() -> Exit {
    // The service follows the signals that are sent to its process group or control group.
    let _signals = Signals::register();
    let served = io::stdin().as_fd().try_clone_to_owned().and_then(|socket| serve(&socket));
    if served.is_ok() { Exit::Success } else { Exit::Internal }
}

fn serve(socket: &OwnedFd) -> io::Result<()> {
    let Some((plan, _)) = messages::receive::<Plan>(socket)? else { return Ok(()) };
    let mut supervisors: Vec<Child> = Vec::new();
    while let Some((request, descriptors)) = messages::receive::<Request>(socket)? {
        // The others have ended and are reaped.
        supervisors.retain_mut(|supervisor| matches!(supervisor.try_wait(), Ok(None)));
        supervisors.extend(start(&plan, request, descriptors));
    }
    // The service has gone, and so have the control sockets of the runs.
    for supervisor in &mut supervisors {
        drop(supervisor.wait());
    }
    Ok(())
}

/// Starts the supervisor of a run; `None` if that failed, which the service learns from its socket.
fn start(plan: &Plan, request: Request, descriptors: Vec<OwnedFd>) -> Option<Child> {
    let [stdin, stdout, control] = <[OwnedFd; 3]>::try_from(descriptors).ok()?;
    let report_to = control.try_clone();
    supervisor(plan, request, [stdin, stdout, control])
        .inspect_err(|error| {
            let end = RunEnd::NotStarted(error.to_string());
            let report = Report { end, stderr: String::new() };
            // A service that has gone needs no report.
            drop(report_to.map(|to| messages::send(to.as_fd(), &report, &[])));
        })
        .ok()
}

fn supervisor(
    plan: &Plan,
    request: Request,
    [stdin, stdout, control]: [OwnedFd; 3],
) -> io::Result<Child> {
    let program = plan.programs.iter().find(|program| program.name == request.program);
    let program = program.ok_or_else(|| io::Error::other("no such program"))?.clone();
    let mut command = Command::new("/proc/self/exe");
    let inherited =
        INHERITED_VARIABLES.iter().filter_map(|key| Some((key, std::env::var_os(key)?)));
    command.arg("exec-supervisor").env_clear().envs(inherited);
    for variable in ["HOME", "TMPDIR"] {
        command.env(variable, &request.scratch);
    }
    command.env("TIDEMILL_SOURCE", &request.source).env("TIDEMILL_NAME", &request.name);
    command.envs(program.environment.iter().filter_map(|variable| variable.split_once('=')));
    let job = Job { program, sandbox: plan.sandbox, request };
    command.env(Job::VARIABLE, serde_json::to_string(&job)?);
    command.stdin(stdin).stdout(stdout).stderr(control).spawn()
}
