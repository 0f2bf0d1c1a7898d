//! The heartbeat of a thread that runs one future: one beat at each poll. A timer polls at regular
//! intervals, whatever the future waits for. A thread that is stuck in a call sends no heartbeat.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::FutureExt;
use tokio::time::{Interval, interval};

use crate::{limits, observe::PipelineMeter};

/// Runs `work` to its end with a heartbeat. Needs a runtime's timer.
pub async fn with_heartbeat<T>(meter: Arc<PipelineMeter>, work: impl Future<Output = T>) -> T {
    let mut heartbeat =
        WithHeartbeat { meter, ticks: interval(limits::HEARTBEAT_INTERVAL), work: pin!(work) };
    (&mut heartbeat).await
}

struct WithHeartbeat<'a, F> {
    meter: Arc<PipelineMeter>,
    ticks: Interval,
    work: Pin<&'a mut F>,
}

impl<F: Future> Future for WithHeartbeat<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.meter.beat();
        while self.ticks.poll_tick(context).is_ready() {}
        self.work.poll_unpin(context)
    }
}
