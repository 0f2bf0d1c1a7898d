//! The part of a lifecycle that many may hold: the phase, the course of the stop, the failures.

use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::{Phase, TaskFailure};
use crate::limits;

/// How long a stop may take, counted from the first signal or request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// After this the process leaves at once.
    pub stop: Duration,
    /// The last part of `stop`, kept for making finished work durable.
    pub reserve: Duration,
}

impl Deadlines {
    /// For what is unfinished at the first signal: all but the reserve, and at least the half.
    pub(super) fn drain(&self) -> Duration {
        self.stop.saturating_sub(self.reserve).max(self.stop / 2)
    }
}

impl Default for Deadlines {
    /// 25 s (an orchestrator commonly kills after 30), 2 s of it in reserve.
    fn default() -> Self {
        Self { stop: limits::SHUTDOWN_DEADLINE, reserve: limits::COMMIT_RESERVE }
    }
}

/// Watches and steers a [`Lifecycle`](super::Lifecycle) from anywhere. Clones share one state;
/// dropping them does nothing. The tokens it gives are children: cancelling one affects no other.
#[derive(Clone, Debug)]
pub struct Handle {
    phase: watch::Sender<Phase>,
    /// The first task that failed.
    failed: watch::Sender<Option<TaskFailure>>,
    closing: CancellationToken,
    cut: CancellationToken,
    leave: CancellationToken,
    /// How often SIGHUP came.
    hangups: watch::Sender<u64>,
}

impl Handle {
    pub(super) fn new() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Starting),
            failed: watch::Sender::new(None),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            leave: CancellationToken::new(),
            hangups: watch::Sender::new(0),
        }
    }

    /// The phase now, and a way to await the next one.
    #[must_use]
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Moves on to `phase`. Does nothing, and says `false`, when it is already reached or past.
    pub fn enter(&self, phase: Phase) -> bool {
        let entered = self.move_on(phase);
        if entered {
            log_phase(phase);
        }
        entered
    }

    /// [`Self::enter`] without its line in the log, for those who have to act before they log (L8).
    fn move_on(&self, phase: Phase) -> bool {
        self.phase.send_if_modified(|now| {
            let forward = *now < phase;
            *now = phase.max(*now);
            forward
        })
    }

    /// Asks for a stop, as the first signal does. It starts the deadline; asking again, or a first
    /// signal after it, changes nothing.
    pub fn request_stop(&self) {
        let entered = self.move_on(Phase::Closing);
        self.closing.cancel();
        if entered {
            log_phase(Phase::Closing);
        }
    }

    /// Cancelled by the first signal or [`request_stop`](Self::request_stop): take no new work.
    #[must_use]
    pub fn closing(&self) -> CancellationToken {
        self.closing.child_token()
    }

    /// Cancelled by the second signal, or when only the reserve is left of the deadline: leave
    /// unfinished work behind, make finished work durable.
    #[must_use]
    pub fn cut(&self) -> CancellationToken {
        self.cut.child_token()
    }

    /// Resolves at the third signal or the deadline: end the process at once. Await it beside
    /// the main future, on the thread of `block_on`, so that no hanging task can hide it.
    pub fn forced_stop(&self) -> WaitForCancellationFutureOwned {
        self.leave.clone().cancelled_owned()
    }

    /// How often SIGHUP came since the start, and a way to await the next one. Several that come
    /// while nobody looks are seen as one change.
    #[must_use]
    pub fn hangups(&self) -> watch::Receiver<u64> {
        self.hangups.subscribe()
    }

    pub(super) fn hung_up(&self) {
        self.hangups.send_modify(|count| *count += 1);
    }

    /// Resolves when a background task has failed or panicked, with the first that did; at once
    /// if it was before. Otherwise never.
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

    /// Carries out the course of a stop (L6): whoever polls this escalates, by each signal and by
    /// the clock. Ends with `forced_stop`.
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
            log_phase(Phase::Committing);
        }
        tokio::select! {
            () = signals.reach(3) => {}
            () = sleep_until(closed_at + deadlines.stop) => {}
        }
        self.leave.cancel();
    }
}

fn log_phase(phase: Phase) {
    tracing::info!(event = "service.phase", %phase, "phase");
}

/// Signals are counted from the first one on, whatever else moves the stop on meanwhile: the
/// second signal never does what the third is for. One that is sent to the process and to its group
/// comes twice (`timeout(1)` does that) and counts once: a signal of the same kind within
/// [`limits::SIGNAL_DEBOUNCE`] of the one that was counted last.
struct Counted<S: Stream> {
    stream: S,
    count: u32,
    last: Option<(S::Item, Instant)>,
}

impl<S: Stream<Item: PartialEq> + Unpin> Counted<S> {
    /// Resolves when `count` signals have come in all. Loses none when dropped.
    async fn reach(&mut self, count: u32) {
        while self.count < count {
            let Some(kind) = self.stream.next().await else { return std::future::pending().await };
            let is_same = self
                .last
                .as_ref()
                .is_some_and(|(last, at)| *last == kind && at.elapsed() < limits::SIGNAL_DEBOUNCE);
            if !is_same {
                self.count += 1;
                self.last = Some((kind, Instant::now()));
            }
        }
    }
}
