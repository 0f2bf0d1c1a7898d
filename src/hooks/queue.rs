//! What waits for a hook.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    limits,
    observe::{HookMeter, Listener, OutcomeKind},
};

/// Lines that wait, at most [`limits::HOOK_QUEUE_LINES_MAX`]: the oldest give way. Clones are the same queue.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    waiting: Mutex<Queued>,
    bell: Notify,
    meter: Arc<HookMeter>,
}

#[derive(Debug, Default)]
struct Queued {
    lines: VecDeque<String>,
    /// Lines were dropped since a batch was taken last.
    is_losing: bool,
}

impl Queue {
    pub fn new(meter: Arc<HookMeter>) -> Self {
        Self(Arc::new(Inner { waiting: Mutex::default(), bell: Notify::new(), meter }))
    }

    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits (H1).
    pub fn push(&self, line: String) {
        let mut waiting = self.lock();
        if waiting.lines.len() >= limits::HOOK_QUEUE_LINES_MAX {
            waiting.lines.pop_front();
            self.0.meter.dropped(1);
            if !std::mem::replace(&mut waiting.is_losing, true) {
                tracing::warn!(
                    event = "hook.notifications_dropped",
                    hook = self.0.meter.name(),
                    "hook too slow, oldest notifications dropped"
                );
            }
        }
        waiting.lines.push_back(line);
        drop(waiting);
        self.0.bell.notify_one();
    }

    fn len(&self) -> usize {
        self.lock().lines.len()
    }

    /// The next lines, so many at most and in [`limits::HOOK_QUEUE_BYTES_MAX`]: as soon as there are that many,
    /// or `delay` after the first. Once it is closing what is there is given at once, and `None` at
    /// the end. Loses nothing when dropped.
    pub async fn next(
        &self,
        most: usize,
        delay: Duration,
        closing: &CancellationToken,
    ) -> Option<Vec<String>> {
        self.until(1, closing).await;
        tokio::select! {
            () = self.until(most.min(limits::HOOK_QUEUE_LINES_MAX), closing) => {}
            () = tokio::time::sleep(delay) => {}
        }
        let mut waiting = self.lock();
        waiting.is_losing = false;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < most
            && let Some(line) = waiting.lines.front()
            && (batch.is_empty() || bytes + line.len() <= limits::HOOK_QUEUE_BYTES_MAX)
            && let Some(line) = waiting.lines.pop_front()
        {
            bytes += line.len();
            batch.push(line);
        }
        (!batch.is_empty()).then_some(batch)
    }

    async fn until(&self, count: usize, closing: &CancellationToken) {
        while self.len() < count {
            tokio::select! {
                () = self.0.bell.notified() => {}
                () = closing.cancelled() => return,
            }
        }
    }

    #[must_use]
    pub fn meter(&self) -> &HookMeter {
        &self.0.meter
    }

    /// Gives up what is left, and counts it.
    pub fn abandon(&self) -> usize {
        let left = std::mem::take(&mut self.lock().lines).len();
        self.0.meter.dropped(left as u64);
        left
    }
}

/// Puts what was acknowledged into the queues of who wants to know.
#[derive(Clone, Debug)]
pub struct HookQueues {
    pub published: Option<Queue>,
    pub failed: Option<Queue>,
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: usize) -> (Queue, Arc<HookMeter>) {
        let meter = Arc::new(HookMeter::new("on_published"));
        let queue = Queue::new(Arc::clone(&meter));
        (0..lines).for_each(|line| queue.push(line.to_string()));
        (queue, meter)
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_given_when_it_is_full_or_its_first_line_has_waited() {
        let (queue, _) = of(5);
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
        let (queue, meter) = of(limits::HOOK_QUEUE_LINES_MAX + 7);
        let batch = queue.next(1, Duration::ZERO, &CancellationToken::new()).await;
        assert_eq!(batch.expect("lines"), ["7"]);
        assert_eq!(meter.counts().1, 7);
        assert_eq!(queue.abandon(), limits::HOOK_QUEUE_LINES_MAX - 1);
        assert_eq!(meter.counts().1, 7 + limits::HOOK_QUEUE_LINES_MAX as u64 - 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_no_larger_than_a_run_may_be_given() {
        let (queue, _) = of(0);
        (0..3).for_each(|_| queue.push("x".repeat(limits::HOOK_QUEUE_BYTES_MAX / 2 + 1)));
        let closing = CancellationToken::new();
        closing.cancel();
        for _ in 0..3 {
            assert_eq!(queue.next(9, Duration::ZERO, &closing).await.expect("lines").len(), 1);
        }
    }

    #[test]
    fn only_who_wants_to_know_is_told() {
        let (queue, _) = of(0);
        let notices = HookQueues { published: None, failed: Some(queue.clone()) };
        for outcome in [OutcomeKind::Published, OutcomeKind::Skipped, OutcomeKind::Quarantined] {
            notices.notify(outcome, outcome.as_str());
        }
        assert_eq!(queue.lock().lines, ["quarantined"]);
    }
}
