//! How a stop went: what the service prints last.

use std::fmt;
use std::time::Duration;

use super::Name;

/// Failures of a group of tasks that are kept word by word; beyond this they are only counted.
pub const FAILURES_KEPT: usize = 64;

/// How a stop went, clean-up by clean-up in the order they ran, and task by task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub clean_ups: Vec<CleanUp>,
    pub tasks: TasksReport,
    /// From the call of `stop` to its end.
    pub took: Duration,
}

/// One clean-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanUp {
    pub name: Name,
    pub took: Duration,
    pub end: End,
}

/// How a clean-up ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Done,
    /// It failed or panicked, with its error and the causes.
    Failed(String),
    /// It was dropped at its time limit.
    TimedOut(Duration),
    /// It was dropped, or not begun, because the process had to leave.
    Left,
}

/// The background tasks, over the whole life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TasksReport {
    /// Tasks that ended well.
    pub finished: u64,
    /// Tasks that failed or panicked, at any time.
    pub failed: u64,
    /// The first of them; of each group, no more than [`FAILURES_KEPT`].
    pub failures: Vec<TaskFailure>,
    /// Leftovers: tasks that did not end within their limit and were cancelled.
    pub cancelled: Vec<Name>,
    /// Leftovers that could not even be cancelled, because they block their thread.
    pub alive: Vec<Name>,
}

/// A background task that failed or panicked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task {name}: {message}")]
pub struct TaskFailure {
    pub name: Name,
    /// Its error and the causes, or `panicked: ` and the message.
    pub message: String,
}

impl Report {
    /// Everything ended by itself, in time, and without an error.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let TasksReport { failed, cancelled, alive, .. } = &self.tasks;
        *failed == 0
            && cancelled.is_empty()
            && alive.is_empty()
            && self.clean_ups.iter().all(|clean_up| clean_up.end == End::Done)
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
    /// A line for each clean-up, one for the tasks, and one for each task that did not end well;
    /// no line end after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for CleanUp { name, took, end } in &self.clean_ups {
            match end {
                End::Done => writeln!(f, "clean-up {name}: done in {took:.1?}"),
                End::Failed(message) => {
                    writeln!(f, "clean-up {name}: failed in {took:.1?}: {message}")
                }
                End::TimedOut(limit) => writeln!(f, "clean-up {name}: not done after {limit:?}"),
                End::Left => writeln!(f, "clean-up {name}: left undone"),
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
