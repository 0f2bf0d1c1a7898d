//! The queue of notifications for one hook.

use std::{
    collections::VecDeque,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    limits,
    observe::{HookMeter, Listener},
    outcome::OutcomeKind,
    sync::Mutex,
};

/// Waiting lines, at most [`limits::HOOK_QUEUE_LINES_MAX`]; a full queue drops the oldest. Clones are
/// the same queue.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    waiting: Mutex<Queued>,
    wake: Notify,
    meter: Arc<HookMeter>,
}

#[derive(Debug, Default)]
struct Queued {
    lines: VecDeque<String>,
    /// Whether lines were dropped since the last batch.
    has_dropped: bool,
}

impl Queue {
    pub fn new(meter: Arc<HookMeter>) -> Self {
        Self(Arc::new(Inner { waiting: Mutex::default(), wake: Notify::new(), meter }))
    }

    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.0.waiting.lock()
    }

    /// Adds a line without waiting (H1).
    pub fn push(&self, line: String) {
        let mut waiting = self.lock();
        if waiting.lines.len() >= limits::HOOK_QUEUE_LINES_MAX {
            waiting.lines.pop_front();
            self.0.meter.dropped(1);
            if !std::mem::replace(&mut waiting.has_dropped, true) {
                tracing::warn!(
                    event = "hook.notifications_dropped",
                    hook = self.0.meter.name(),
                    "hook too slow, oldest notifications dropped"
                );
            }
        }
        waiting.lines.push_back(line);
        drop(waiting);
        self.0.wake.notify_one();
    }

    fn len(&self) -> usize {
        self.lock().lines.len()
    }

    /// Returns the next batch of at most `max` lines and [`limits::HOOK_QUEUE_BYTES_MAX`] bytes: when it
    /// is full, or `delay` after the first line. While closing, it returns waiting lines at once and
    /// `None` when none is left. Loses nothing when dropped.
    pub async fn next(
        &self,
        max: usize,
        delay: Duration,
        closing: &CancellationToken,
    ) -> Option<Vec<String>> {
        self.wait_for_lines(1, closing).await;
        tokio::select! {
            () = self.wait_for_lines(max.min(limits::HOOK_QUEUE_LINES_MAX), closing) => {}
            () = tokio::time::sleep(delay) => {}
        }
        let mut waiting = self.lock();
        waiting.has_dropped = false;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < max
            && let Some(line) = waiting.lines.front()
            && (batch.is_empty() || bytes + line.len() <= limits::HOOK_QUEUE_BYTES_MAX)
            && let Some(line) = waiting.lines.pop_front()
        {
            bytes += line.len();
            batch.push(line);
        }
        (!batch.is_empty()).then_some(batch)
    }

    async fn wait_for_lines(&self, count: usize, closing: &CancellationToken) {
        while self.len() < count {
            tokio::select! {
                () = self.0.wake.notified() => {}
                () = closing.cancelled() => return,
            }
        }
    }

    #[must_use]
    pub fn meter(&self) -> &HookMeter {
        &self.0.meter
    }

    /// Drops and counts the waiting lines, and returns their number.
    pub fn abandon(&self) -> usize {
        let dropped = std::mem::take(&mut self.lock().lines).len();
        self.0.meter.dropped(dropped as u64);
        dropped
    }
}

/// The queues of the configured outcome hooks, filled with acknowledged outcomes.
#[derive(Clone, Debug)]
pub struct HookQueues {
    pub published: Option<Queue>,
    pub failed: Option<Queue>,
    /// Of pipelines to which no file came.
    pub overdue: Option<Queue>,
}

impl HookQueues {
    pub fn iter(&self) -> impl Iterator<Item = &Queue> {
        [&self.published, &self.failed, &self.overdue].into_iter().flatten()
    }
}

impl Listener for HookQueues {
    fn notify(&self, outcome: OutcomeKind, line: &str) {
        let queue = match outcome {
            OutcomeKind::Published => &self.published,
            OutcomeKind::Quarantined => &self.failed,
            OutcomeKind::Skipped | OutcomeKind::Deferred => return,
        };
        if let Some(queue) = queue {
            queue.push(line.to_owned());
        }
    }

    fn notify_overdue(&self, line: &str) {
        if let Some(queue) = &self.overdue {
            queue.push(line.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue_of(lines: usize) -> (Queue, Arc<HookMeter>) {
        let meter = Arc::new(HookMeter::new("on_published"));
        let queue = Queue::new(Arc::clone(&meter));
        (0..lines).for_each(|line| queue.push(line.to_string()));
        (queue, meter)
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_returned_when_it_is_full_or_its_first_line_has_waited() {
        let (queue, _) = queue_of(5);
        let (closing, delay) = (CancellationToken::new(), Duration::from_secs(1));
        let began = tokio::time::Instant::now();
        assert_eq!(queue.next(3, delay, &closing).await.expect("lines"), ["0", "1", "2"]);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(queue.next(3, delay, &closing).await.expect("lines"), ["3", "4"]);
        assert_eq!(began.elapsed(), delay);
        let waiting = tokio::spawn({
            let (queue, closing) = (queue.clone(), closing.clone());
            async move { queue.next(3, delay, &closing).await }
        });
        queue.push("5".to_owned());
        tokio::task::yield_now().await;
        closing.cancel();
        assert_eq!(waiting.await.expect("no panic").expect("the last"), ["5"]);
        assert_eq!(queue.next(3, delay, &closing).await, None);
        assert_eq!(began.elapsed(), delay);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_drops_its_oldest_and_counts_them() {
        let (queue, meter) = queue_of(limits::HOOK_QUEUE_LINES_MAX + 7);
        let batch = queue.next(1, Duration::ZERO, &CancellationToken::new()).await;
        assert_eq!(batch.expect("lines"), ["7"]);
        assert_eq!(meter.counts().1, 7);
        assert_eq!(queue.abandon(), limits::HOOK_QUEUE_LINES_MAX - 1);
        assert_eq!(meter.counts().1, 7 + limits::HOOK_QUEUE_LINES_MAX as u64 - 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_no_larger_than_a_run_may_be_given() {
        let (queue, _) = queue_of(0);
        (0..3).for_each(|_| queue.push("x".repeat(limits::HOOK_QUEUE_BYTES_MAX / 2 + 1)));
        let closing = CancellationToken::new();
        closing.cancel();
        for _ in 0..3 {
            assert_eq!(queue.next(9, Duration::ZERO, &closing).await.expect("lines").len(), 1);
        }
    }

    #[test]
    fn only_configured_hooks_are_notified() {
        let (queue, _) = queue_of(0);
        let queues = HookQueues { published: None, failed: Some(queue.clone()), overdue: None };
        for outcome in [OutcomeKind::Published, OutcomeKind::Skipped, OutcomeKind::Quarantined] {
            queues.notify(outcome, outcome.as_str());
        }
        assert_eq!(queue.lock().lines, ["quarantined"]);
    }
}
