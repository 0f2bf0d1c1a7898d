//! Requests to a running service, over its Unix socket.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    args::StateArgs,
    state_dir::{self, StateDir},
};
use crate::{
    config::{self, AdminSocket, Options},
    observe::{display_path, escaped},
};

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that is read.
const ANSWER_BYTES: u64 = 16 * 1024 * 1024;

/// The socket of one service.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    state_dir: PathBuf,
}

/// No service listens at the socket.
#[derive(Debug, thiserror::Error)]
#[error(
    "no service runs with the state in {}: `tidemill run` starts one",
    display_path(.0)
)]
pub struct NotRunning(PathBuf);

impl Client {
    /// The service of the state directory that the other commands find as well.
    pub fn find(args: &StateArgs) -> anyhow::Result<Self> {
        Self::of(&state_dir::locate(args, None)?)
    }

    /// The service of this state directory, whether it runs or not.
    pub fn of(state: &StateDir) -> anyhow::Result<Self> {
        let state_dir = state.dir().to_path_buf();
        // The configuration of the last start; the default without one.
        let file = Options { config: Some(state.config()), ..Options::default() };
        let admin =
            config::resolve(&file).map_or(AdminSocket::Default, |config| config.admin_socket);
        let Some(socket) = admin.path(&state_dir) else {
            let Some(pid) = state.holder() else { return Err(NotRunning(state_dir).into()) };
            bail!(
                "the service with the state in {} (process {pid}) has no admin socket (`--admin-socket off`, or `--once`): start it with one",
                display_path(&state_dir)
            );
        };
        Ok(Self { socket, state_dir })
    }

    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Returns an answer whose texts are escaped: any program may have made the socket.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let mut answer = self.json(path)?;
        escape(&mut answer);
        serde_json::from_value(answer)
            .context("cannot read the answer: the service has another version")
    }

    /// Returns an answer as it is.
    pub fn json(&self, path: &str) -> anyhow::Result<Value> {
        self.call("GET", path, "")
    }

    pub fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call("POST", path, &body.to_string())
    }

    /// Returns the answer, unless it is a refusal.
    fn call(&self, method: &str, path: &str, body: &str) -> anyhow::Result<Value> {
        let answer = self.exchange(method, path, body)?;
        let (status, body) = parsed(&answer).context("the service's answer is not HTTP")?;
        let answer: Value =
            serde_json::from_slice(body).context("the service's answer is not JSON")?;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let detail = answer.get("detail").and_then(Value::as_str);
        bail!("{}", escaped(detail.unwrap_or("the service refused without a reason")));
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> anyhow::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket).map_err(|error| self.describe(error))?;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let mut answer = Vec::new();
        stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
            .and_then(|()| stream.write_all(request.as_bytes()))
            .and_then(|()| stream.take(ANSWER_BYTES).read_to_end(&mut answer))
            .context("the service does not answer")?;
        Ok(answer)
    }

    fn describe(&self, error: io::Error) -> anyhow::Error {
        use io::ErrorKind::{self, ConnectionRefused, PermissionDenied};
        let at = display_path(&self.socket);
        match error.kind() {
            ErrorKind::NotFound | ConnectionRefused => NotRunning(self.state_dir.clone()).into(),
            PermissionDenied => {
                anyhow::anyhow!(
                    "cannot use {at}: permission denied: run as root or as the service's user"
                )
            }
            _ => anyhow::Error::new(error).context(format!("cannot connect to {at}")),
        }
    }
}

/// Returns status and body of a complete answer.
fn parsed(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n")?;
    let (head, body) = answer.split_at_checked(end + 4)?;
    let status = std::str::from_utf8(head).ok()?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body))
}

/// Escapes every text of an answer.
fn escape(answer: &mut Value) {
    match answer {
        Value::String(text) => *text = escaped(text),
        Value::Array(all) => all.iter_mut().for_each(escape),
        Value::Object(all) => all.values_mut().for_each(escape),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_a_socket_moves_the_cursor() {
        let bad = "\u{1b}[2J\u{202e}\n";
        let mut answer = serde_json::json!({"version": bad, "pipelines": [{"name": bad, "n": 1}]});
        escape(&mut answer);
        let shown = r"\u{1b}[2J\u{202e}\n";
        assert_eq!(
            answer,
            serde_json::json!({"version": shown, "pipelines": [{"name": shown, "n": 1}]})
        );
    }

    #[test]
    fn an_answer_is_its_status_and_its_body() {
        let answer = b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(parsed(answer), Some((409, &b"{}"[..])));
        assert_eq!(parsed(b""), None);
        assert_eq!(parsed(b"HTTP/1.1\r\n\r\n"), None);
    }
}
