//! The messages between the service and its runner: a length, and JSON.

use std::io;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{limits, policy::HookKind};

/// Maximum length of a message: the lines of one run, escaped, and a margin.
const MESSAGE_BYTES_MAX: usize = 4 * limits::HOOK_QUEUE_BYTES_MAX;

/// The first message: every hook that the runner may run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    pub hooks: Vec<(HookKind, Target)>,
    pub timeout_ms: u64,
    /// Environment of every command, in addition to the variables of its run.
    pub environment: Vec<(String, String)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Target {
    Command(Vec<String>),
    Post(String),
}

/// Request for one run.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunRequest {
    pub id: u64,
    pub hook: HookKind,
    pub lines: Vec<String>,
}

/// Result of one run.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunResult {
    pub id: u64,
    pub end: RunEnd,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunEnd {
    Done,
    Failed(String),
    TimedOut,
}

/// Receives the next message; `None` if the peer closed the connection.
pub async fn receive<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<T>> {
    let length = match from.read_u32().await {
        Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::other(format!("message too long: {length} bytes")));
    }
    let mut text = vec![0; length];
    from.read_exact(&mut text).await?;
    Ok(Some(serde_json::from_slice(&text)?))
}

/// Sends a message. Dropping the future midway makes the connection unusable.
pub async fn send(to: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    to.write_all(&framed(message)?).await
}

/// Encodes a message.
pub fn framed(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).ok().filter(|_| text.len() <= MESSAGE_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("message too long"))?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend(text);
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sent_message_is_received_and_a_longer_one_is_rejected() {
        let (mut sender, mut receiver) = tokio::io::duplex(64);
        let request = RunRequest { id: 1, hook: HookKind::OnStart, lines: vec!["{}".into()] };
        let (sent, received) =
            tokio::join!(send(&mut sender, &request), receive::<RunRequest>(&mut receiver));
        sent.expect("sent");
        assert_eq!(received.expect("received").expect("a message").lines, ["{}"]);
        sender.write_all(&[0xff; 8]).await.expect("sent");
        receive::<RunRequest>(&mut receiver).await.expect_err("too long");
        drop(sender);
        let mut rest = Vec::new();
        receiver.read_to_end(&mut rest).await.expect("read");
        assert!(receive::<RunRequest>(&mut receiver).await.expect("the end").is_none());
        let lines = vec!["x".repeat(MESSAGE_BYTES_MAX)];
        framed(&RunRequest { lines, ..request }).expect_err("too long");
    }
}
