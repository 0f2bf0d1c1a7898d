//! The windows in which an intake takes files (`window`). Outside of them it holds as it does while an operator
//! pauses it; files in flight are finished.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    config::{WindowState, Windows, Zone},
    limits,
    pipeline::context::Context,
};

/// The windows of one intake, with their latest state. `--once` has none: who runs it decides when.
#[derive(Debug)]
pub(super) struct WindowGate {
    windows: Option<(Windows, Zone)>,
    is_closed: bool,
    /// The time of the latest look at the clock, and of the next change.
    looked_at: Timestamp,
    until: Timestamp,
}

impl WindowGate {
    pub fn new(context: &Context, once: bool) -> Self {
        let keys = &context.config.keys;
        let windows = keys.window.clone().filter(|_| !once);
        // An intake before this one may have been outside its windows.
        context.meter.paused_by_window(None);
        Self {
            windows: windows.map(|windows| (windows, keys.time_zone.clone())),
            is_closed: false,
            looked_at: Timestamp::MIN,
            until: Timestamp::MIN,
        }
    }

    /// Checks whether all windows are closed now.
    pub fn is_closed(&mut self, context: &Context) -> bool {
        self.look(context);
        self.is_closed
    }

    /// Looks at the clock, and logs a change.
    pub fn look(&mut self, context: &Context) {
        let Some((windows, zone)) = &self.windows else { return };
        let now = Timestamp::now();
        // The clock may have been set back.
        if now >= self.looked_at && now < self.until {
            return;
        }
        self.looked_at = now;
        let reason = match windows.at(now, zone) {
            WindowState::Open { until } => {
                self.until = until;
                None
            }
            WindowState::Closed { opens } => {
                self.until = opens;
                Some(format!("window opens {}", zone.clock(opens, now)))
            }
        };
        let was_closed = std::mem::replace(&mut self.is_closed, reason.is_some());
        context.meter.paused_by_window(reason.as_deref());
        match reason {
            Some(reason) if !was_closed => {
                tracing::info!(event = "intake.paused", pipeline = %context.name(), reason, "outside the window, intake paused");
            }
            None if was_closed => {
                tracing::info!(event = "intake.resumed", pipeline = %context.name(), "window open, intake resumed");
            }
            _ => {}
        }
    }

    /// Returns the longest time until another look at the clock.
    pub fn wait(&self) -> Option<Duration> {
        self.windows.as_ref()?;
        let left = self.until.duration_since(Timestamp::now());
        let left = Duration::try_from(left).unwrap_or(Duration::ZERO);
        Some(left.clamp(limits::WINDOW_CHECK_MIN, limits::POLL_INTERVAL))
    }
}
