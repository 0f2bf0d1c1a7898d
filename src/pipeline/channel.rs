//! The one loop that every stage's threads run: receive, work, send.
//!
//! S1: a stage ends when its input ends, and closing its output is how the next one learns of it.
//! S2: once the stop is cut short, what is received is dropped: its ticket says that it was left.
//! Once the intake is closed, so is what has not begun: a drain lasts as long as what is worked on.
//! S3: a panic ends one job, not the stage.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
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
};

/// The sending end of a channel between two stages. The channel closes when the last one is dropped.
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
    /// Sends, and waits while the channel is full: that is the backpressure. Where the receiver
    /// is gone the item is dropped, and says so by its ticket.
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

    /// Waits for room for so many without an item in hand; `None` where the receiver is gone.
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

/// Room in a channel. Dropping it gives back what was not used.
#[derive(Debug)]
pub struct Slots<'a, T> {
    permits: mpsc::PermitIterator<'a, T>,
    meter: &'a ChannelMeter,
}

impl<T> Slots<'_, T> {
    /// Sends without a wait. Where all the room is used, the item is dropped, and says so by its
    /// ticket.
    pub fn send(&mut self, item: T) {
        if let Some(permit) = self.permits.next() {
            permit.send(item);
            self.meter.entered();
        }
    }
}

/// The receiving end. Clones take from the same channel, each item once.
#[derive(Debug)]
pub struct Inlet<T> {
    receiver: Arc<Mutex<mpsc::Receiver<T>>>,
    meter: Arc<ChannelMeter>,
    open: Arc<OpenInlet>,
}

/// Counts a channel as open until its receiving end and all clones are dropped.
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
        let item = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        if item.is_some() {
            self.meter.left(1);
        }
        item
    }

    /// As [`Self::receive`], for so long at most. It looks from time to time: for who has other work
    /// that waits too.
    pub fn receive_within(&self, limit: Duration) -> Received<T> {
        use mpsc::error::TryRecvError;
        let until = Instant::now() + limit;
        let mut receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match receiver.try_recv() {
                Ok(item) => {
                    self.meter.left(1);
                    return Received::Item(item);
                }
                Err(TryRecvError::Disconnected) => return Received::Closed,
                Err(TryRecvError::Empty) if Instant::now() >= until => return Received::Nothing,
                Err(TryRecvError::Empty) => std::thread::park_timeout(LOOK),
            }
        }
    }

    /// Waits for at least one item and takes what is there, at most `most`; empty when closed.
    pub fn receive_batch(&self, most: usize) -> Vec<T> {
        let mut batch = Vec::new();
        let mut receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        let count = receiver.blocking_recv_many(&mut batch, most);
        self.meter.left(count as u64);
        batch
    }
}

/// What came of waiting for an item for a while.
#[derive(Debug)]
pub enum Received<T> {
    Item(T),
    Nothing,
    /// The channel is closed and empty.
    Closed,
}

/// The time between two looks of [`Inlet::receive_within`].
const LOOK: Duration = Duration::from_millis(20);

/// A bounded channel with its meter.
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

/// What all stages share. Dropping the last one lets the last stage's channel close.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Set when the stop is cut short: no stage works on from then.
    pub cut: CancellationToken,
    /// Where failed jobs go.
    pub failed: Outlet<DisposeRequest>,
    pub panics: Panics,
}

/// Counts the panics caught. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Panics(Arc<AtomicU64>);

impl Panics {
    /// Works behind a wall that stops a panic (S3); `None` where there was one. What `work` owned
    /// was dropped on the way, and the jobs' tickets say so.
    pub fn guard<M>(&self, work: impl FnOnce() -> M) -> Option<M> {
        let made = catch_unwind(AssertUnwindSafe(work)).ok();
        if made.is_none() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        made
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a stage hands its items on.
pub enum Handoff<T> {
    /// What is there is taken together, up to [`limits::HANDOFF_FILES_MAX`], and sent on together: under
    /// load the next stage is woken once for many items, and a single item goes on at once.
    Together,
    /// As `Together`, but what was made is sent on before an item for which this is true: its work
    /// may wait for what the items made before it hold.
    TogetherUntil(Box<dyn Fn(&T) -> bool + Send>),
    /// Each before the next is taken: for a stage that works on one for long.
    Singly,
}

impl<T> std::fmt::Debug for Handoff<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Together => "Together",
            Self::TogetherUntil(_) => "TogetherUntil",
            Self::Singly => "Singly",
        })
    }
}

impl<T> Handoff<T> {
    const fn most(&self) -> usize {
        match self {
            Self::Together | Self::TogetherUntil(_) => limits::HANDOFF_FILES_MAX,
            Self::Singly => 1,
        }
    }

    fn must_send_before(&self, item: &T) -> bool {
        match self {
            Self::TogetherUntil(waits) => waits(item),
            Self::Together | Self::Singly => false,
        }
    }
}

/// Takes items until the channel closes, works on each, and sends on what came of it.
pub fn run<T: Item, M>(
    shared: &Shared,
    inlet: &Inlet<T>,
    handing: &Handoff<T>,
    mut work: impl FnMut(T) -> Result<M, Box<FailedJob>>,
    mut send: impl FnMut(M),
) {
    loop {
        let batch = inlet.receive_batch(handing.most());
        if batch.is_empty() {
            return;
        }
        let mut made = Vec::with_capacity(batch.len());
        for item in batch {
            if shared.cut.is_cancelled() || item.job().is_recalled() {
                drop(item);
                continue;
            }
            if handing.must_send_before(&item) {
                made.drain(..).for_each(&mut send);
            }
            match shared.panics.guard(|| work(item)) {
                Some(Ok(one)) => made.push(one),
                Some(Err(failed)) => shared.failed.send(DisposeRequest::Failed(*failed)),
                None => {}
            }
        }
        made.drain(..).for_each(&mut send);
    }
}

/// Records the time of each piece of work as this stage's. Sending is not in it: it may wait, and
/// that is the channel's time.
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
        let made = work(item, &mut clock);
        clock.stop(1);
        trace.stage_finished(stage);
        made
    }
}
