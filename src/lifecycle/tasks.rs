//! Background tasks: named, told when to stop, awaited, and cancelled when they do not listen.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::error::catch_panic;
use super::report::FAILURES_KEPT;
use super::{Error, Handle, Name, TaskFailure, TasksReport};

/// How long cancelled tasks may take to be gone. They are dropped at their next `await`.
const CANCEL_LIMIT: Duration = Duration::from_secs(1);

/// Tells a task that its turn to stop has come. Clones tell the same.
#[derive(Clone, Debug)]
pub struct StopFlag(CancellationToken);

impl StopFlag {
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Resolves when the flag is set, at once if it is already.
    pub async fn stopped(&self) {
        self.0.cancelled().await;
    }
}

/// The group is being stopped, so the task was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tasks are being stopped")]
pub struct Refused;

/// A group of background tasks that stop together, at the group's place in the stack. Clones are
/// the same group, for request handlers to start tasks in; dropping one does nothing.
#[derive(Clone, Debug)]
pub struct Tasks {
    /// Everything known of the group; changes also wake the one who waits for its end.
    state: watch::Sender<State>,
    stop: CancellationToken,
    /// Cancelled by the lifecycle when the limit is over, or when it is dropped.
    abort: CancellationToken,
    handle: Handle,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    started: u64,
    /// By the order of their start.
    alive: BTreeMap<u64, Name>,
    ended: TasksReport,
}

impl Tasks {
    pub(super) fn new(handle: Handle, abort: CancellationToken) -> Self {
        let state = watch::Sender::new(State::default());
        Self { state, stop: CancellationToken::new(), abort, handle }
    }

    /// Starts a task on the current runtime (and panics where there is none). It may end at any
    /// time; it is asked to by the flag, and cancelled at an `await` when it does not within the
    /// limit. Refused once the group is being stopped.
    pub fn spawn<T, F, E>(&self, name: impl Into<Name>, task: T) -> Result<(), Refused>
    where
        T: FnOnce(StopFlag) -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Error>,
    {
        let running = self.register(name.into()).ok_or(Refused)?;
        let (stop, abort) = (StopFlag(self.stop.clone()), self.abort.clone());
        tokio::spawn(async move {
            let work = catch_panic(async move { task(stop).await });
            let end = tokio::select! {
                biased;
                end = work => TaskEnd::Ended(end.map_err(|fault| fault.to_string())),
                () = abort.cancelled() => TaskEnd::Cancelled,
            };
            running.ended(end);
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
        id.map(|id| Running { tasks: self.clone(), id, name, end: TaskEnd::Cancelled })
    }

    /// Sets the flag and waits until no task is left; after `limit`, or when the process has to
    /// leave, cancels the rest.
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
        let gone = timeout(CANCEL_LIMIT, self.empty()).await.is_ok();
        let state = self.state.borrow();
        let alive: Vec<_> = state.alive.values().cloned().collect();
        if !gone {
            tracing::error!(
                event = "service.tasks_blocked",
                ?alive,
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
enum TaskEnd {
    Ended(Result<(), String>),
    Cancelled,
}

/// One task that runs. Dropped last of all the task owns, which takes it from the living (L1).
#[derive(Debug)]
struct Running {
    tasks: Tasks,
    id: u64,
    name: Name,
    /// `Cancelled` until it has ended by itself: so a task dropped midway counts as that.
    end: TaskEnd,
}

impl Running {
    fn ended(mut self, end: TaskEnd) {
        self.end = end;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (name, end) = (self.name.clone(), &mut self.end);
        let failure = match end {
            TaskEnd::Ended(Err(message)) => {
                Some(TaskFailure { name: name.clone(), message: std::mem::take(message) })
            }
            TaskEnd::Ended(Ok(())) | TaskEnd::Cancelled => None,
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
                None if matches!(end, TaskEnd::Cancelled) => ended.cancelled.push(name),
                None => ended.finished += 1,
            }
        });
    }
}
