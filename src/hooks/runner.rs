//! The runner: a separate process outside of the sandbox that runs the hooks which the service
//! requests, and nothing else. It exits when its socket to the service closes.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::AsFd,
        unix::{net, process::CommandExt},
    },
    process::Command,
    sync::Arc,
    time::Duration,
};

use rustix::process::{Signal, set_parent_process_death_signal};
use tidemill_lifecycle::Signals;
use tokio::{net::UnixStream, sync::mpsc, task::JoinSet, time::timeout};

use super::{
    command,
    frames::{self, Plan, RunEnd, RunRequest, RunResult, Target},
    webhook,
};
use crate::{error::Exit, policy::HookKind};

/// Maximum number of concurrent runs: one of each hook, and as many whose caller was cancelled.
const RUNS_MAX: usize = 2 * HookKind::ALL.len();

/// Serves requests from the socket on standard input until it closes, then kills all running hooks.
#[must_use]
pub fn main() -> Exit {
    // The service follows the signals that are sent to its process group or control group.
    let _signals = Signals::register();
    let socket = io::stdin().as_fd().try_clone_to_owned().map(net::UnixStream::from);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (Ok(socket), Ok(runtime)) = (socket, runtime) else { return Exit::Internal };
    let served = runtime.block_on(serve(socket));
    // Do not wait for a pending name lookup.
    runtime.shutdown_background();
    if served.is_ok() { Exit::Success } else { Exit::Internal }
}

/// Replaces this process by the command, which the kernel kills when its parent exits.
#[must_use]
pub fn replace_process(command: &[OsString]) -> io::Error {
    let Some((program, arguments)) = command.split_first() else {
        return io::Error::other("no command");
    };
    match set_parent_process_death_signal(Some(Signal::KILL)) {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error.into(),
    }
}

async fn serve(socket: net::UnixStream) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let (mut from, mut to) = UnixStream::from_std(socket)?.into_split();
    let Some(plan) = frames::receive::<Plan>(&mut from).await? else { return Ok(()) };
    let plan = Arc::new(plan);
    let (sender, mut requests) = mpsc::channel(1);
    let reader = tokio::spawn(async move {
        while let Ok(Some(request)) = frames::receive::<RunRequest>(&mut from).await {
            if sender.send(request).await.is_err() {
                return;
            }
        }
    });
    // Dropping it kills the running hooks.
    let mut runs = JoinSet::new();
    loop {
        tokio::select! {
            request = requests.recv(), if runs.len() < RUNS_MAX => {
                let Some(request) = request else { break };
                runs.spawn(run(Arc::clone(&plan), request));
            }
            Some(Ok(result)) = runs.join_next() => {
                if frames::send(&mut to, &result).await.is_err() {
                    break;
                }
            }
        }
    }
    reader.abort();
    runs.shutdown().await;
    Ok(())
}

async fn run(plan: Arc<Plan>, request: RunRequest) -> RunResult {
    let RunRequest { id, hook, lines } = request;
    let Some((_, target)) = plan.hooks.iter().find(|(kind, _)| *kind == hook) else {
        return RunResult { id, end: RunEnd::Failed(format!("no hook `{hook}`")) };
    };
    let running = async {
        match target {
            Target::Command(command) => {
                let mut environment = plan.environment.clone();
                environment.push(("TIDEMILL_HOOK".to_owned(), hook.to_string()));
                environment.push(("TIDEMILL_FILES".to_owned(), lines.len().to_string()));
                let input: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
                command::run(command, &environment, &input).await
            }
            Target::Post(url) => webhook::run(url, &lines).await,
        }
    };
    let limit = Duration::from_millis(plan.timeout_ms);
    let end = timeout(limit, running).await.unwrap_or(RunEnd::TimedOut);
    RunResult { id, end }
}
