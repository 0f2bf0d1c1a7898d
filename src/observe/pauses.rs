//! The pauses of one pipeline's intake: by the operator, by its window, and by storage.

use metrics::Gauge;

use super::status::{PauseReason, PauseStatus};
use crate::sync::Mutex;

/// Side of a pipeline whose storage is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// The input is unavailable.
    Input,
    /// Storage on the output's side failed.
    Output,
}

/// Reasons of a pause by storage, one for each side: one may be available again before the other.
#[derive(Debug, Default)]
struct StorageReasons {
    input: Option<String>,
    output: Option<String>,
    /// The start of the pause; none while both sides are available.
    since: Option<jiff::Timestamp>,
}

impl StorageReasons {
    /// Joins the reasons.
    fn text(&self) -> Option<String> {
        let reasons: Vec<&str> =
            [&self.input, &self.output].into_iter().flatten().map(String::as_str).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// The pauses in effect, each with its gauge.
#[derive(Debug)]
pub struct PauseMeter {
    storage: (Gauge, Mutex<StorageReasons>),
    /// When an operator paused the intake; none while it is not.
    operator: (Gauge, Mutex<Option<jiff::Timestamp>>),
    /// When its window closed, and when the next one opens; none while it is open.
    window: (Gauge, Mutex<Option<(jiff::Timestamp, String)>>),
}

impl PauseMeter {
    /// Creates the meter with the gauge of each reason, and exports all as 0.
    pub fn new(gauge: impl Fn(PauseReason) -> Gauge) -> Self {
        let zero = |reason| {
            let gauge = gauge(reason);
            gauge.set(0.0);
            gauge
        };
        Self {
            storage: (zero(PauseReason::Storage), Mutex::default()),
            operator: (zero(PauseReason::Operator), Mutex::default()),
            window: (zero(PauseReason::Window), Mutex::default()),
        }
    }

    /// Sets the reason of a pause by storage on this side, or clears it.
    pub fn set_storage(&self, side: Pause, reason: Option<&str>) {
        let mut reasons = self.storage.1.lock();
        let side_reason = match side {
            Pause::Input => &mut reasons.input,
            Pause::Output => &mut reasons.output,
        };
        *side_reason = reason.map(str::to_owned);
        let is_paused = reasons.text().is_some();
        reasons.since = is_paused.then(|| reasons.since.unwrap_or_else(jiff::Timestamp::now));
        self.storage.0.set(if is_paused { 1.0 } else { 0.0 });
    }

    pub fn set_operator(&self, is_paused: bool) {
        self.operator.0.set(if is_paused { 1.0 } else { 0.0 });
        *self.operator.1.lock() = is_paused.then(jiff::Timestamp::now);
    }

    /// Sets when the next window opens, or clears it: one is open.
    pub fn set_window(&self, opens: Option<&str>) {
        self.window.0.set(if opens.is_some() { 1.0 } else { 0.0 });
        let mut window = self.window.1.lock();
        let since = window.as_ref().map_or_else(jiff::Timestamp::now, |(since, _)| *since);
        *window = opens.map(|opens| (since, opens.to_owned()));
    }

    pub fn storage(&self) -> Option<PauseStatus> {
        let reasons = self.storage.1.lock();
        Some(pause(PauseReason::Storage, reasons.since?, reasons.text()))
    }

    pub fn operator(&self) -> Option<PauseStatus> {
        let since = *self.operator.1.lock();
        Some(pause(PauseReason::Operator, since?, None))
    }

    fn window(&self) -> Option<PauseStatus> {
        let window = self.window.1.lock().clone();
        window.map(|(since, opens)| pause(PauseReason::Window, since, Some(opens)))
    }

    /// Returns the pauses in effect, the operator's first.
    pub fn all(&self) -> Vec<PauseStatus> {
        [self.operator(), self.storage(), self.window()].into_iter().flatten().collect()
    }
}

fn pause(reason: PauseReason, since: jiff::Timestamp, detail: Option<String>) -> PauseStatus {
    PauseStatus { reason, since: format!("{since:.0}"), detail }
}
