use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{FutureExt, stream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, advance, timeout};

use super::*;

mod course;
mod tasks;

const LIMIT: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

type Plain = Result<(), &'static str>;

/// Events in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Logs its drop.
struct Owned(Log, &'static str);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.add(self.1);
    }
}

async fn start(life: &mut Lifecycle, log: &Log, name: &'static str) {
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

fn spawn(life: &mut Lifecycle, log: &Log, name: &'static str) {
    let log = log.clone();
    life.spawn(name, LIMIT, move |stop| async move {
        stop.stopped().await;
        log.add(format!("end {name}"));
        Plain::Ok(())
    });
}

/// Lets every ready task run.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn outcomes(report: &Report) -> Vec<(&str, CloseOutcome)> {
    report.resources.iter().map(|closed| (&*closed.name, closed.outcome.clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn l1_resources_and_tasks_end_in_the_reverse_order_of_their_start() {
    let (mut life, log) = (Lifecycle::without_signals(), Log::default());
    start(&mut life, &log, "lock").await;
    start(&mut life, &log, "ledger").await;
    spawn(&mut life, &log, "under");
    start(&mut life, &log, "server").await;
    spawn(&mut life, &log, "over");
    let report = life.stop().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(
        log.lines(),
        [
            "open lock",
            "open ledger",
            "open server",
            "end over",
            "close server",
            "end under",
            "close ledger",
            "close lock"
        ]
    );
    let names: Vec<_> = report.resources.iter().map(|closed| &*closed.name).collect();
    assert_eq!(names, ["server", "ledger", "lock"]);
    assert_eq!(report.tasks.finished, 2);
}

#[tokio::test(start_paused = true)]
async fn l1_a_cancelled_task_drops_all_it_owns_before_the_resource_under_it_closes() {
    let (mut life, log) = (Lifecycle::without_signals(), Log::default());
    start(&mut life, &log, "ledger").await;
    let owned = Owned(log.clone(), "drop cursor");
    life.spawn("reader", LIMIT, |_| async move {
        let _owned = owned;
        pending::<Plain>().await
    });
    life.stop().await;
    assert_eq!(log.lines(), ["open ledger", "drop cursor", "close ledger"]);
}

#[tokio::test(start_paused = true)]
async fn l2_resources_close_after_a_failed_a_panicked_and_an_overlong_start() {
    for (fault, message) in [
        ("fail", "cannot start broken: disk on fire"),
        ("panic", "cannot start broken: panicked: disk on fire"),
        ("hang", "cannot start broken: not ready after 10s"),
    ] {
        let (mut life, log) = (Lifecycle::without_signals(), Log::default());
        start(&mut life, &log, "working").await;
        let open = async {
            match fault {
                "fail" => Err("disk on fire"),
                "panic" => panic!("disk on fire"),
                _ => pending::<Result<((), ()), &str>>().await,
            }
        };
        let never = log.clone();
        let close = move |()| async move {
            never.add("close broken");
            Plain::Ok(())
        };
        let error = life.start("broken", LIMIT, open, close).await.unwrap_err();
        assert_eq!(error.name(), "broken");
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        assert_eq!(format!("{error}{}", source.unwrap_or_default()), message);
        assert!(life.stop().await.is_clean());
        assert_eq!(log.lines(), ["open working", "close working"], "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn l2_resources_close_after_a_close_that_failed_panicked_or_overran() {
    let (mut life, log) = (Lifecycle::without_signals(), Log::default());
    start(&mut life, &log, "first").await;
    life.on_close("hanging", LIMIT, pending::<Plain>);
    start(&mut life, &log, "second").await;
    life.on_close("panicking", LIMIT, || async {
        if true { panic!("no {}", 7) } else { Plain::Ok(()) }
    });
    start(&mut life, &log, "third").await;
    life.on_close("failing", LIMIT, || async {
        Err::<(), _>(anyhow::anyhow!("deep").context("high"))
    });
    let begun = Instant::now();
    let report = life.stop().await;
    let failed = |message: &str| CloseOutcome::Failed(message.to_owned());
    assert_eq!(
        outcomes(&report),
        [
            ("failing", failed("high: deep")),
            ("third", CloseOutcome::Done),
            ("panicking", failed("panicked: no 7")),
            ("second", CloseOutcome::Done),
            ("hanging", CloseOutcome::TimedOut(LIMIT)),
            ("first", CloseOutcome::Done),
        ]
    );
    assert_eq!(log.lines()[3..], ["close third", "close second", "close first"]);
    assert_eq!(begun.elapsed().as_secs(), LIMIT.as_secs());
    assert!(!report.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_lifecycle_dropped_without_stop_cancels_its_tasks_and_drops_its_resources() {
    let (mut life, log) = (Lifecycle::without_signals(), Log::default());
    let resource = Owned(log.clone(), "drop resource");
    let open = async { Ok::<_, &str>((resource, ())) };
    life.start("resource", LIMIT, open, |_| async { Plain::Ok(()) }).await.unwrap();
    let (guard, mut released) = oneshot::channel::<()>();
    life.spawn("deaf", LIMIT, |_| async move {
        let _guard = guard;
        pending::<Plain>().await
    });
    settle().await;
    assert_eq!(released.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    drop(life);
    assert_eq!(log.lines(), ["drop resource"]);
    assert!(timeout(LIMIT, released).await.unwrap().is_err());
}

#[test]
fn the_report_has_a_line_for_each_resource_and_failed_task() {
    let closed = |name: &'static str, outcome| ClosedResource {
        name: name.into(),
        took: SECOND / 8,
        outcome,
    };
    let mut report = Report { took: 3 * SECOND, ..Report::default() };
    assert!(report.is_clean());
    assert_eq!(
        report.to_string(),
        "tasks: 0 finished, 0 failed, 0 cancelled, 0 alive\nstopped in 3.0s"
    );
    report.resources = vec![
        closed("server", CloseOutcome::Done),
        closed("ledger", CloseOutcome::Failed("disk on fire".to_owned())),
        closed("lock", CloseOutcome::TimedOut(SECOND)),
        closed("log", CloseOutcome::Abandoned),
    ];
    report.tasks = TasksReport {
        finished: 5,
        failed: 1,
        failures: vec![TaskFailure { name: "beat".into(), message: "out of breath".to_owned() }],
        cancelled: vec!["deaf".into()],
        alive: vec!["blocked".into()],
    };
    assert!(!report.is_clean());
    assert_eq!(
        report.to_string(),
        "resource server: closed in 125.0ms\n\
         resource ledger: close failed in 125.0ms: disk on fire\n\
         resource lock: not closed after 1s\n\
         resource log: close abandoned\n\
         tasks: 5 finished, 1 failed, 1 cancelled, 1 alive\n\
         task beat: out of breath\n\
         task deaf: cancelled\n\
         task blocked: still alive\n\
         stopped in 3.0s"
    );
}
