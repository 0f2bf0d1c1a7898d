//! The stack of what was started: taken off in reverse when the service stops.

use std::time::Duration;
use std::{fmt, io};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::{TaskError, catch_panic};
use super::signals::SignalThread;
use super::{
    CleanUp, Deadlines, End, Error, Handle, Name, Phase, Report, Signals, StopFlag, Tasks,
};

/// A service from its start to its end. Its scope owns the resources that were started and the
/// tasks that were spawned; see the [module](super) for the invariants.
///
/// Dropped without [`stop`](Self::stop), or while `stop` runs, it cancels the tasks and drops the
/// resources without their clean-up and without waiting: a `Drop` cannot await.
#[derive(Debug)]
pub struct Lifecycle {
    handle: Handle,
    stack: Vec<Entry>,
    /// Polls the course of the stop. Absent only where a test does that itself.
    follower: Option<SignalThread>,
}

enum Entry {
    CleanUp {
        name: Name,
        limit: Duration,
        /// Not polled before its turn. It owns the resource.
        run: BoxFuture<'static, Result<(), TaskError>>,
    },
    Tasks {
        tasks: Tasks,
        limit: Duration,
        /// Cancels the tasks when dropped.
        abort: DropGuard,
    },
}

/// A start-up hook did not give its resource. Its clean-up is not registered; what the hook had
/// acquired was dropped with it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("start of {name} failed")]
    Failed { name: Name, source: Error },
    #[error("start of {name} panicked: {message}")]
    Panicked { name: Name, message: String },
    #[error("start of {name} took longer than {limit:?}")]
    TimedOut { name: Name, limit: Duration },
    /// A stop was requested before the hook began, or the second signal came while it ran.
    #[error("{name} was not started: the service is being stopped")]
    Stopping { name: Name },
}

impl StartError {
    /// The hook's name.
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
    /// Starts to follow `signals`, on one thread of its own. Fails when that cannot be started.
    pub fn new(deadlines: Deadlines, signals: Signals) -> io::Result<Self> {
        let handle = Handle::new();
        let follower = Some(signals.follow(handle.clone(), deadlines)?);
        Ok(Self { handle, stack: Vec::new(), follower })
    }

    #[cfg(test)]
    pub(super) fn unfollowed() -> Self {
        Self { handle: Handle::new(), stack: Vec::new(), follower: None }
    }

    /// The phase, the course of the stop and the failures, to clone and hand on.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Opens a resource now, and registers its release.
    ///
    /// `open` yields two values: the resource, owned by this scope until `close` takes it, and
    /// whatever the caller needs to use it (a clone, an address, or nothing). `open` is dropped at
    /// `limit`, or at the second signal; work it moved to another thread goes on. `close` is
    /// called by [`stop`](Self::stop) and has the same limit.
    ///
    /// When this future is dropped, the resource is dropped and no clean-up is registered.
    pub async fn start<R, U, E, C, F, D>(
        &mut self,
        name: impl Into<Name>,
        limit: Duration,
        open: impl Future<Output = Result<(R, U), E>>,
        close: C,
    ) -> Result<U, StartError>
    where
        R: Send + 'static,
        E: Into<Error>,
        C: FnOnce(R) -> F + Send + 'static,
        F: Future<Output = Result<(), D>> + Send + 'static,
        D: Into<Error> + 'static,
    {
        let name = name.into();
        if self.handle.closing().is_cancelled() {
            return Err(StartError::Stopping { name });
        }
        tracing::debug!(event = "resource.opened", hook = %name, "start");
        let opened = tokio::select! {
            biased;
            opened = catch_panic(open) => opened,
            () = self.handle.cut().cancelled_owned() => return Err(StartError::Stopping { name }),
            () = sleep(limit) => return Err(StartError::TimedOut { name, limit }),
        };
        match opened {
            Ok((resource, used)) => {
                self.clean_up(name, limit, || close(resource));
                Ok(used)
            }
            Err(TaskError::Failed(source)) => Err(StartError::Failed { name, source }),
            Err(TaskError::Panicked(message)) => Err(StartError::Panicked { name, message }),
        }
    }

    /// Registers a clean-up alone; `limit` is how long it may take. It is called in its turn by
    /// [`stop`](Self::stop).
    pub fn clean_up<C, F, E>(&mut self, name: impl Into<Name>, limit: Duration, run: C)
    where
        C: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Error> + 'static,
    {
        let run = catch_panic(async move { run().await }).boxed();
        self.stack.push(Entry::CleanUp { name: name.into(), limit, run });
    }

    /// Starts a background task, which stops at this place in the stack: see [`Tasks::spawn`].
    /// `limit` is how long it may go on after its flag was set.
    pub fn spawn<T, F, E>(&mut self, name: impl Into<Name>, limit: Duration, task: T)
    where
        T: FnOnce(StopFlag) -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Error>,
    {
        // Only a group that is being stopped refuses, and this one is new.
        self.tasks(limit).spawn(name, task).ok();
    }

    /// Registers a group of background tasks, which all stop at this place in the stack, within
    /// `limit`. Tasks can be started in it from anywhere, at any time until then.
    pub fn tasks(&mut self, limit: Duration) -> Tasks {
        let abort = CancellationToken::new();
        let tasks = Tasks::new(self.handle.clone(), abort.clone());
        self.stack.push(Entry::Tasks { tasks: tasks.clone(), limit, abort: abort.drop_guard() });
        tasks
    }

    /// Requests a stop, if nobody has, and takes everything off the stack in reverse (L1, L2).
    ///
    /// After `leave` it runs nothing more and returns (L6), within a second for each group of
    /// tasks that blocks its threads.
    pub async fn stop(mut self) -> Report {
        self.handle.request_stop();
        let begun = Instant::now();
        let mut report = Report::default();
        while let Some(entry) = self.stack.pop() {
            match entry {
                Entry::CleanUp { name, limit, run } => {
                    report.clean_ups.push(clean_up(&self.handle, name, limit, run).await);
                }
                Entry::Tasks { tasks, limit, abort } => {
                    report.tasks.add(tasks.stop(limit).await);
                    drop(abort);
                }
            }
        }
        if let Some(follower) = self.follower.take() {
            follower.end().await;
        }
        self.handle.enter(Phase::Stopped);
        report.took = begun.elapsed();
        report
    }
}

/// Runs one clean-up, within its limit and until the process has to leave.
async fn clean_up(
    handle: &Handle,
    name: Name,
    limit: Duration,
    run: BoxFuture<'static, Result<(), TaskError>>,
) -> CleanUp {
    let begun = Instant::now();
    let end = tokio::select! {
        biased;
        () = handle.forced_stop() => End::Left,
        done = run => done.map_or_else(|fault| End::Failed(fault.to_string()), |()| End::Done),
        () = sleep(limit) => End::TimedOut(limit),
    };
    let took = begun.elapsed();
    // What was left at once is in the report, and the service says that it left.
    if matches!(end, End::Done | End::Left) {
        tracing::debug!(event = "resource.closed", hook = %name, ?took, ?end, "clean-up");
    } else {
        tracing::error!(event = "resource.closed", hook = %name, ?took, ?end, "clean-up");
    }
    CleanUp { name, took, end }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CleanUp { name, limit, .. } => {
                f.debug_struct("CleanUp").field("name", name).field("limit", limit).finish()
            }
            Self::Tasks { tasks, limit, .. } => {
                f.debug_struct("Tasks").field("tasks", tasks).field("limit", limit).finish()
            }
        }
    }
}
