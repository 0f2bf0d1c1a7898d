//! What the unit tests share: a log of events, and resources and tasks that write to it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{CloseOutcome, Lifecycle, Report};

pub(super) const LIMIT: Duration = Duration::from_secs(10);
pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) type Plain = Result<(), &'static str>;

/// Events in order.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(super) fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Logs its drop.
pub(super) struct Owned(pub(super) Log, pub(super) &'static str);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.add(self.1);
    }
}

pub(super) async fn start(life: &mut Lifecycle, log: &Log, name: &'static str) {
    let open_log = log.clone();
    let close_log = log.clone();
    let open = async move {
        open_log.add(format!("open {name}"));
        Ok::<_, &str>(((), ()))
    };
    let close = move |()| async move {
        close_log.add(format!("close {name}"));
        Plain::Ok(())
    };
    life.start(name, LIMIT, open, close).await.unwrap();
}

pub(super) fn spawn(life: &mut Lifecycle, log: &Log, name: &'static str) {
    let log = log.clone();
    life.spawn(name, LIMIT, move |stop| async move {
        stop.stopped().await;
        log.add(format!("end {name}"));
        Plain::Ok(())
    });
}

/// Lets every ready task run.
pub(super) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

pub(super) fn outcomes(report: &Report) -> Vec<(&str, CloseOutcome)> {
    report.resources.iter().map(|closed| (&*closed.name, closed.outcome.clone())).collect()
}
