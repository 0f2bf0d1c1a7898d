//! The watch on progress, and systemd's watchdog, which is fed only while the service makes progress, so that one that is stuck is
//! started anew. (`WatchdogSec=` in `systemd.service(5)`.)

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

/// Looks at the signs of life for as long as the service runs: what `/livez` and `/readyz` say of a
/// standstill comes from here, and systemd's watchdog, where it asks for it, is fed at half its time.
/// That the runtime answers is shown by this task's being run; before and after READY no more is
/// asked, because recovery and the drain have bounds of their own.
pub fn spawn(life: &mut Lifecycle, observer: &Arc<Observer>) {
    let asked = sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero());
    let (timeout, is_asked) = (asked.unwrap_or(limits::WATCHDOG_INTERVAL), asked.is_some());
    let (observer, phase) = (Arc::clone(observer), life.handle().phase());
    life.spawn("watchdog", LIMIT, move |stop| async move {
        let mut judge = ProgressMonitor::new(timeout, Instant::now());
        let mut every = tokio::time::interval(timeout / 2);
        let mut was_well = true;
        loop {
            tokio::select! {
                () = stop.stopped() => return Ok::<_, Infallible>(()),
                _ = every.tick() => {}
            }
            let is_ready = *phase.borrow() == Phase::Ready;
            let (signs, now) = (observer.signs(), Instant::now());
            let stuck = judge.stuck(&signs, now).filter(|_| is_ready);
            let part = judge.still(&signs, now).filter(|_| is_ready);
            observer.stands_still(stuck.clone(), part);
            match &stuck {
                // A manager that does not take messages must not hold up the runtime.
                None if is_asked => tokio::select! {
                    () = stop.stopped() => return Ok(()),
                    () = blocking(|| notify(&[sd_notify::NotifyState::Watchdog])) => {}
                },
                Some(why) if was_well && is_asked => {
                    tracing::error!(
                        event = "service.stalled",
                        reason = why,
                        "watchdog not notified, service stalled"
                    );
                }
                Some(why) if was_well => {
                    tracing::error!(event = "service.stalled", reason = why, "service stalled");
                }
                _ => {}
            }
            if stuck.is_none() && !was_well {
                let word = if is_asked {
                    "watchdog notified again"
                } else {
                    "service recovered from a stall"
                };
                tracing::info!(event = "service.recovered", "{word}");
            }
            was_well = stuck.is_none();
        }
    });
}

/// Remembers when something moved last.
#[derive(Debug)]
struct ProgressMonitor {
    /// Generous: a slow disk is no reason to start anew, and a start would not make it faster.
    bound: Duration,
    movement: u64,
    moved_at: Instant,
    /// The same for each pipeline.
    each: HashMap<String, (u64, Instant)>,
}

impl ProgressMonitor {
    fn new(timeout: Duration, now: Instant) -> Self {
        let bound = timeout
            .saturating_mul(limits::WATCHDOG_STALL_FACTOR)
            .max(limits::HEARTBEAT_INTERVAL * 3);
        Self { bound, movement: 0, moved_at: now, each: HashMap::new() }
    }

    /// Why the service is stuck, if it is.
    fn stuck(&mut self, signs: &[Liveness], now: Instant) -> Option<String> {
        let movement = signs.iter().map(|signs| signs.movement).sum();
        // The files of a sick place may have to wait for it.
        let waiting = signs.iter().filter(|signs| signs.in_work > 0 && !signs.is_paused);
        let files: u64 = waiting.map(|signs| signs.in_work).sum();
        if files == 0 || movement != self.movement {
            (self.movement, self.moved_at) = (movement, now);
        }
        if let Some(silent) = signs.iter().find(|signs| signs.silent > self.bound) {
            let (name, seconds) = (&silent.name, silent.silent.as_secs());
            return Some(format!("the intake of {name} has not turned for {seconds} s"));
        }
        let still = now.saturating_duration_since(self.moved_at);
        (still > self.bound).then(|| {
            format!("{files} files are in work and nothing moved for {} s", still.as_secs())
        })
    }

    /// Why a pipeline stands still, if one does, be it that others get on. A new start would disturb
    /// those, and is asked for by [`Self::stuck`] alone.
    fn still(&mut self, signs: &[Liveness], now: Instant) -> Option<String> {
        let mut first = None;
        for Liveness { name, movement, in_work, is_paused, .. } in signs {
            let seen = self.each.entry(name.clone()).or_insert((*movement, now));
            if *in_work == 0 || *is_paused || seen.0 != *movement {
                *seen = (*movement, now);
            }
            let still = now.saturating_duration_since(seen.1);
            if still > self.bound && first.is_none() {
                let seconds = still.as_secs();
                first = Some(format!(
                    "pipeline {name}: {in_work} files are in work and nothing moved for {seconds} s"
                ));
            }
        }
        self.each.retain(|name, _| signs.iter().any(|signs| signs.name == *name));
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn well() -> Liveness {
        let silent = limits::HEARTBEAT_INTERVAL;
        Liveness { name: "main".to_owned(), silent, movement: 1, in_work: 0, is_paused: false }
    }

    /// A judge that has looked once, and the time after which it loses patience.
    fn judge(signs: &Liveness) -> (ProgressMonitor, Instant) {
        let now = Instant::now();
        let mut judge = ProgressMonitor::new(TIMEOUT, now);
        assert_eq!(judge.stuck(std::slice::from_ref(signs), now), None);
        (judge, now + TIMEOUT * limits::WATCHDOG_STALL_FACTOR + Duration::from_secs(1))
    }

    #[test]
    fn who_has_nothing_to_do_is_well_for_ever() {
        let (mut judge, late) = judge(&well());
        assert_eq!(judge.stuck(&[well()], late + TIMEOUT * 1000), None);
    }

    #[test]
    fn files_in_work_that_do_not_move_are_stuck_until_they_do() {
        let busy = Liveness { in_work: 3, ..well() };
        let (mut judge, late) = judge(&busy);
        let soon = Instant::now() + TIMEOUT;
        assert_eq!(judge.stuck(std::slice::from_ref(&busy), soon), None);
        let why = judge.stuck(std::slice::from_ref(&busy), late);
        assert_eq!(why.as_deref(), Some("3 files are in work and nothing moved for 301 s"));
        let moved = Liveness { movement: 2, ..busy };
        assert_eq!(judge.stuck(&[moved], late), None);
    }

    #[test]
    fn a_pipeline_that_stands_still_is_named_though_another_one_gets_on() {
        let (mut judge, late) = judge(&well());
        let hangs = Liveness { in_work: 3, ..well() };
        let gets_on =
            |movement| Liveness { name: "other".to_owned(), movement, in_work: 1, ..well() };
        let soon = Instant::now();
        assert_eq!(judge.still(&[hangs.clone(), gets_on(1)], soon), None);
        let both = [hangs, gets_on(2)];
        assert_eq!(judge.stuck(&both, late), None);
        let why = judge.still(&both, late + Duration::from_secs(1));
        let wanted = "pipeline main: 3 files are in work and nothing moved for 30";
        assert!(why.as_ref().is_some_and(|why| why.starts_with(wanted)), "{why:?}");
    }

    #[test]
    fn files_that_wait_for_a_sick_place_are_not_stuck() {
        let paused = Liveness { in_work: 3, is_paused: true, ..well() };
        let (mut judge, late) = judge(&paused);
        assert_eq!(judge.stuck(&[paused], late), None);
    }

    #[test]
    fn an_intake_that_does_not_turn_is_stuck() {
        let (mut judge, late) = judge(&well());
        let silent = Liveness { silent: Duration::from_secs(400), ..well() };
        let why = judge.stuck(&[well(), silent], late);
        assert_eq!(why.as_deref(), Some("the intake of main has not turned for 400 s"));
    }
}
