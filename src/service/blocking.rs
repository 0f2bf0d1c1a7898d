//! Blocking work of the start and the stop, on other threads.

use std::sync::LazyLock;

use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::limits;

/// The work of [`blocking`] that runs now.
static BLOCKING: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

/// Runs blocking work on another thread and resumes its panic here. When its future is dropped, the
/// work continues: [`abandoned_work`] waits for it.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match BLOCKING.spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Waits for the work whose future was dropped, at most [`limits::ABANDONED_WORK_WAIT`]: a start that
/// was cut may be removing the files of a probe. What a file system delays for longer, the next start
/// removes.
pub(super) async fn abandoned_work() {
    BLOCKING.close();
    let ended = timeout(limits::ABANDONED_WORK_WAIT, BLOCKING.wait()).await;
    if ended.is_err() {
        let threads = BLOCKING.len();
        tracing::debug!(
            event = "service.work_abandoned",
            threads,
            "work of the start still running"
        );
    }
}
