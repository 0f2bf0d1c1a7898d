//! What the service and its runner say to one another: a length, and JSON.

use std::io;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::limits;

/// No message is longer: the lines of one run, escaped, and a little.
const MOST: usize = 4 * limits::HOOK_QUEUE_BYTES_MAX;

/// The first message: all that will ever be run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    pub hooks: Vec<(String, Target)>,
    pub timeout_ms: u64,
    /// For commands, beside what each is given of itself.
    pub environment: Vec<(String, String)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Target {
    Command(Vec<String>),
    Post(String),
}

/// A run to be made.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunRequest {
    pub id: u64,
    pub hook: String,
    pub lines: Vec<String>,
}

/// How it ended.
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

/// The next message; `None` where the other end is gone.
pub async fn receive<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<T>> {
    let length = match from.read_u32().await {
        Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > MOST {
        return Err(io::Error::other(format!("a message of {length} bytes")));
    }
    let mut text = vec![0; length];
    from.read_exact(&mut text).await?;
    Ok(Some(serde_json::from_slice(&text)?))
}

/// Sends a message. Dropped midway, the connection is of no use any more.
pub async fn send(to: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    to.write_all(&framed(message)?).await
}

pub fn framed(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).ok().filter(|_| text.len() <= MOST);
    let length = length.ok_or_else(|| io::Error::other("the message is too long"))?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend(text);
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sent_is_received_and_too_much_is_refused() {
        let (mut one, mut other) = tokio::io::duplex(64);
        let call = RunRequest { id: 1, hook: "on_start".into(), lines: vec!["{}".into()] };
        let (sent, got) = tokio::join!(send(&mut one, &call), receive::<RunRequest>(&mut other));
        sent.expect("sent");
        assert_eq!(got.expect("received").expect("a message").lines, ["{}"]);
        one.write_all(&[0xff; 8]).await.expect("sent");
        receive::<RunRequest>(&mut other).await.expect_err("too long");
        drop(one);
        let mut rest = Vec::new();
        other.read_to_end(&mut rest).await.expect("read");
        assert!(receive::<RunRequest>(&mut other).await.expect("the end").is_none());
        let lines = vec!["x".repeat(MOST)];
        framed(&RunRequest { lines, ..call }).expect_err("too long");
    }
}
