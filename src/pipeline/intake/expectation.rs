//! The files that should come regularly (`expect`): a pipeline to which none came for that long is overdue,
//! which is reported once, until a file comes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::{limits, observe::display_path, pipeline::context::Context};

/// The wait for the next file of one intake. `--once` has none.
#[derive(Debug)]
pub(super) struct Expectation {
    within: Option<Duration>,
    /// When the latest file came, or the service started that has no record of one.
    since: (Instant, Timestamp),
    /// The earliest time of a report: the first scan may find what came before the start.
    not_before: Instant,
    /// The files that had come by then.
    seen: u64,
    is_overdue: bool,
}

impl Expectation {
    /// Begins the wait, with the time of the pipeline's newest record. Blocks for one read of the ledger.
    pub fn new(context: &Context, once: bool, now: Instant) -> Self {
        let within = context.config.keys.expect.filter(|_| !once);
        context.meter.set_overdue(false);
        // A ledger that cannot be read is reported elsewhere.
        let newest = |_| context.ledger.last_record_ns(context.id).ok().flatten();
        let newest =
            within.and_then(newest).and_then(|ns| Timestamp::from_nanosecond(ns.into()).ok());
        let wall = Timestamp::now();
        let age = newest.map_or(Duration::ZERO, |newest| {
            Duration::try_from(wall.duration_since(newest)).unwrap_or(Duration::ZERO)
        });
        let grace = within.map_or(Duration::ZERO, |within| within.min(limits::EXPECT_GRACE));
        Self {
            within,
            since: (now.checked_sub(age).unwrap_or(now), newest.unwrap_or(wall)),
            not_before: now + grace,
            seen: context.arrivals(),
            is_overdue: false,
        }
    }

    /// Checks whether the pipeline is overdue; a file that is ready or in flight has come. Returns the time of
    /// the next check.
    pub fn check(
        &mut self,
        context: &Arc<Context>,
        has_file: bool,
        now: Instant,
    ) -> Option<Instant> {
        let within = self.within?;
        let arrivals = context.arrivals();
        if arrivals != self.seen {
            self.seen = arrivals;
            self.since = (now, Timestamp::now());
            if std::mem::take(&mut self.is_overdue) {
                context.meter.set_overdue(false);
                tracing::info!(event = "intake.overdue_ended", pipeline = %context.name(), "file came, no longer overdue");
            }
        }
        if self.is_overdue {
            return None;
        }
        let due = (self.since.0 + within).max(self.not_before);
        if now < due {
            return Some(due);
        }
        if has_file {
            return Some(now + limits::POLL_INTERVAL);
        }
        self.is_overdue = true;
        self.report(context, within);
        None
    }

    fn report(&self, context: &Arc<Context>, within: Duration) {
        let (_, last) = self.since;
        let last = format!("{last:.0}");
        context.meter.set_overdue(true);
        let input = display_path(&context.config.input).to_string();
        tracing::warn!(event = "intake.overdue", pipeline = %context.name(), input, last, expect_seconds = within.as_secs_f64(), "no file came in the expected time");
        let line = serde_json::json!({
            "time": Timestamp::now().to_string(),
            "hook": "on_overdue",
            "pipeline": &**context.name(),
            "input": input,
            "last": last,
            "expect_seconds": within.as_secs_f64(),
        });
        let events = Arc::clone(&context.events);
        // The lock is held while lines are synced, for which the intake does not wait.
        drop(tokio::task::spawn_blocking(move || {
            if let Some(events) = events.lock().as_ref() {
                events.notify_overdue(&line.to_string());
            }
        }));
    }
}
