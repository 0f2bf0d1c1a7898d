//! A sign of life from a thread that runs one future: it is given at every poll, and there is a poll
//! now and then, whatever the future waits for. A thread that is stuck in a call gives none.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::FutureExt;
use tokio::time::{Interval, interval};

use crate::{limits, observe::PipelineMeter};

/// Runs `work` to its end. Needs a runtime's timer.
pub async fn beating<T>(meter: Arc<PipelineMeter>, work: impl Future<Output = T>) -> T {
    let mut beating =
        Beating { meter, ticks: interval(limits::HEARTBEAT_INTERVAL), work: pin!(work) };
    (&mut beating).await
}

struct Beating<'a, F> {
    meter: Arc<PipelineMeter>,
    ticks: Interval,
    work: Pin<&'a mut F>,
}

impl<F: Future> Future for Beating<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.meter.beat();
        while self.ticks.poll_tick(context).is_ready() {}
        self.work.poll_unpin(context)
    }
}
