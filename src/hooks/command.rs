//! A user's command, from its start to the end of everything it started.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{io::AsyncWriteExt, net::unix::pipe};

use super::{frames::RunEnd, pidfd::ChildExit};
use crate::limits;

/// This binary: it ties itself to the life of its parent, and then becomes the command.
const SELF: &str = "/proc/self/exe";

/// The command's process and its group. Dropping it kills both and reaps the process.
struct ProcessGroup {
    leader: Child,
    is_reaped: bool,
}

impl ProcessGroup {
    /// Kills the rest of the group and returns the exit status of the command.
    fn kill_and_wait(&mut self) -> io::Result<ExitStatus> {
        // The group keeps its number until its leader is reaped; an empty group is no error.
        kill_process_group(Pid::from_child(&self.leader), Signal::KILL).ok();
        self.is_reaped = true;
        self.leader.wait()
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if !self.is_reaped {
            drop(self.kill_and_wait());
        }
    }
}

/// Runs the command with `input` on its standard input. Dropping the future kills its group.
pub async fn run(command: &[String], environment: &[(String, String)], input: &str) -> RunEnd {
    match run_to_end(command, environment, input).await {
        Ok((status, _)) if status.success() => RunEnd::Done,
        Ok((status, stderr)) if stderr.is_empty() => RunEnd::Failed(status.to_string()),
        Ok((status, stderr)) => RunEnd::Failed(format!("{status}: {stderr}")),
        Err(error) => RunEnd::Failed(format!("cannot run the command: {error}")),
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
    let mut group = ProcessGroup { leader, is_reaped: false };
    let exited = ChildExit::of(&group.leader)?;
    let missing = || io::Error::other("no pipe");
    let stdin = OwnedFd::from(group.leader.stdin.take().ok_or_else(missing)?);
    let stderr = OwnedFd::from(group.leader.stderr.take().ok_or_else(missing)?);
    let mut stdin = pipe::Sender::from_owned_fd(stdin)?;
    let stderr = pipe::Receiver::from_owned_fd(stderr)?;
    let mut output = Vec::new();
    let transfer = async {
        // A command may exit, or close its standard input, before it has read everything.
        let write = async move { drop(stdin.write_all(input.as_bytes()).await) };
        tokio::join!(write, read_to_end(&stderr, &mut output));
        // A command that closes its standard error still runs.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = exited.wait() => {}
        () = transfer => {}
    }
    while read_available(&stderr, &mut output) {}
    let status = group.kill_and_wait()?;
    Ok((status, last_line(&output)))
}

/// Reads until the pipe closes, and keeps the tail.
async fn read_to_end(from: &pipe::Receiver, output: &mut Vec<u8>) {
    while from.readable().await.is_ok() {
        if !read_available(from, output) {
            // A spurious wake-up, or a closed pipe, which stays readable.
            tokio::task::yield_now().await;
            if matches!(from.try_read(&mut [0]), Ok(0)) {
                return;
            }
        }
    }
}

/// Reads available bytes, and returns whether there were any.
fn read_available(from: &pipe::Receiver, output: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 1024];
    let Ok(count @ 1..) = from.try_read(&mut buffer) else { return false };
    output.extend_from_slice(buffer.get(..count).unwrap_or_default());
    let surplus = output.len().saturating_sub(limits::HOOK_STDERR_BYTES_MAX);
    drop(output.drain(..surplus));
    true
}

/// Returns the last line of the output, escaped: the log has one line per run.
fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or_default().trim().escape_debug().collect()
}
