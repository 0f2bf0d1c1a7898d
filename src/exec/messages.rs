//! The messages between the service, its runner and the supervisors: JSON, one message for each packet.

use std::{
    ffi::OsString,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{policy::Sandbox, transforms::exec::Program};

/// The most bytes of a message.
const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// The most descriptors that come with one.
const DESCRIPTORS_MAX: usize = 3;

/// The first message to the runner: what it may run, and how.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    pub programs: Vec<Program>,
    pub sandbox: Sandbox,
}

/// Requests a run. The descriptors of standard input, standard output and control come with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    pub program: String,
    /// The file's path below the input.
    pub source: OsString,
    /// The name of the program's input.
    pub name: OsString,
    /// The run's own directory.
    pub scratch: PathBuf,
    /// The largest output in bytes.
    pub output_bytes: u64,
}

/// A run as its supervisor gets it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub program: Program,
    pub sandbox: Sandbox,
    pub request: Request,
}

impl Job {
    /// The variable of the supervisor's environment that holds it.
    pub const VARIABLE: &'static str = "TIDEMILL_EXEC_JOB";

    /// Reads the job of this process.
    pub fn of_this_process() -> Option<Self> {
        serde_json::from_str(&std::env::var(Self::VARIABLE).ok()?).ok()
    }
}

/// How a run ended, and the end of what it wrote to its standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub end: RunEnd,
    pub stderr: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunEnd {
    Exited(i32),
    Killed(i32),
    /// It could not be started.
    NotStarted(String),
    /// It had this many processes.
    Processes(u64),
    /// Its processes had this many bytes.
    Memory(u64),
}

/// Makes a pair of sockets that keep the bounds of messages.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends a message with descriptors. Blocks while the socket's buffer is full.
pub fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    if text.len() > MESSAGE_BYTES_MAX {
        return Err(io::Error::other("message too long"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors"));
    }
    let parts = [IoSlice::new(&text)];
    rustix::io::retry_on_intr(|| sendmsg(socket, &parts, &mut ancillary, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives the next message and its descriptors; `None` if the peer has closed the socket. Blocks.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut text = vec![0; MESSAGE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut parts = [IoSliceMut::new(&mut text)];
        recvmsg(&socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::other("message too long"));
    }
    let descriptors = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    let message = serde_json::from_slice(text.get(..received.bytes).unwrap_or_default())?;
    Ok(Some((message, descriptors)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_message_arrives_with_its_descriptors_and_the_close_is_none() {
        let (one, other) = pair().expect("a pair");
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let report = Report { end: RunEnd::Exited(0), stderr: "\u{1f600}".into() };
        send(one.as_fd(), &report, &[writer.as_fd()]).expect("sent");
        drop(writer);
        let (received, mut descriptors) =
            receive::<Report>(&other).expect("received").expect("one");
        assert_eq!(received, report);
        let mut writer = std::fs::File::from(descriptors.remove(0));
        writer.write_all(b"through").expect("written");
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "through");
        drop(one);
        assert!(receive::<Report>(&other).expect("the end").is_none());
    }

    #[test]
    fn a_long_message_is_rejected() {
        let (one, _other) = pair().expect("a pair");
        let stderr = "x".repeat(MESSAGE_BYTES_MAX);
        send(one.as_fd(), &Report { end: RunEnd::Exited(0), stderr }, &[]).expect_err("too long");
    }
}
