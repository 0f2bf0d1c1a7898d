//! The runner: a process of its own, outside of the sandbox, that does what the service tells it to
//! and nothing else. It lives as long as its line to the service.

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
use tokio::{net::UnixStream, sync::mpsc, task::JoinSet, time::timeout};

use super::{
    command,
    frames::{self, Plan, RunEnd, RunRequest, RunResult, Target},
    webhook,
};
use crate::{error::Exit, lifecycle::Signals, policy::HookKind};

/// Runs at one time: one of each hook, and as many that nobody waits for any more.
const RUNS: usize = 2 * HookKind::ALL.len();

/// Serves the line that is its standard input until it closes; then all that runs is killed.
#[must_use]
pub fn main() -> Exit {
    // Signals for the service's process group, or its control group, are the service's to follow.
    let _caught = Signals::register();
    let line = io::stdin().as_fd().try_clone_to_owned().map(net::UnixStream::from);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (Ok(line), Ok(runtime)) = (line, runtime) else { return Exit::Internal };
    let served = runtime.block_on(serve(line));
    // A name that is being looked up is waited for by nobody.
    runtime.shutdown_background();
    if served.is_ok() { Exit::Drained } else { Exit::Internal }
}

/// Becomes this command, and dies with its parent.
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

async fn serve(line: net::UnixStream) -> io::Result<()> {
    line.set_nonblocking(true)?;
    let (mut from, mut to) = UnixStream::from_std(line)?.into_split();
    let Some(plan) = frames::receive::<Plan>(&mut from).await? else { return Ok(()) };
    let plan = Arc::new(plan);
    let (made, mut calls) = mpsc::channel(1);
    let reader = tokio::spawn(async move {
        while let Ok(Some(call)) = frames::receive::<RunRequest>(&mut from).await {
            if made.send(call).await.is_err() {
                return;
            }
        }
    });
    // Dropping it kills what runs.
    let mut runs = JoinSet::new();
    loop {
        tokio::select! {
            call = calls.recv(), if runs.len() < RUNS => {
                let Some(call) = call else { break };
                runs.spawn(run(Arc::clone(&plan), call));
            }
            Some(Ok(answer)) = runs.join_next() => {
                if frames::send(&mut to, &answer).await.is_err() {
                    break;
                }
            }
        }
    }
    reader.abort();
    runs.shutdown().await;
    Ok(())
}

async fn run(plan: Arc<Plan>, call: RunRequest) -> RunResult {
    let RunRequest { id, hook, lines } = call;
    let Some((_, target)) = plan.hooks.iter().find(|(name, _)| *name == hook) else {
        return RunResult { id, end: RunEnd::Failed(format!("there is no hook `{hook}`")) };
    };
    let running = async {
        match target {
            Target::Command(command) => {
                let mut environment = plan.environment.clone();
                environment.push(("TIDEMILL_HOOK".to_owned(), hook.clone()));
                environment.push(("TIDEMILL_FILES".to_owned(), lines.len().to_string()));
                let input: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
                command::run(command, &environment, &input).await
            }
            Target::Post(url) => webhook::run(url, &lines).await,
        }
    };
    let within = Duration::from_millis(plan.timeout_ms);
    let end = timeout(within, running).await.unwrap_or(RunEnd::TimedOut);
    RunResult { id, end }
}
