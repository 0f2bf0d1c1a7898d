//! A command of a user, from its start to the end of all that it started.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{io::AsyncWriteExt, net::unix::pipe};

use super::{frames::RunEnd, pidfd::ChildExit};
use crate::limits;

/// This binary: it holds the command to its parent's life, and becomes it.
const SELF: &str = "/proc/self/exe";

/// The command's process and its group. Dropping it kills both and takes the exit status.
struct ProcessGroup {
    leader: Child,
    has_ended: bool,
}

impl ProcessGroup {
    /// Kills what the command left behind, and says how it ended.
    fn end(&mut self) -> io::Result<ExitStatus> {
        // The number is the group's as long as its leader is not waited for; an empty one is no error.
        kill_process_group(Pid::from_child(&self.leader), Signal::KILL).ok();
        self.has_ended = true;
        self.leader.wait()
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if !self.has_ended {
            drop(self.end());
        }
    }
}

/// Runs it with this text on its standard input. Dropped midway, all of it is killed.
pub async fn run(command: &[String], environment: &[(String, String)], input: &str) -> RunEnd {
    match run_to_end(command, environment, input).await {
        Ok((status, _)) if status.success() => RunEnd::Done,
        Ok((status, said)) if said.is_empty() => RunEnd::Failed(status.to_string()),
        Ok((status, said)) => RunEnd::Failed(format!("{status}: {said}")),
        Err(error) => RunEnd::Failed(format!("cannot run it: {error}")),
    }
}

async fn run_to_end(
    command: &[String],
    environment: &[(String, String)],
    input: &str,
) -> io::Result<(ExitStatus, String)> {
    let leader = Command::new(SELF)
        .arg("hook-exec")
        .arg("--")
        .args(command)
        .env_clear()
        .envs(environment.iter().map(|(key, value)| (key, value)))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let mut group = ProcessGroup { leader, has_ended: false };
    let exited = ChildExit::of(&group.leader)?;
    let missing = || io::Error::other("no pipe");
    let stdin = OwnedFd::from(group.leader.stdin.take().ok_or_else(missing)?);
    let stderr = OwnedFd::from(group.leader.stderr.take().ok_or_else(missing)?);
    let mut stdin = pipe::Sender::from_owned_fd(stdin)?;
    let stderr = pipe::Receiver::from_owned_fd(stderr)?;
    let mut said = Vec::new();
    let talk = async {
        // A command may end, or close it, without having read all.
        let feed = async move { drop(stdin.write_all(input.as_bytes()).await) };
        tokio::join!(feed, listen(&stderr, &mut said));
        // Who closes its standard error still runs.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = exited.wait() => {}
        () = talk => {}
    }
    while take(&stderr, &mut said) {}
    let status = group.end()?;
    Ok((status, last_words(&said)))
}

/// Takes what is said until the pipe closes.
async fn listen(from: &pipe::Receiver, said: &mut Vec<u8>) {
    while from.readable().await.is_ok() {
        if !take(from, said) {
            // Nothing was there after all, or it is closed: then it is readable for ever.
            tokio::task::yield_now().await;
            if matches!(from.try_read(&mut [0]), Ok(0)) {
                return;
            }
        }
    }
}

/// Takes what is there; whether there was any.
fn take(from: &pipe::Receiver, said: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 1024];
    let Ok(count @ 1..) = from.try_read(&mut buffer) else { return false };
    said.extend_from_slice(buffer.get(..count).unwrap_or_default());
    let surplus = said.len().saturating_sub(limits::HOOK_STDERR_BYTES_MAX);
    drop(said.drain(..surplus));
    true
}

/// The last line of it: a log has one line for a run.
fn last_words(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or_default().trim().escape_debug().collect()
}
