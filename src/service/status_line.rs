//! The line that `systemctl status` shows (`STATUS=` in `sd_notify(3)`).

use std::{convert::Infallible, sync::Arc, time::Instant};

use sd_notify::NotifyState;
use tidemill_lifecycle::Lifecycle;

use super::{error::LIMIT, manager::ServiceManager};
use crate::{
    limits,
    observe::{Observer, Status, Totals},
};

/// Sends the line to the service manager, if there is one, each time that it changes.
pub fn spawn(life: &mut Lifecycle, observer: &Arc<Observer>, manager: &ServiceManager) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let (observer, manager) = (Arc::clone(observer), manager.clone());
    life.spawn("status line", LIMIT, |stop| async move {
        let mut every = tokio::time::interval(limits::STATUS_LINE_INTERVAL);
        let (mut before, mut then, mut sent) = (Totals::default(), Instant::now(), String::new());
        loop {
            tokio::select! {
                () = stop.stopped() => return Ok::<_, Infallible>(()),
                _ = every.tick() => {}
            }
            let (status, now) = (observer.status(), Instant::now());
            if status.drain.is_some() {
                // The drain sends its own.
                continue;
            }
            let totals = status.totals();
            let seconds = now.duration_since(then).as_secs_f64();
            let line = line(&status, totals.ended.saturating_sub(before.ended), seconds);
            (before, then) = (totals, now);
            if line == sent {
                continue;
            }
            if manager.refresh(&NotifyState::Status(&line)) {
                sent = line;
            }
        }
    });
}

/// One line, without control characters: a line break would begin another assignment.
fn line(status: &Status, ended: u64, seconds: f64) -> String {
    let Totals { in_flight, quarantined, .. } = status.totals();
    let line = if let Some(reason) = status.not_ready() {
        format!("Not ready: {reason}")
    } else {
        #[expect(clippy::cast_precision_loss, reason = "a pace for people")]
        let pace = if seconds > 0.0 { ended as f64 / seconds } else { 0.0 };
        let mut line = format!("{pace:.0} files/s, {in_flight} in flight");
        if quarantined > 0 {
            line += &format!(", {quarantined} quarantined since the start");
        }
        line
    };
    line.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::ProcessPhase;

    fn ready() -> Status {
        let observer = Observer::new(&[Arc::from("main")], &[]);
        observer.set_phase(ProcessPhase::Ready);
        observer.status()
    }

    #[test]
    fn the_line_has_the_pace_or_the_reason() {
        let mut status = ready();
        assert_eq!(line(&status, 636, 2.0), "318 files/s, 0 in flight");
        assert_eq!(line(&status, 0, 0.0), "0 files/s, 0 in flight");
        status.phase = ProcessPhase::Starting;
        assert_eq!(line(&status, 0, 2.0), "Not ready: phase STARTING");
    }
}
