//! The one loop that every stage's threads run: receive, work, send.
//!
//! S1: a stage ends when its input ends, and closes its output, which ends the next stage.
//! S2: after a forced stop a stage drops every item it receives: the ticket reports the file as
//! unfinished. Once the intake is closed, a stage also drops items that have not begun: a drain
//! lasts as long as the files that have.
//! S3: a panic ends one job, not the stage.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    limits,
    observe::{ChannelMeter, Observer},
    pipeline::{
        clock::Clock,
        job::{DisposeRequest, FailedJob, Item},
    },
    stage::Stage,
    sync::Mutex,
};

/// The sending end of a channel between two stages. Dropping the last clone closes the channel.
#[derive(Debug)]
pub struct Outlet<T> {
    sender: mpsc::Sender<T>,
    meter: Arc<ChannelMeter>,
}

impl<T> Clone for Outlet<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), meter: Arc::clone(&self.meter) }
    }
}

impl<T> Outlet<T> {
    /// Sends an item and waits while the channel is full: this wait is the backpressure. Without a
    /// receiver the item is dropped, and its ticket reports that.
    pub fn send(&self, item: T) {
        let item = match self.sender.try_send(item) {
            Ok(()) => return self.meter.entered(),
            Err(
                mpsc::error::TrySendError::Full(item) | mpsc::error::TrySendError::Closed(item),
            ) => item,
        };
        let start = Instant::now();
        if self.sender.blocking_send(item).is_ok() {
            self.meter.entered();
        }
        self.meter.waited(start.elapsed());
    }

    /// Waits for room for up to `count` items; `None` if the receiver is gone.
    pub async fn reserve(&self, count: usize) -> Option<Slots<'_, T>> {
        let start = Instant::now();
        let count = count.min(self.sender.max_capacity());
        let permits = if let Ok(permits) = self.sender.try_reserve_many(count) {
            permits
        } else {
            let permits = self.sender.reserve_many(count).await.ok()?;
            self.meter.waited(start.elapsed());
            permits
        };
        Some(Slots { permits, meter: &self.meter })
    }
}

/// Reserved room in a channel. Dropping it returns the unused slots.
#[derive(Debug)]
pub struct Slots<'a, T> {
    permits: mpsc::PermitIterator<'a, T>,
    meter: &'a ChannelMeter,
}

impl<T> Slots<'_, T> {
    /// Sends an item without waiting. Without a free slot the item is dropped, and its ticket
    /// reports that.
    pub fn send(&mut self, item: T) {
        if let Some(permit) = self.permits.next() {
            permit.send(item);
            self.meter.entered();
        }
    }
}

/// The receiving end of a channel. Clones share it; each item goes to one of them.
#[derive(Debug)]
pub struct Inlet<T> {
    receiver: Arc<Mutex<mpsc::Receiver<T>>>,
    meter: Arc<ChannelMeter>,
    open: Arc<OpenInlet>,
}

/// Counts a channel as open. Dropping it, with the last receiving end, counts it as closed.
#[derive(Debug)]
struct OpenInlet(Arc<ChannelMeter>);

impl Drop for OpenInlet {
    fn drop(&mut self) {
        self.0.closed();
    }
}

impl<T> Clone for Inlet<T> {
    fn clone(&self) -> Self {
        let (receiver, meter) = (Arc::clone(&self.receiver), Arc::clone(&self.meter));
        Self { receiver, meter, open: Arc::clone(&self.open) }
    }
}

impl<T> Inlet<T> {
    /// Waits for the next item; `None` when the channel is closed and empty.
    pub fn receive(&self) -> Option<T> {
        let item = self.receiver.lock().blocking_recv();
        if item.is_some() {
            self.meter.left(1);
        }
        item
    }

    /// Waits for the next item for at most `limit`, by polling: for a thread that also has other work.
    pub fn receive_within(&self, limit: Duration) -> Received<T> {
        use mpsc::error::TryRecvError;
        let until = Instant::now() + limit;
        let mut receiver = self.receiver.lock();
        loop {
            match receiver.try_recv() {
                Ok(item) => {
                    self.meter.left(1);
                    return Received::Item(item);
                }
                Err(TryRecvError::Disconnected) => return Received::Closed,
                Err(TryRecvError::Empty) if Instant::now() >= until => return Received::Nothing,
                Err(TryRecvError::Empty) => std::thread::park_timeout(POLL_DELAY),
            }
        }
    }

    /// Waits for at least one item and takes its share of the queued ones, of which this number of threads
    /// take one each, but at most `limit`; empty when closed.
    fn receive_share(&self, limit: usize, threads: usize) -> Vec<T> {
        let mut receiver = self.receiver.lock();
        let Some(first) = receiver.blocking_recv() else { return Vec::new() };
        let count = (receiver.len() + 1).div_ceil(threads.max(1)).min(limit);
        let mut batch = vec![first];
        batch.extend((1..count).map_while(|_| receiver.try_recv().ok()));
        self.meter.left(batch.len() as u64);
        batch
    }

    /// Waits for at least one item and takes up to `limit` queued items; empty when closed.
    pub fn receive_batch(&self, limit: usize) -> Vec<T> {
        let mut batch = Vec::new();
        let mut receiver = self.receiver.lock();
        let count = receiver.blocking_recv_many(&mut batch, limit);
        self.meter.left(count as u64);
        batch
    }
}

/// The result of [`Inlet::receive_within`].
#[derive(Debug)]
pub enum Received<T> {
    Item(T),
    Nothing,
    /// The channel is closed and empty.
    Closed,
}

/// The time between two polls of [`Inlet::receive_within`].
const POLL_DELAY: Duration = Duration::from_millis(20);

/// Creates a bounded channel with its meter.
pub fn channel<T>(
    name: &'static str,
    capacity: usize,
    observer: &Observer,
) -> (Outlet<T>, Inlet<T>) {
    let (sender, receiver) = mpsc::channel(capacity);
    let meter = observer.channel(name);
    let receiver = Arc::new(Mutex::new(receiver));
    meter.opened();
    let open = Arc::new(OpenInlet(Arc::clone(&meter)));
    (Outlet { sender, meter: Arc::clone(&meter) }, Inlet { receiver, meter, open })
}

/// The state that all stages share. Dropping the last clone lets dispose's channel close.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Cancelled by a forced stop: every stage drops its items from then on.
    pub cut: CancellationToken,
    /// Dispose's channel, for failed jobs.
    pub failed: Outlet<DisposeRequest>,
    pub panics: Panics,
}

/// The number of caught panics. Clones share one counter.
#[derive(Clone, Debug, Default)]
pub struct Panics(Arc<AtomicU64>);

impl Panics {
    /// Runs `work` and catches its panic (S3); `None` after one. The unwinding drops everything that
    /// `work` owned, and the jobs' tickets report that.
    pub fn guard<M>(&self, work: impl FnOnce() -> M) -> Option<M> {
        let result = catch_unwind(AssertUnwindSafe(work)).ok();
        if result.is_none() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a stage passes its items to the next one.
pub enum Handoff<T> {
    /// Takes up to [`limits::HANDOFF_FILES_MAX`] queued items and sends their results together: under
    /// load the next stage is woken once for many items, and a single item is sent at once. The
    /// `threads` of the stage leave each other their share.
    Together { threads: usize },
    /// Like `Together`, but works on all items at once first.
    Prepared {
        prepare: fn(&mut [T]),
        /// Sends the finished results before an item for which this is true: the work on it may wait for
        /// permits that those results hold.
        may_wait: Box<dyn Fn(&T) -> bool + Send>,
    },
    /// Sends each result before it takes the next item: for a stage that works on one for long.
    Singly,
}

impl<T> std::fmt::Debug for Handoff<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Together { .. } => "Together",
            Self::Prepared { .. } => "Prepared",
            Self::Singly => "Singly",
        })
    }
}

impl<T> Handoff<T> {
    const fn batch_limit(&self) -> usize {
        match self {
            Self::Together { .. } | Self::Prepared { .. } => limits::HANDOFF_FILES_MAX,
            Self::Singly => 1,
        }
    }

    const fn threads(&self) -> usize {
        match self {
            Self::Together { threads } => *threads,
            Self::Prepared { .. } | Self::Singly => 1,
        }
    }

    fn must_send_before(&self, item: &T) -> bool {
        match self {
            Self::Prepared { may_wait, .. } => may_wait(item),
            Self::Together { .. } | Self::Singly => false,
        }
    }
}

/// Takes items until the channel closes, works on each, and sends the results.
pub fn run<T: Item, M>(
    shared: &Shared,
    inlet: &Inlet<T>,
    handoff: &Handoff<T>,
    mut work: impl FnMut(T) -> Result<M, Box<FailedJob>>,
    mut send: impl FnMut(M),
) {
    loop {
        let mut batch = inlet.receive_share(handoff.batch_limit(), handoff.threads());
        if batch.is_empty() {
            return;
        }
        if let Handoff::Prepared { prepare, .. } = handoff
            && !shared.cut.is_cancelled()
        {
            shared.panics.guard(|| prepare(&mut batch));
        }
        let mut results = Vec::with_capacity(batch.len());
        for item in batch {
            if shared.cut.is_cancelled() || item.job().is_recalled() {
                drop(item);
                continue;
            }
            if handoff.must_send_before(&item) {
                results.drain(..).for_each(&mut send);
            }
            match shared.panics.guard(|| work(item)) {
                Some(Ok(result)) => results.push(result),
                Some(Err(failed)) => shared.failed.send(DisposeRequest::Failed(*failed)),
                None => {}
            }
        }
        results.drain(..).for_each(&mut send);
    }
}

/// Wraps `work` so that its time is recorded as this stage's. The time of sending does not count:
/// a send may wait, and the channel's meter counts that.
pub fn timed<T: Item, M>(
    stage: Stage,
    mut work: impl FnMut(T, &mut Clock) -> M,
) -> impl FnMut(T) -> M {
    move |item| {
        let job = item.job();
        job.meter.stage_started(stage);
        let (meter, trace) = (Arc::clone(&job.context.meter), job.trace.clone());
        trace.stage_started(stage);
        let mut clock = Clock::start(&meter, stage);
        let result = work(item, &mut clock);
        clock.stop(1);
        trace.stage_finished(stage);
        result
    }
}
