//! The check for stalls, and systemd's watchdog: it is notified only while the service makes progress,
//! so that systemd restarts a stalled service (`WatchdogSec=` in `systemd.service(5)`).

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use tidemill_lifecycle::{Lifecycle, Phase};

use super::{error::LIMIT, manager::ServiceManager};
use crate::{
    limits,
    observe::{Liveness, Observer},
};

/// Checks the liveness of every pipeline while the service runs. `/readyz` reports each stalled one.
/// When all are stalled, so is the service: `/livez` reports it, and systemd's watchdog, which, if
/// enabled, is notified at half its timeout, is no longer notified. A running task proves
/// that the runtime works; before and after READY nothing else is checked, because recovery and the
/// drain have their own limits.
pub fn spawn(life: &mut Lifecycle, observer: &Arc<Observer>, manager: &ServiceManager) {
    let watchdog = sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero());
    let (timeout, is_enabled) = (watchdog.unwrap_or(limits::WATCHDOG_INTERVAL), watchdog.is_some());
    let (observer, phase) = (Arc::clone(observer), life.handle().phase());
    let manager = manager.clone();
    life.spawn("watchdog", LIMIT, move |stop| async move {
        let mut monitor = ProgressMonitor::new(timeout);
        let mut every = tokio::time::interval(timeout / 2);
        let mut was_running = true;
        loop {
            tokio::select! {
                () = stop.stopped() => return Ok::<_, Infallible>(()),
                _ = every.tick() => {}
            }
            let is_ready = *phase.borrow() == Phase::Ready;
            let (pipelines, now) = (observer.liveness(), Instant::now());
            let stalled = monitor.stalled(&pipelines, now);
            let reason = (is_ready && !stalled.is_empty()).then(|| stalled.join("; "));
            // A restart would disturb the others, and may not end a thread in an uninterruptible call.
            let stall = reason.clone().filter(|_| stalled.len() == pipelines.len());
            observer.set_stall(stall.clone(), reason);
            match &stall {
                None if is_enabled => {
                    manager.refresh(&sd_notify::NotifyState::Watchdog);
                }
                Some(reason) if was_running && is_enabled => {
                    tracing::error!(
                        event = "service.stalled",
                        reason,
                        "watchdog not notified, service stalled"
                    );
                }
                Some(reason) if was_running => {
                    tracing::error!(event = "service.stalled", reason, "service stalled");
                }
                _ => {}
            }
            if stall.is_none() && !was_running {
                tracing::info!(event = "service.recovered", "service recovered from a stall");
            }
            was_running = stall.is_none();
        }
    });
}

/// Remembers the last progress of each pipeline.
#[derive(Debug)]
struct ProgressMonitor {
    /// Time without progress that counts as a stall. Generous: a restart does not help a slow disk.
    bound: Duration,
    /// The progress counter at the last check that found progress or nothing to do, and its time.
    progress: HashMap<String, (u64, Instant)>,
}

impl ProgressMonitor {
    fn new(timeout: Duration) -> Self {
        let bound = timeout
            .saturating_mul(limits::WATCHDOG_STALL_FACTOR)
            .max(limits::HEARTBEAT_INTERVAL * 3);
        Self { bound, progress: HashMap::new() }
    }

    /// Returns a reason for each stalled pipeline.
    fn stalled(&mut self, pipelines: &[Liveness], now: Instant) -> Vec<String> {
        self.progress.retain(|name, _| pipelines.iter().any(|pipeline| pipeline.name == *name));
        pipelines.iter().filter_map(|pipeline| self.stall(pipeline, now)).collect()
    }

    fn stall(&mut self, pipeline: &Liveness, now: Instant) -> Option<String> {
        let Liveness { name, silent, progress, in_flight, is_paused } = pipeline;
        let last = self.progress.entry(name.clone()).or_insert((*progress, now));
        // Files of a paused pipeline may have to wait for unavailable storage.
        if *in_flight == 0 || *is_paused || last.0 != *progress {
            *last = (*progress, now);
        }
        if *silent > self.bound {
            let seconds = silent.as_secs();
            return Some(format!("pipeline {name}: no heartbeat of its intake for {seconds} s"));
        }
        let stalled = now.saturating_duration_since(last.1);
        let seconds = stalled.as_secs();
        (stalled > self.bound).then(|| {
            format!("pipeline {name}: {in_flight} files in flight, no progress for {seconds} s")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn idle() -> Liveness {
        let silent = limits::HEARTBEAT_INTERVAL;
        Liveness { name: "main".to_owned(), silent, progress: 1, in_flight: 0, is_paused: false }
    }

    /// Returns a monitor after its first check, and a time after the bound.
    fn checked_once(pipelines: &[Liveness]) -> (ProgressMonitor, Instant) {
        let now = Instant::now();
        let mut monitor = ProgressMonitor::new(TIMEOUT);
        assert!(monitor.stalled(pipelines, now).is_empty());
        (monitor, now + TIMEOUT * limits::WATCHDOG_STALL_FACTOR + Duration::from_secs(1))
    }

    #[test]
    fn an_idle_pipeline_is_never_stalled() {
        let (mut monitor, late) = checked_once(&[idle()]);
        assert!(monitor.stalled(&[idle()], late + TIMEOUT * 1000).is_empty());
    }

    #[test]
    fn files_in_flight_without_progress_are_a_stall_until_they_progress() {
        let busy = Liveness { in_flight: 3, ..idle() };
        let (mut monitor, late) = checked_once(std::slice::from_ref(&busy));
        let soon = Instant::now() + TIMEOUT;
        assert!(monitor.stalled(std::slice::from_ref(&busy), soon).is_empty());
        let reasons = monitor.stalled(std::slice::from_ref(&busy), late);
        assert_eq!(reasons, ["pipeline main: 3 files in flight, no progress for 301 s"]);
        let moved = Liveness { progress: 2, ..busy };
        assert!(monitor.stalled(&[moved], late).is_empty());
    }

    #[test]
    fn each_pipeline_is_judged_by_its_own_progress() {
        let hangs = Liveness { in_flight: 3, ..idle() };
        let other =
            |progress| Liveness { name: "other".to_owned(), progress, in_flight: 1, ..idle() };
        let (mut monitor, late) = checked_once(&[hangs.clone(), other(1)]);
        let reasons = monitor.stalled(&[hangs.clone(), other(2)], late);
        assert_eq!(reasons, ["pipeline main: 3 files in flight, no progress for 301 s"]);
        assert_eq!(
            monitor
                .stalled(&[hangs, other(2)], late + TIMEOUT * limits::WATCHDOG_STALL_FACTOR * 2)
                .len(),
            2
        );
    }

    #[test]
    fn files_that_wait_for_unavailable_storage_are_no_stall() {
        let paused = Liveness { in_flight: 3, is_paused: true, ..idle() };
        let (mut monitor, late) = checked_once(std::slice::from_ref(&paused));
        assert!(monitor.stalled(&[paused], late).is_empty());
    }

    #[test]
    fn an_intake_without_a_heartbeat_is_a_stall_of_its_pipeline() {
        let (mut monitor, late) = checked_once(&[idle()]);
        let silent = Liveness { silent: Duration::from_secs(400), ..idle() };
        let other = Liveness { name: "other".to_owned(), ..idle() };
        let reasons = monitor.stalled(&[other, silent], late);
        assert_eq!(reasons, ["pipeline main: no heartbeat of its intake for 400 s"]);
    }
}
