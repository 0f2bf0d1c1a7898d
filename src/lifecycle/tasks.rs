//! Background tasks: named, signalled to stop, awaited, and cancelled when they overrun their limit.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::error::catch_panic;
use super::report::FAILURES_KEPT;
use super::{BoxError, Handle, Name, TaskFailure, TasksReport};

/// Wait for cancelled tasks, which are dropped at their next `await`.
const CANCEL_LIMIT: Duration = Duration::from_secs(1);

/// Signals a task to stop. Its group sets it when the stop reaches the group. Clones share one state;
/// dropping one does nothing.
#[derive(Clone, Debug)]
pub struct StopFlag(CancellationToken);

impl StopFlag {
    /// Returns whether the task is to stop.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Resolves when the flag is set, at once if it is set already. Dropping the future loses
    /// nothing.
    pub async fn stopped(&self) {
        self.0.cancelled().await;
    }
}

/// Error of [`Tasks::spawn`]: the task was not started, because its group is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tasks are stopping")]
pub struct Refused;

/// A group of background tasks that stop together, at the group's position in the stack. Clones are
/// the same group, for example for request handlers; dropping one does nothing.
#[derive(Clone, Debug)]
pub struct Tasks {
    /// State of the group; a change wakes the waiter for its end.
    state: watch::Sender<State>,
    stop: CancellationToken,
    /// Cancelled by the lifecycle after the limit, or when the lifecycle is dropped.
    abort: CancellationToken,
    handle: Handle,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    started: u64,
    /// Running tasks, in the order of their start.
    alive: BTreeMap<u64, Name>,
    ended: TasksReport,
}

impl Tasks {
    pub(super) fn new(handle: Handle, abort: CancellationToken) -> Self {
        let state = watch::Sender::new(State::default());
        Self { state, stop: CancellationToken::new(), abort, handle }
    }

    /// Starts a task on the current runtime. The task may end at any time; the flag signals it to end.
    ///
    /// It is cancelled, which drops its future at an `await`, when it overruns the limit after its
    /// flag was set, at the forced stop, and when the lifecycle is dropped. An error or a panic ends
    /// only this task: the [`Report`](super::Report) names it, and the first one resolves
    /// [`Handle::failed`].
    ///
    /// # Errors
    ///
    /// [`Refused`] once the group is stopping; `task` is dropped and not called.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn<T, F, E>(&self, name: impl Into<Name>, task: T) -> Result<(), Refused>
    where
        T: FnOnce(StopFlag) -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let running = self.register(name.into()).ok_or(Refused)?;
        let (stop, abort) = (StopFlag(self.stop.clone()), self.abort.clone());
        tokio::spawn(async move {
            let work = catch_panic(async move { task(stop).await });
            let outcome = tokio::select! {
                biased;
                result = work => TaskOutcome::Ended(result.map_err(|error| error.to_string())),
                () = abort.cancelled() => TaskOutcome::Cancelled,
            };
            running.finish(outcome);
        });
        Ok(())
    }

    fn register(&self, name: Name) -> Option<Running> {
        let mut id = None;
        self.state.send_if_modified(|state| {
            if !state.closed {
                state.alive.insert(state.started, name.clone());
                id = Some(state.started);
                state.started += 1;
            }
            false
        });
        id.map(|id| Running { tasks: self.clone(), id, name, outcome: TaskOutcome::Cancelled })
    }

    /// Sets the flag and waits until no task runs; after `limit`, or at the forced stop, cancels
    /// the rest.
    pub(super) async fn stop(self, limit: Duration) -> TasksReport {
        self.state.send_modify(|state| state.closed = true);
        self.stop.cancel();
        tokio::select! {
            biased;
            () = self.empty() => {}
            () = self.handle.forced_stop() => {}
            () = tokio::time::sleep(limit) => {}
        }
        self.abort.cancel();
        let all_ended = timeout(CANCEL_LIMIT, self.empty()).await.is_ok();
        let state = self.state.borrow();
        let alive: Vec<_> = state.alive.values().cloned().collect();
        if !all_ended {
            let tasks = alive.join(", ");
            tracing::error!(
                event = "service.tasks_blocked",
                tasks,
                "blocked tasks cannot be cancelled"
            );
        }
        TasksReport { alive, ..state.ended.clone() }
    }

    async fn empty(&self) {
        // It cannot fail: `self` is a sender.
        drop(self.state.subscribe().wait_for(|state| state.alive.is_empty()).await);
    }
}

#[derive(Debug)]
enum TaskOutcome {
    Ended(Result<(), String>),
    Cancelled,
}

/// One running task. Dropping it, after everything else the task owns, records the outcome (L1).
#[derive(Debug)]
struct Running {
    tasks: Tasks,
    id: u64,
    name: Name,
    /// `Cancelled` until the task ends on its own, so a task dropped midway counts as cancelled.
    outcome: TaskOutcome,
}

impl Running {
    fn finish(mut self, outcome: TaskOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (name, outcome) = (self.name.clone(), &mut self.outcome);
        let failure = match outcome {
            TaskOutcome::Ended(Err(message)) => {
                Some(TaskFailure { name: name.clone(), message: std::mem::take(message) })
            }
            TaskOutcome::Ended(Ok(())) | TaskOutcome::Cancelled => None,
        };
        if let Some(failure) = &failure {
            tracing::error!(event = "service.task_failed", task = %name, error = failure.message, "task failed");
            self.tasks.handle.task_failed(failure);
        }
        self.tasks.state.send_modify(|state| {
            state.alive.remove(&self.id);
            let ended = &mut state.ended;
            match failure {
                Some(failure) => {
                    ended.failed += 1;
                    if ended.failures.len() < FAILURES_KEPT {
                        ended.failures.push(failure);
                    }
                }
                None if matches!(outcome, TaskOutcome::Cancelled) => ended.cancelled.push(name),
                None => ended.finished += 1,
            }
        });
    }
}

#[cfg(test)]
mod tests;
