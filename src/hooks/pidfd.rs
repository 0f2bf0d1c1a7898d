//! Waiting for the end of a child without asking again and again.

use std::{io, os::fd::OwnedFd, process::Child};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{Interest, unix::AsyncFd};

/// Readable once the child has ended and is not waited for yet.
#[derive(Debug)]
pub struct ChildExit(AsyncFd<OwnedFd>);

impl ChildExit {
    pub fn of(child: &Child) -> io::Result<Self> {
        let handle = pidfd_open(Pid::from_child(child), PidfdFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "what it warns of cannot be: it owns the handle until its end"
        )]
        AsyncFd::with_interest(handle, Interest::READABLE).map(Self)
    }

    pub async fn wait(&self) {
        // An error says that the runtime ends, and with it this wait.
        drop(self.0.readable().await);
    }
}
