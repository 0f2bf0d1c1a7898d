//! The shared part of a lifecycle: the phase, the course of the stop, the failures.

use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{Phase, TaskFailure};

/// Repeated signals of the same type within this time count as one.
pub const SIGNAL_DEBOUNCE: Duration = Duration::from_millis(500);

/// Time limits of a stop, counted from the first signal or request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Limit of the entire stop; after it the stop is forced. Choose it some seconds shorter than the
    /// time after which a service manager or an orchestrator kills the process.
    pub stop: Duration,
    /// Last part of `stop`, reserved for making finished work durable; `cut` comes when it begins. At
    /// most half of `stop` is reserved.
    pub reserve: Duration,
}

impl Deadlines {
    /// Returns the time for work in flight: `stop` less the reserve, and at least half of `stop`.
    pub(super) fn drain(&self) -> Duration {
        self.stop.saturating_sub(self.reserve).max(self.stop / 2)
    }
}

impl Default for Deadlines {
    /// Returns 25 s, 2 s of it in reserve. Kubernetes kills 30 s after SIGTERM by default.
    fn default() -> Self {
        Self { stop: Duration::from_secs(25), reserve: Duration::from_secs(2) }
    }
}

/// Watches and controls a [`Lifecycle`](super::Lifecycle) from any task or thread. Clones share one
/// state; dropping them does nothing, and a clone may outlive the lifecycle.
///
/// No method fails, blocks or needs a runtime. Dropping a future that one returns loses nothing.
#[derive(Clone, Debug)]
pub struct Handle {
    phase: watch::Sender<Phase>,
    /// The first task that failed.
    failed: watch::Sender<Option<TaskFailure>>,
    closing: CancellationToken,
    cut: CancellationToken,
    forced_stop: CancellationToken,
    /// Number of SIGHUPs received.
    hangups: watch::Sender<u64>,
}

impl Handle {
    pub(super) fn new() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Starting),
            failed: watch::Sender::new(None),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            forced_stop: CancellationToken::new(),
            hangups: watch::Sender::new(0),
        }
    }

    /// Returns the current phase, and a way to await the next one: `borrow()` and `wait_for(…)` of the
    /// receiver. A receiver that awaits may see several moves as one.
    #[must_use]
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Moves forward to `phase`. Does nothing and returns `false` when it is already reached or past
    /// (L5). It is a statement to observers: entering CLOSING requests no stop, and entering COMMITTING
    /// cuts nothing.
    pub fn enter(&self, phase: Phase) -> bool {
        let entered = self.move_on(phase);
        if entered {
            log_phase(phase, false);
        }
        entered
    }

    /// Does the same as [`Self::enter`] without the log line, for callers that act before they log (L8).
    fn move_on(&self, phase: Phase) -> bool {
        self.phase.send_if_modified(|now| {
            let forward = *now < phase;
            *now = phase.max(*now);
            forward
        })
    }

    /// Requests a stop, as the first signal does, and starts the deadline. A second request, or a
    /// first signal after it, changes nothing. The caller of [`closing`](Self::closing) reacts by
    /// calling [`Lifecycle::stop`](super::Lifecycle::stop).
    pub fn request_stop(&self) {
        self.close(false);
    }

    pub(super) fn close(&self, is_failed_start: bool) {
        let entered = self.move_on(Phase::Closing);
        self.closing.cancel();
        if entered {
            log_phase(Phase::Closing, is_failed_start);
        }
    }

    pub(super) fn end(&self, is_failed_start: bool) {
        if self.move_on(Phase::Stopped) {
            log_phase(Phase::Stopped, is_failed_start);
        }
    }

    /// Returns the token that the first signal or [`request_stop`](Self::request_stop) cancels:
    /// accept no new work. It is a child: cancelling it affects no other token.
    #[must_use]
    pub fn closing(&self) -> CancellationToken {
        self.closing.child_token()
    }

    /// Returns the token that the second signal cancels, or the deadline less the reserve: drop
    /// unfinished work, make finished work durable. It is a child: cancelling it affects no other token.
    #[must_use]
    pub fn cut(&self) -> CancellationToken {
        self.cut.child_token()
    }

    /// Resolves at the third signal or the deadline: end the process at once. Await it on the thread
    /// of `block_on`, with the service in a task of its own, so that no blocked thread can hide it:
    /// see `main` of the [example](super#a-small-http-service).
    pub fn forced_stop(&self) -> WaitForCancellationFutureOwned {
        self.forced_stop.clone().cancelled_owned()
    }

    /// Returns the number of SIGHUPs since the lifecycle follows the signals, and a way to await the
    /// next one. Several between two observations are seen as one change.
    #[must_use]
    pub fn hangups(&self) -> watch::Receiver<u64> {
        self.hangups.subscribe()
    }

    pub(super) fn hung_up(&self) {
        self.hangups.send_modify(|count| *count += 1);
    }

    /// Resolves with the first failure or panic of a background task, at once if one was recorded
    /// before. Never resolves if no task fails. A failure stops nothing: the caller decides.
    pub async fn failed(&self) -> TaskFailure {
        let mut failed = self.failed.subscribe();
        loop {
            if let Some(failure) = failed.borrow_and_update().clone() {
                return failure;
            }
            if failed.changed().await.is_err() {
                // Not reached: `self` is a sender.
                std::future::pending::<()>().await;
            }
        }
    }

    pub(super) fn task_failed(&self, failure: &TaskFailure) {
        self.failed.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert_with(|| failure.clone());
            is_first
        });
    }

    /// Escalates a stop by each signal and by the clock (L6). Ends with `forced_stop`.
    pub(super) async fn follow<K: PartialEq + Send>(
        self,
        deadlines: Deadlines,
        signals: impl Stream<Item = K> + Send,
    ) {
        let stream = Box::pin(signals.chain(stream::pending()));
        let mut signals = Counted { stream, count: 0, last: None };
        tokio::select! {
            () = signals.reach(1) => self.request_stop(),
            () = self.closing.cancelled() => {}
        }
        let closed_at = Instant::now();
        tokio::select! {
            () = signals.reach(2) => {}
            () = sleep_until(closed_at + deadlines.drain()) => {}
        }
        let entered = self.move_on(Phase::Committing);
        self.cut.cancel();
        if entered {
            log_phase(Phase::Committing, false);
        }
        tokio::select! {
            () = signals.reach(3) => {}
            () = sleep_until(closed_at + deadlines.stop) => {}
        }
        self.forced_stop.cancel();
    }
}

fn log_phase(phase: Phase, is_failed_start: bool) {
    let text = match phase {
        Phase::Starting => "starting",
        Phase::Ready => "ready, accepting work",
        Phase::Closing => "stopping, accepting no more work",
        Phase::Draining => "draining, finishing accepted work",
        Phase::Committing => "committing finished work",
        Phase::Stopped => "all resources closed",
    };
    if is_failed_start {
        tracing::debug!(event = "service.phase", %phase, "{text}");
    } else {
        tracing::info!(event = "service.phase", %phase, "{text}");
    }
}

/// Counts signals from the first one on, independently of requests and deadlines: the second signal
/// never has the effect of the third. A signal sent to the process and to its group arrives twice
/// (`timeout(1)` does that) and counts once: one of the same type within
/// [`SIGNAL_DEBOUNCE`] of the last counted one is ignored.
struct Counted<S: Stream> {
    stream: S,
    count: u32,
    last: Option<(S::Item, Instant)>,
}

impl<S: Stream<Item: PartialEq> + Unpin> Counted<S> {
    /// Resolves when `count` signals have arrived in total. Loses none when dropped.
    async fn reach(&mut self, count: u32) {
        while self.count < count {
            let Some(kind) = self.stream.next().await else { return std::future::pending().await };
            let is_same = self
                .last
                .as_ref()
                .is_some_and(|(last, at)| *last == kind && at.elapsed() < SIGNAL_DEBOUNCE);
            if !is_same {
                self.count += 1;
                self.last = Some((kind, Instant::now()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
