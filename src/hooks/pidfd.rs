//! Waiting for the exit of a child without polling.

use std::{io, os::fd::OwnedFd, process::Child};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{Interest, unix::AsyncFd};

/// A pidfd: readable once the child has exited, until it is reaped.
#[derive(Debug)]
pub struct ChildExit(AsyncFd<OwnedFd>);

impl ChildExit {
    pub fn of(child: &Child) -> io::Result<Self> {
        let handle = pidfd_open(Pid::from_child(child), PidfdFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "the warned case cannot occur: it owns the handle until it is dropped"
        )]
        AsyncFd::with_interest(handle, Interest::READABLE).map(Self)
    }

    pub async fn wait(&self) {
        // An error means that the runtime shuts down, which ends this wait.
        drop(self.0.readable().await);
    }
}
