//! The stack of resources and tasks: `stop` pops it in reverse order.

use std::time::Duration;
use std::{fmt, io};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::{TaskError, catch_panic};
use super::signals::SignalThread;
use super::{
    BoxError, CloseOutcome, ClosedResource, Deadlines, Handle, Name, Phase, Report, Signals,
    StopFlag, Tasks,
};

/// A service from start to stop. It owns the open resources and the running tasks; see the
/// [crate](super) for the invariants.
///
/// Dropped without [`stop`](Self::stop), or while `stop` runs, it cancels the tasks and drops the
/// resources without closing them and without waiting: a `Drop` cannot await.
#[derive(Debug)]
pub struct Lifecycle {
    handle: Handle,
    stack: Vec<Entry>,
    /// Thread that escalates the stop. Absent only in tests that do this themselves.
    signal_thread: Option<SignalThread>,
}

enum Entry {
    Resource {
        name: Name,
        limit: Duration,
        /// Closes the resource, which it owns. Not polled before its turn.
        close: BoxFuture<'static, Result<(), TaskError>>,
    },
    Tasks {
        tasks: Tasks,
        limit: Duration,
        /// Dropping it cancels the tasks.
        abort: DropGuard,
    },
}

/// A resource did not open. Its close is not registered; everything that `open` had acquired was
/// dropped.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `open` returned an error.
    #[error("cannot start {name}")]
    Failed {
        /// Name of the resource.
        name: Name,
        /// Error of `open`.
        source: BoxError,
    },
    /// `open` panicked.
    #[error("cannot start {name}: panicked: {message}")]
    Panicked {
        /// Name of the resource.
        name: Name,
        /// Message of the panic, `?` if it is no text.
        message: String,
    },
    /// `open` was dropped at its time limit.
    #[error("cannot start {name}: not ready after {limit:?}")]
    TimedOut {
        /// Name of the resource.
        name: Name,
        /// Time limit of the open.
        limit: Duration,
    },
    /// A stop was requested before the start began, or the second signal came while it ran.
    #[error("cannot start {name}: the service is stopping")]
    Stopping {
        /// Name of the resource.
        name: Name,
    },
}

impl StartError {
    /// Returns the name of the resource.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Failed { name, .. }
            | Self::Panicked { name, .. }
            | Self::TimedOut { name, .. }
            | Self::Stopping { name } => name,
        }
    }
}

impl Lifecycle {
    /// Starts the thread that follows `signals`, named `signals`. Needs no runtime.
    ///
    /// # Errors
    ///
    /// That of `pthread_create(3)`, when the thread cannot be started.
    pub fn new(deadlines: Deadlines, signals: Signals) -> io::Result<Self> {
        let handle = Handle::new();
        let signal_thread = Some(signals.follow(handle.clone(), deadlines)?);
        Ok(Self { handle, stack: Vec::new(), signal_thread })
    }

    #[cfg(test)]
    pub(super) fn without_signals() -> Self {
        Self { handle: Handle::new(), stack: Vec::new(), signal_thread: None }
    }

    /// Returns the phase, the course of the stop and the failures, to clone and share.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Opens a resource now, and registers its close.
    ///
    /// `open` yields two values: the resource, owned by the lifecycle until `close` takes it, and
    /// the part that the caller uses (a clone, an address, or nothing). `close` is called by
    /// [`stop`](Self::stop) and has the same limit. Its error or panic is
    /// [`CloseOutcome::Failed`].
    ///
    /// # Errors
    ///
    /// [`StartError`]: `open` failed, panicked, overran `limit`, or the service is stopping. The
    /// caller returns it and calls [`stop`](Self::stop), which closes the resources that were opened
    /// before.
    ///
    /// # Cancellation
    ///
    /// `open` is dropped at `limit`, or at the second signal; work that it moved to another thread
    /// continues. When the returned future is dropped, the resource is dropped and no close is
    /// registered.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with its timer enabled.
    pub async fn start<R, U, E, C, F, D>(
        &mut self,
        name: impl Into<Name>,
        limit: Duration,
        open: impl Future<Output = Result<(R, U), E>>,
        close: C,
    ) -> Result<U, StartError>
    where
        R: Send + 'static,
        E: Into<BoxError>,
        C: FnOnce(R) -> F + Send + 'static,
        F: Future<Output = Result<(), D>> + Send + 'static,
        D: Into<BoxError> + 'static,
    {
        let name = name.into();
        if self.handle.closing().is_cancelled() {
            return Err(StartError::Stopping { name });
        }
        let begun = Instant::now();
        let opened = tokio::select! {
            biased;
            opened = catch_panic(open) => opened,
            () = self.handle.cut().cancelled_owned() => return Err(StartError::Stopping { name }),
            () = sleep(limit) => return Err(StartError::TimedOut { name, limit }),
        };
        match opened {
            Ok((resource, used)) => {
                self.on_close(name.clone(), limit, || close(resource));
                let seconds = rounded_seconds(begun.elapsed());
                tracing::debug!(event = "resource.opened", resource = %name, seconds, "resource opened");
                Ok(used)
            }
            Err(TaskError::Failed(source)) => Err(StartError::Failed { name, source }),
            Err(TaskError::Panicked(message)) => Err(StartError::Panicked { name, message }),
        }
    }

    /// Registers a close without a resource. [`stop`](Self::stop) calls it in its turn and drops its
    /// future at `limit`.
    pub fn on_close<C, F, E>(&mut self, name: impl Into<Name>, limit: Duration, close: C)
    where
        C: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        let close = catch_panic(async move { close().await }).boxed();
        self.stack.push(Entry::Resource { name: name.into(), limit, close });
    }

    /// Starts a background task, which stops at this position of the stack: see [`Tasks::spawn`].
    /// It is cancelled when it runs longer than `limit` after its flag was set.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn<T, F, E>(&mut self, name: impl Into<Name>, limit: Duration, task: T)
    where
        T: FnOnce(StopFlag) -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        // Only a group that is being stopped refuses, and this one is new.
        self.tasks(limit).spawn(name, task).ok();
    }

    /// Registers a group of background tasks, which all stop at this position of the stack, within
    /// `limit`. Until then, tasks can be started in it from anywhere.
    pub fn tasks(&mut self, limit: Duration) -> Tasks {
        let abort = CancellationToken::new();
        let tasks = Tasks::new(self.handle.clone(), abort.clone());
        self.stack.push(Entry::Tasks { tasks: tasks.clone(), limit, abort: abort.drop_guard() });
        tasks
    }

    /// Requests a stop, unless one was requested, and pops the stack in reverse order (L1, L2). A
    /// failure is in the report and ends nothing early. After a failed start, in the phase STARTING,
    /// the further phases are logged at the level DEBUG: the error is what matters.
    ///
    /// After `forced_stop` it runs nothing more and returns (L6), within a second for each group of
    /// tasks that blocks its threads. Afterwards the signals are still caught, and do nothing.
    ///
    /// # Cancellation
    ///
    /// When the returned future is dropped, the remaining tasks are cancelled and the remaining
    /// resources are dropped without being closed.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with its timer enabled.
    pub async fn stop(mut self) -> Report {
        let is_failed_start = *self.handle.phase().borrow() == Phase::Starting;
        self.handle.close(is_failed_start);
        let begun = Instant::now();
        let mut report = Report::default();
        while let Some(entry) = self.stack.pop() {
            match entry {
                Entry::Resource { name, limit, close } => {
                    report.resources.push(close_resource(&self.handle, name, limit, close).await);
                }
                Entry::Tasks { tasks, limit, abort } => {
                    report.tasks.add(tasks.stop(limit).await);
                    drop(abort);
                }
            }
        }
        if let Some(signal_thread) = self.signal_thread.take() {
            signal_thread.end().await;
        }
        self.handle.end(is_failed_start);
        report.took = begun.elapsed();
        report
    }
}

/// Closes one resource within its limit, unless the stop is forced.
async fn close_resource(
    handle: &Handle,
    name: Name,
    limit: Duration,
    close: BoxFuture<'static, Result<(), TaskError>>,
) -> ClosedResource {
    let begun = Instant::now();
    let outcome = tokio::select! {
        biased;
        () = handle.forced_stop() => CloseOutcome::Abandoned,
        closed = close => match closed {
            Ok(()) => CloseOutcome::Done,
            Err(error) => CloseOutcome::Failed(error.to_string()),
        },
        () = sleep(limit) => CloseOutcome::TimedOut(limit),
    };
    let took = begun.elapsed();
    let seconds = rounded_seconds(took);
    // The report names abandoned resources, and the service logs the forced stop.
    if matches!(outcome, CloseOutcome::Done | CloseOutcome::Abandoned) {
        tracing::debug!(event = "resource.closed", resource = %name, seconds, %outcome, "resource closed");
    } else {
        tracing::error!(event = "resource.closed", resource = %name, seconds, %outcome, "cannot close resource");
    }
    ClosedResource { name, took, outcome }
}

/// Returns a duration in seconds with three decimals, for log lines.
fn rounded_seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource { name, limit, .. } => {
                f.debug_struct("Resource").field("name", name).field("limit", limit).finish()
            }
            Self::Tasks { tasks, limit, .. } => {
                f.debug_struct("Tasks").field("tasks", tasks).field("limit", limit).finish()
            }
        }
    }
}

#[cfg(test)]
mod tests;
