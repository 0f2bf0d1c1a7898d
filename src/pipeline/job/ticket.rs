//! The one message that the intake gets for each job.

use std::{path::PathBuf, time::Duration};

use tokio::sync::mpsc;

use super::end::{DeferReason, JobEnd};

/// The outcome of a job, sent to the intake.
#[derive(Debug)]
pub struct Feedback {
    pub path: PathBuf,
    pub outcome: JobEnd,
}

/// Sends exactly one [`Feedback`] per job. Dropping it unsent reports an outcome by the job's progress.
#[derive(Debug)]
pub struct Ticket {
    feedback: mpsc::UnboundedSender<Feedback>,
    path: PathBuf,
    attempt: u32,
    /// Whether the work on the content has begun.
    has_begun: bool,
    /// Whether an earlier attempt failed or met unavailable storage.
    was_attempted: bool,
    /// Whether the feedback was sent.
    is_sent: bool,
}

impl Ticket {
    pub fn new(
        feedback: mpsc::UnboundedSender<Feedback>,
        path: PathBuf,
        attempt: u32,
        was_attempted: bool,
    ) -> Self {
        Self { feedback, path, attempt, has_begun: false, was_attempted, is_sent: false }
    }

    pub fn begin(&mut self) {
        self.has_begun = true;
    }

    pub const fn has_begun(&self) -> bool {
        self.has_begun
    }

    pub fn send(&mut self, outcome: JobEnd) {
        self.is_sent = true;
        let path = std::mem::take(&mut self.path);
        // The intake is gone only when the process ends; then the feedback has no use.
        drop(self.feedback.send(Feedback { path, outcome }));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_sent {
            return;
        }
        let outcome = if std::thread::panicking() {
            let attempt = self.attempt + 1;
            JobEnd::Deferred { after: Duration::ZERO, attempt, cause: DeferReason::Failed }
        } else if self.has_begun || self.was_attempted {
            JobEnd::Unfinished
        } else {
            JobEnd::Returned
        };
        self.send(outcome);
    }
}
