//! The check for stalls, and systemd's watchdog: it is notified only while the service makes progress,
//! so that systemd restarts a stalled service (`WatchdogSec=` in `systemd.service(5)`).

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    error::{LIMIT, blocking},
    tasks::notify,
};
use crate::{
    lifecycle::{Lifecycle, Phase},
    limits,
    observe::{Liveness, Observer},
};

/// Checks the liveness of every pipeline while the service runs. `/livez` and `/readyz` report its
/// stalls, and systemd's watchdog, if enabled, is notified at half its timeout. A running task proves
/// that the runtime works; before and after READY nothing else is checked, because recovery and the
/// drain have their own limits.
pub fn spawn(life: &mut Lifecycle, observer: &Arc<Observer>) {
    let watchdog = sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero());
    let (timeout, is_enabled) = (watchdog.unwrap_or(limits::WATCHDOG_INTERVAL), watchdog.is_some());
    let (observer, phase) = (Arc::clone(observer), life.handle().phase());
    life.spawn("watchdog", LIMIT, move |stop| async move {
        let mut monitor = ProgressMonitor::new(timeout, Instant::now());
        let mut every = tokio::time::interval(timeout / 2);
        let mut was_running = true;
        loop {
            tokio::select! {
                () = stop.stopped() => return Ok::<_, Infallible>(()),
                _ = every.tick() => {}
            }
            let is_ready = *phase.borrow() == Phase::Ready;
            let (pipelines, now) = (observer.liveness(), Instant::now());
            let stall = monitor.service_stall(&pipelines, now).filter(|_| is_ready);
            let pipeline_stall = monitor.pipeline_stall(&pipelines, now).filter(|_| is_ready);
            observer.set_stall(stall.clone(), pipeline_stall);
            match &stall {
                // A service manager that reads no messages must not block the runtime.
                None if is_enabled => tokio::select! {
                    () = stop.stopped() => return Ok(()),
                    () = blocking(|| notify(&[sd_notify::NotifyState::Watchdog])) => {}
                },
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
                let message = if is_enabled {
                    "watchdog notified again"
                } else {
                    "service recovered from a stall"
                };
                tracing::info!(event = "service.recovered", "{message}");
            }
            was_running = stall.is_none();
        }
    });
}

/// Remembers the last progress.
#[derive(Debug)]
struct ProgressMonitor {
    /// Time without progress that counts as a stall. Generous: a restart does not help a slow disk.
    bound: Duration,
    /// Progress counter of all pipelines at the last check.
    progress: u64,
    progressed_at: Instant,
    /// The same for each pipeline.
    pipelines: HashMap<String, (u64, Instant)>,
}

impl ProgressMonitor {
    fn new(timeout: Duration, now: Instant) -> Self {
        let bound = timeout
            .saturating_mul(limits::WATCHDOG_STALL_FACTOR)
            .max(limits::HEARTBEAT_INTERVAL * 3);
        Self { bound, progress: 0, progressed_at: now, pipelines: HashMap::new() }
    }

    /// Returns the reason if the service as a whole is stalled.
    fn service_stall(&mut self, pipelines: &[Liveness], now: Instant) -> Option<String> {
        let progress = pipelines.iter().map(|pipeline| pipeline.progress).sum();
        // Files of a paused pipeline may have to wait for unavailable storage.
        let busy =
            pipelines.iter().filter(|pipeline| pipeline.in_flight > 0 && !pipeline.is_paused);
        let files: u64 = busy.map(|pipeline| pipeline.in_flight).sum();
        if files == 0 || progress != self.progress {
            (self.progress, self.progressed_at) = (progress, now);
        }
        if let Some(silent) = pipelines.iter().find(|pipeline| pipeline.silent > self.bound) {
            let (name, seconds) = (&silent.name, silent.silent.as_secs());
            return Some(format!("no heartbeat of the intake of {name} for {seconds} s"));
        }
        let stalled = now.saturating_duration_since(self.progressed_at);
        (stalled > self.bound)
            .then(|| format!("{files} files in flight, no progress for {} s", stalled.as_secs()))
    }

    /// Returns the reason if one pipeline is stalled, even if others make progress. A restart would
    /// disturb those, so only [`Self::service_stall`] causes one.
    fn pipeline_stall(&mut self, pipelines: &[Liveness], now: Instant) -> Option<String> {
        let mut first = None;
        for Liveness { name, progress, in_flight, is_paused, .. } in pipelines {
            let last = self.pipelines.entry(name.clone()).or_insert((*progress, now));
            if *in_flight == 0 || *is_paused || last.0 != *progress {
                *last = (*progress, now);
            }
            let stalled = now.saturating_duration_since(last.1);
            if stalled > self.bound && first.is_none() {
                let seconds = stalled.as_secs();
                first = Some(format!(
                    "pipeline {name}: {in_flight} files in flight, no progress for {seconds} s"
                ));
            }
        }
        self.pipelines.retain(|name, _| pipelines.iter().any(|pipeline| pipeline.name == *name));
        first
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
    fn checked_once(pipeline: &Liveness) -> (ProgressMonitor, Instant) {
        let now = Instant::now();
        let mut monitor = ProgressMonitor::new(TIMEOUT, now);
        assert_eq!(monitor.service_stall(std::slice::from_ref(pipeline), now), None);
        (monitor, now + TIMEOUT * limits::WATCHDOG_STALL_FACTOR + Duration::from_secs(1))
    }

    #[test]
    fn an_idle_service_is_never_stalled() {
        let (mut monitor, late) = checked_once(&idle());
        assert_eq!(monitor.service_stall(&[idle()], late + TIMEOUT * 1000), None);
    }

    #[test]
    fn files_in_flight_without_progress_are_a_stall_until_they_progress() {
        let busy = Liveness { in_flight: 3, ..idle() };
        let (mut monitor, late) = checked_once(&busy);
        let soon = Instant::now() + TIMEOUT;
        assert_eq!(monitor.service_stall(std::slice::from_ref(&busy), soon), None);
        let reason = monitor.service_stall(std::slice::from_ref(&busy), late);
        assert_eq!(reason.as_deref(), Some("3 files in flight, no progress for 301 s"));
        let moved = Liveness { progress: 2, ..busy };
        assert_eq!(monitor.service_stall(&[moved], late), None);
    }

    #[test]
    fn a_stalled_pipeline_is_named_though_another_one_progresses() {
        let (mut monitor, late) = checked_once(&idle());
        let hangs = Liveness { in_flight: 3, ..idle() };
        let progressing =
            |progress| Liveness { name: "other".to_owned(), progress, in_flight: 1, ..idle() };
        let soon = Instant::now();
        assert_eq!(monitor.pipeline_stall(&[hangs.clone(), progressing(1)], soon), None);
        let both = [hangs, progressing(2)];
        assert_eq!(monitor.service_stall(&both, late), None);
        let reason = monitor.pipeline_stall(&both, late + Duration::from_secs(1));
        let wanted = "pipeline main: 3 files in flight, no progress for 30";
        assert!(reason.as_ref().is_some_and(|reason| reason.starts_with(wanted)), "{reason:?}");
    }

    #[test]
    fn files_that_wait_for_unavailable_storage_are_no_stall() {
        let paused = Liveness { in_flight: 3, is_paused: true, ..idle() };
        let (mut monitor, late) = checked_once(&paused);
        assert_eq!(monitor.service_stall(&[paused], late), None);
    }

    #[test]
    fn an_intake_without_a_heartbeat_is_a_stall() {
        let (mut monitor, late) = checked_once(&idle());
        let silent = Liveness { silent: Duration::from_secs(400), ..idle() };
        let reason = monitor.service_stall(&[idle(), silent], late);
        assert_eq!(reason.as_deref(), Some("no heartbeat of the intake of main for 400 s"));
    }
}
