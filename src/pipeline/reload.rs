//! Asking for a reload, from wherever it is wanted; the service carries it out.

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

/// Reloads that may wait for the one that is carried out.
const WAITING: usize = 8;

/// What a reload did, by the pipelines' names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub changed: Vec<String>,
    pub unchanged: Vec<String>,
    pub added: Vec<String>,
    pub removed: Vec<String>,
}

crate::policy::words! {
    /// Why nothing was reloaded.
    Kind {
        /// The new configuration is wrong.
        Invalid = "invalid",
        /// It changes what a running process cannot.
        Restart = "restart_needed",
        /// There is no file to read again.
        NoFile = "no_file",
        /// The machine refused a directory, or a thread.
        Failed = "failed",
        /// Too many wait already.
        Busy = "busy",
        Stopping = "stopping",
    }
}

/// Nothing was reloaded: the old configuration is in force, untouched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    pub kind: Kind,
    /// All of it, for a person.
    pub detail: String,
}

impl Refused {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

pub type Outcome = Result<Report, Refused>;

/// Asks for reloads. Clones ask the same service; dropping them does nothing.
#[derive(Clone, Debug)]
pub struct Reload(mpsc::Sender<Request>);

/// One who asked, and waits. Dropped, it is told that the service stops.
pub type Request = oneshot::Sender<Outcome>;

/// What was asked for. Dropping it refuses everything from then on.
pub type Requests = mpsc::Receiver<Request>;

impl Reload {
    #[must_use]
    pub fn new() -> (Self, Requests) {
        let (sender, requests) = mpsc::channel(WAITING);
        (Self(sender), requests)
    }

    /// Reads the configuration again and applies it, all or nothing; as SIGHUP does. Waits until
    /// the pipelines that change have drained. Dropped midway, the reload goes on.
    pub async fn reload(&self) -> Outcome {
        let (request, answer) = oneshot::channel();
        match self.0.try_send(request) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Err(Refused::new(
                    Kind::Busy,
                    "other reloads wait already: ask again later",
                ));
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(stopping()),
        }
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }
}

fn stopping() -> Refused {
    Refused::new(Kind::Stopping, "the service stops: nothing is read again")
}
