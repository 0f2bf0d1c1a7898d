//! The service manager's watchdog (`sd_watchdog_enabled(3)`): it is told that the service lives while
//! something moves, or nothing is in work. Once it is told no more, the manager kills and restarts.

use std::{convert::Infallible, sync::Arc, time::Duration};

use super::{beside::notify, hooks::LIMIT};
use crate::{lifecycle::Lifecycle, observe::Observer};

/// Looks in the time in which the manager wants to hear once: the last two may tell nothing.
const LOOKS: u32 = 4;

/// Starts it, where the manager asks for it.
pub fn start(life: &mut Lifecycle, observer: &Arc<Observer>) {
    let Some(within) = sd_notify::watchdog_enabled() else { return };
    let observer = Arc::clone(observer);
    // A timer of no length would be a fault of whoever started the service.
    let between = (within / LOOKS).max(Duration::from_millis(1));
    life.spawn("watchdog", LIMIT, move |stop| async move {
        let mut every = tokio::time::interval(between);
        let mut moved = None;
        while !stop.is_set() {
            tokio::select! {
                () = stop.stopped() => {}
                _ = every.tick() => {
                    let now = observer.moved();
                    if is_alive(moved, now, observer.status().totals().in_work) {
                        notify(&[sd_notify::NotifyState::Watchdog]);
                    }
                    moved = Some(now);
                }
            }
        }
        Ok::<_, Infallible>(())
    });
}

/// Whether it may be told that the service lives: what moved before, and what has moved now.
fn is_alive(before: Option<u64>, now: u64, in_work: u64) -> bool {
    in_work == 0 || before != Some(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_lives_while_something_moves_or_nothing_is_in_work() {
        assert!(is_alive(None, 0, 5), "the first look knows of no stillness");
        assert!(is_alive(Some(7), 8, 5));
        assert!(is_alive(Some(7), 7, 0));
        assert!(!is_alive(Some(7), 7, 1), "a file in work, and nothing moved");
    }
}
