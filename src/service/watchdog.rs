//! Feeding systemd's watchdog: only while the service makes progress, so that one that is stuck is
//! started anew. (`WatchdogSec=` in `systemd.service(5)`.)

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    beside::notify,
    hooks::{LIMIT, blocking},
};
use crate::{
    lifecycle::{Lifecycle, Phase},
    limits,
    observe::{Observer, Signs},
};

/// Feeds it at half its time, where systemd asks for it. That the runtime answers is shown by this
/// task's being run; before and after READY no more is asked, because recovery and the drain have
/// bounds of their own.
pub fn spawn(life: &mut Lifecycle, observer: &Arc<Observer>) {
    let Some(timeout) = sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero()) else {
        return;
    };
    let (observer, phase) = (Arc::clone(observer), life.handle().phase());
    life.spawn("watchdog", LIMIT, move |stop| async move {
        let mut judge = Judge::new(timeout, Instant::now());
        let mut every = tokio::time::interval(timeout / 2);
        let mut was_well = true;
        loop {
            tokio::select! {
                () = stop.stopped() => return Ok::<_, Infallible>(()),
                _ = every.tick() => {}
            }
            let is_ready = *phase.borrow() == Phase::Ready;
            let stuck = judge.stuck(&observer.signs(), Instant::now()).filter(|_| is_ready);
            match &stuck {
                // A manager that does not take messages must not hold up the runtime.
                None => tokio::select! {
                    () = stop.stopped() => return Ok(()),
                    () = blocking(|| notify(&[sd_notify::NotifyState::Watchdog])) => {}
                },
                Some(why) if was_well => tracing::error!("the watchdog is not fed: {why}"),
                Some(_) => {}
            }
            if stuck.is_none() && !was_well {
                tracing::info!("the watchdog is fed again");
            }
            was_well = stuck.is_none();
        }
    });
}

/// Remembers when something moved last.
#[derive(Debug)]
struct Judge {
    /// Generous: a slow disk is no reason to start anew, and a start would not make it faster.
    bound: Duration,
    movement: u64,
    moved_at: Instant,
}

impl Judge {
    fn new(timeout: Duration, now: Instant) -> Self {
        let bound = timeout.saturating_mul(limits::STUCK).max(limits::HEARTBEAT * 3);
        Self { bound, movement: 0, moved_at: now }
    }

    /// Why the service is stuck, if it is.
    fn stuck(&mut self, signs: &[Signs], now: Instant) -> Option<String> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn well() -> Signs {
        let silent = limits::HEARTBEAT;
        Signs { name: "main".to_owned(), silent, movement: 1, in_work: 0, is_paused: false }
    }

    /// A judge that has looked once, and the time after which it loses patience.
    fn judge(signs: &Signs) -> (Judge, Instant) {
        let now = Instant::now();
        let mut judge = Judge::new(TIMEOUT, now);
        assert_eq!(judge.stuck(std::slice::from_ref(signs), now), None);
        (judge, now + TIMEOUT * limits::STUCK + Duration::from_secs(1))
    }

    #[test]
    fn who_has_nothing_to_do_is_well_for_ever() {
        let (mut judge, late) = judge(&well());
        assert_eq!(judge.stuck(&[well()], late + TIMEOUT * 1000), None);
    }

    #[test]
    fn files_in_work_that_do_not_move_are_stuck_until_they_do() {
        let busy = Signs { in_work: 3, ..well() };
        let (mut judge, late) = judge(&busy);
        let soon = Instant::now() + TIMEOUT;
        assert_eq!(judge.stuck(std::slice::from_ref(&busy), soon), None);
        let why = judge.stuck(std::slice::from_ref(&busy), late);
        assert_eq!(why.as_deref(), Some("3 files are in work and nothing moved for 301 s"));
        let moved = Signs { movement: 2, ..busy };
        assert_eq!(judge.stuck(&[moved], late), None);
    }

    #[test]
    fn files_that_wait_for_a_sick_place_are_not_stuck() {
        let paused = Signs { in_work: 3, is_paused: true, ..well() };
        let (mut judge, late) = judge(&paused);
        assert_eq!(judge.stuck(&[paused], late), None);
    }

    #[test]
    fn an_intake_that_does_not_turn_is_stuck() {
        let (mut judge, late) = judge(&well());
        let silent = Signs { silent: Duration::from_secs(400), ..well() };
        let why = judge.stuck(&[well(), silent], late);
        assert_eq!(why.as_deref(), Some("the intake of main has not turned for 400 s"));
    }
}
