//! The one message that the intake gets for each job.

use std::{path::PathBuf, time::Duration};

use tokio::sync::mpsc;

use super::{DeferReason, Outcome};

/// Tells the intake what became of a path.
#[derive(Debug)]
pub struct Feedback {
    pub path: PathBuf,
    pub outcome: Outcome,
}

/// Owed to the intake for each job: exactly one message.
#[derive(Debug)]
pub struct Ticket {
    feedback: mpsc::UnboundedSender<Feedback>,
    path: PathBuf,
    attempt: u32,
    /// Whether its content was worked on.
    begun: bool,
    /// Whether it was taken before.
    owed: bool,
    settled: bool,
}

impl Ticket {
    pub fn new(
        feedback: mpsc::UnboundedSender<Feedback>,
        path: PathBuf,
        attempt: u32,
        owed: bool,
    ) -> Self {
        Self { feedback, path, attempt, begun: false, owed, settled: false }
    }

    pub fn begin(&mut self) {
        self.begun = true;
    }

    pub const fn has_begun(&self) -> bool {
        self.begun
    }

    pub fn send(&mut self, outcome: Outcome) {
        self.settled = true;
        let path = std::mem::take(&mut self.path);
        // The intake is gone only when the process ends; then nobody needs to know.
        drop(self.feedback.send(Feedback { path, outcome }));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let outcome = if std::thread::panicking() {
            let attempt = self.attempt + 1;
            Outcome::Deferred { after: Duration::ZERO, attempt, cause: DeferReason::Failed }
        } else if self.begun || self.owed {
            Outcome::Left
        } else {
            Outcome::HandedBack
        };
        self.send(outcome);
    }
}
