//! The report of a stop.

use std::fmt;
use std::time::Duration;

use super::Name;

/// Failures per group of tasks that keep their message; further ones are only counted.
pub const FAILURES_KEPT: usize = 64;

/// Result of a stop. Its `Display` has a line for each resource, for example
/// `resource pool: closed in 1.2ms`, and the tasks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Each resource, in the order of closing.
    pub resources: Vec<ClosedResource>,
    /// All background tasks, of all groups.
    pub tasks: TasksReport,
    /// Duration of [`Lifecycle::stop`](super::Lifecycle::stop).
    pub took: Duration,
}

/// One resource that `stop` closed or abandoned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedResource {
    /// Name given to [`start`](super::Lifecycle::start) or [`on_close`](super::Lifecycle::on_close).
    pub name: Name,
    /// Duration of the close.
    pub took: Duration,
    /// How the close ended.
    pub outcome: CloseOutcome,
}

/// Result of closing a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseOutcome {
    /// The close ended without an error.
    Done,
    /// The close failed or panicked; holds the error and its causes.
    Failed(String),
    /// The close was dropped at its time limit, which this holds.
    TimedOut(Duration),
    /// The forced stop dropped the close, or kept it from starting.
    Abandoned,
}

impl fmt::Display for CloseOutcome {
    /// Writes a few words, for a log line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Failed(message) => write!(f, "failed: {message}"),
            Self::TimedOut(limit) => write!(f, "not closed after {limit:?}"),
            Self::Abandoned => f.write_str("abandoned"),
        }
    }
}

/// Background tasks over the life of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TasksReport {
    /// Number of tasks that ended without an error.
    pub finished: u64,
    /// Number of tasks that failed or panicked, at any time.
    pub failed: u64,
    /// The first failures, at most [`FAILURES_KEPT`] per group.
    pub failures: Vec<TaskFailure>,
    /// Tasks that overran their limit and were cancelled.
    pub cancelled: Vec<Name>,
    /// Tasks that could not be cancelled because they block their thread.
    pub alive: Vec<Name>,
}

/// A background task that failed or panicked, as an error value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task {name}: {message}")]
pub struct TaskFailure {
    /// Name given to `spawn`.
    pub name: Name,
    /// The error and its causes, or `panicked: ` and the message.
    pub message: String,
}

impl Report {
    /// Returns whether everything ended on its own, in time and without an error.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let TasksReport { failed, cancelled, alive, .. } = &self.tasks;
        *failed == 0
            && cancelled.is_empty()
            && alive.is_empty()
            && self.resources.iter().all(|resource| resource.outcome == CloseOutcome::Done)
    }
}

impl TasksReport {
    pub(super) fn add(&mut self, other: Self) {
        self.finished += other.finished;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.cancelled.extend(other.cancelled);
        self.alive.extend(other.alive);
    }
}

impl fmt::Display for Report {
    /// Writes a line for each resource, one for the tasks and one for each task that failed, was
    /// cancelled or is alive; no line end after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ClosedResource { name, took, outcome } in &self.resources {
            match outcome {
                CloseOutcome::Done => writeln!(f, "resource {name}: closed in {took:.1?}"),
                CloseOutcome::Failed(message) => {
                    writeln!(f, "resource {name}: close failed in {took:.1?}: {message}")
                }
                CloseOutcome::TimedOut(limit) => {
                    writeln!(f, "resource {name}: not closed after {limit:?}")
                }
                CloseOutcome::Abandoned => writeln!(f, "resource {name}: close abandoned"),
            }?;
        }
        let TasksReport { finished, failed, failures, cancelled, alive } = &self.tasks;
        write!(
            f,
            "tasks: {finished} finished, {failed} failed, {} cancelled, {} alive",
            cancelled.len(),
            alive.len()
        )?;
        failures.iter().try_for_each(|failure| write!(f, "\n{failure}"))?;
        cancelled.iter().try_for_each(|name| write!(f, "\ntask {name}: cancelled"))?;
        alive.iter().try_for_each(|name| write!(f, "\ntask {name}: still alive"))?;
        write!(f, "\nstopped in {:.1?}", self.took)
    }
}

#[cfg(test)]
mod tests;
