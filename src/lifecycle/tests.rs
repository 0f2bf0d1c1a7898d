use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{FutureExt, stream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, advance, timeout};

use super::*;

const LIMIT: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

type Plain = Result<(), &'static str>;

/// What happened, in order.
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

fn ends(report: &Report) -> Vec<(&str, End)> {
    report
        .clean_ups
        .iter()
        .map(|clean_up| (&*clean_up.name, clean_up.end.clone()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn l1_hooks_and_tasks_end_in_the_reverse_order_of_their_start() {
    let (mut life, log) = (Lifecycle::unfollowed(), Log::default());
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
    let names: Vec<_> = report
        .clean_ups
        .iter()
        .map(|clean_up| &*clean_up.name)
        .collect();
    assert_eq!(names, ["server", "ledger", "lock"]);
    assert_eq!(report.tasks.finished, 2);
}

#[tokio::test(start_paused = true)]
async fn l1_what_a_cancelled_task_owned_is_dropped_before_the_resource_under_it_is_released() {
    let (mut life, log) = (Lifecycle::unfollowed(), Log::default());
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
async fn l2_clean_ups_run_after_a_failed_a_panicked_and_an_overlong_start() {
    for (fault, told) in [
        ("fail", "start of sick failed: disk on fire"),
        ("panic", "start of sick panicked: disk on fire"),
        ("hang", "start of sick took longer than 10s"),
    ] {
        let (mut life, log) = (Lifecycle::unfollowed(), Log::default());
        start(&mut life, &log, "well").await;
        let open = async {
            match fault {
                "fail" => Err("disk on fire"),
                "panic" => panic!("disk on fire"),
                _ => pending::<Result<((), ()), &str>>().await,
            }
        };
        let never = log.clone();
        let close = move |()| async move {
            never.add("close sick");
            Plain::Ok(())
        };
        let error = life.start("sick", LIMIT, open, close).await.unwrap_err();
        assert_eq!(error.name(), "sick");
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        assert_eq!(format!("{error}{}", source.unwrap_or_default()), told);
        assert!(life.stop().await.is_clean());
        assert_eq!(log.lines(), ["open well", "close well"], "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn l2_clean_ups_run_after_one_that_failed_one_that_panicked_and_one_that_overran() {
    let (mut life, log) = (Lifecycle::unfollowed(), Log::default());
    start(&mut life, &log, "first").await;
    life.clean_up("hanging", LIMIT, || pending::<Plain>());
    start(&mut life, &log, "second").await;
    life.clean_up("panicking", LIMIT, || async {
        if true {
            panic!("no {}", 7)
        } else {
            Plain::Ok(())
        }
    });
    start(&mut life, &log, "third").await;
    life.clean_up("failing", LIMIT, || async {
        Err::<(), _>(anyhow::anyhow!("deep").context("high"))
    });
    let begun = Instant::now();
    let report = life.stop().await;
    let failed = |message: &str| End::Failed(message.to_owned());
    assert_eq!(
        ends(&report),
        [
            ("failing", failed("high: deep")),
            ("third", End::Done),
            ("panicking", failed("panicked: no 7")),
            ("second", End::Done),
            ("hanging", End::TimedOut(LIMIT)),
            ("first", End::Done),
        ]
    );
    assert_eq!(
        log.lines()[3..],
        ["close third", "close second", "close first"]
    );
    assert_eq!(begun.elapsed().as_secs(), LIMIT.as_secs());
    assert!(!report.is_clean());
}

#[tokio::test(start_paused = true)]
async fn l4_tasks_left_over_after_their_limit_are_cancelled_and_named() {
    let mut life = Lifecycle::unfollowed();
    life.spawn("deaf", LIMIT, |_| pending::<Plain>());
    life.spawn("early", LIMIT, |_| async { Plain::Ok(()) });
    let group = life.tasks(LIMIT);
    for name in ["a", "b"] {
        group.spawn(name, |_| pending::<Plain>()).unwrap();
    }
    life.spawn("slow", LIMIT, |stop| async move {
        stop.stopped().await;
        tokio::time::sleep(LIMIT - SECOND).await;
        Plain::Ok(())
    });
    let report = life.stop().await;
    assert_eq!(report.tasks.cancelled, ["a", "b", "deaf"]);
    assert_eq!((report.tasks.finished, report.tasks.failed), (2, 0));
    assert_eq!(report.took.as_secs(), 29);
    assert!(!report.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn l4_a_task_that_blocks_its_thread_is_named_alive_and_does_not_hold_up_the_stop() {
    let mut life = Lifecycle::unfollowed();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = oneshot::channel();
    life.spawn("blocked", Duration::ZERO, |_| async move {
        begun.send(()).unwrap();
        assert!(released.recv().is_err());
        Plain::Ok(())
    });
    has_begun.await.unwrap();
    let stop = tokio::task::unconstrained(life.stop());
    let report = stop.await;
    assert_eq!(report.tasks.alive, ["blocked"]);
    drop(release);
}

#[tokio::test(start_paused = true)]
async fn l4_a_task_that_fails_or_panics_is_noticed_while_the_service_runs() {
    for (panics, told) in [
        (false, "task beat: out of breath"),
        (true, "task beat: panicked: ouch"),
    ] {
        let mut life = Lifecycle::unfollowed();
        let (go, gone) = oneshot::channel::<()>();
        life.spawn("beat", LIMIT, move |_| async move {
            gone.await.unwrap();
            assert!(!panics, "ouch");
            Plain::Err("out of breath")
        });
        assert!(life.handle().failed().now_or_never().is_none());
        go.send(()).unwrap();
        let failure = timeout(LIMIT, life.handle().failed()).await.unwrap();
        assert_eq!(failure.to_string(), told);
        assert_eq!(life.handle().failed().now_or_never(), Some(failure.clone()));
        let report = life.stop().await;
        assert_eq!(
            (report.tasks.failed, &report.tasks.failures),
            (1, &vec![failure])
        );
        assert!(!report.is_clean());
    }
}

#[tokio::test(start_paused = true)]
async fn failures_beyond_the_bound_are_counted_and_forgotten() {
    let mut life = Lifecycle::unfollowed();
    let group = life.tasks(LIMIT);
    for number in 0..100 {
        group
            .spawn(format!("{number}"), |_| async { Plain::Err("no") })
            .unwrap();
    }
    let tasks = life.stop().await.tasks;
    assert_eq!((tasks.failed, tasks.failures.len()), (100, FAILURES_KEPT));
    assert_eq!(tasks.failures[0].name, "0");
}

#[tokio::test(start_paused = true)]
async fn a_group_takes_tasks_from_tasks_until_it_is_being_stopped() {
    let mut life = Lifecycle::unfollowed();
    let group = life.tasks(LIMIT);
    let inner = group.clone();
    group
        .spawn("outer", |stop| async move {
            inner.spawn("inner", |_| async { Plain::Ok(()) }).unwrap();
            assert!(!stop.is_set());
            stop.stopped().await;
            assert_eq!(
                inner.spawn("late", |_| async { Plain::Ok(()) }),
                Err(Refused)
            );
            Plain::Ok(())
        })
        .unwrap();
    tokio::task::yield_now().await;
    let report = life.stop().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.tasks.finished, 2);
    assert_eq!(
        group.spawn("later", |_| async { Plain::Ok(()) }),
        Err(Refused)
    );
}

#[tokio::test(start_paused = true)]
async fn l5_phases_only_move_forward() {
    let life = Lifecycle::unfollowed();
    let handle = life.handle().clone();
    let phase = handle.phase();
    assert_eq!(*phase.borrow(), Phase::Starting);
    assert!(handle.enter(Phase::Ready));
    assert!(!handle.enter(Phase::Ready));
    handle.request_stop();
    assert_eq!(*phase.borrow(), Phase::Closing);
    assert!(!handle.enter(Phase::Ready));
    assert_eq!(*phase.borrow(), Phase::Closing);
    assert!(handle.enter(Phase::Committing));
    assert!(!handle.enter(Phase::Draining));
    assert_eq!(phase.borrow().as_str(), "COMMITTING");
    life.stop().await;
    assert_eq!(format!("{:>9}", *phase.borrow()), "  STOPPED");
}

/// Follows signals sent by the test, and logs the second at which each step of the course came,
/// with the phase at that time.
fn follow(handle: &Handle) -> (mpsc::UnboundedSender<()>, Log) {
    let (send, mut receive) = mpsc::unbounded_channel();
    let deadlines = Deadlines {
        stop: 25 * SECOND,
        reserve: 2 * SECOND,
    };
    let signals = stream::poll_fn(move |context| receive.poll_recv(context));
    tokio::spawn(handle.clone().follow(deadlines, signals));
    let (log, begun) = (Log::default(), Instant::now());
    let steps = [
        ("closing", handle.closing().cancelled_owned()),
        ("cut", handle.cut().cancelled_owned()),
        ("leave", handle.leave()),
    ];
    for (word, step) in steps {
        let (log, phase) = (log.clone(), handle.phase());
        tokio::spawn(async move {
            step.await;
            log.add(format!(
                "{word} {} {}",
                begun.elapsed().as_secs(),
                *phase.borrow()
            ));
        });
    }
    (send, log)
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn l6_a_stop_is_escalated_by_signals_and_by_the_clock() {
    let by_clock = [
        "closing 5 CLOSING",
        "cut 28 COMMITTING",
        "leave 30 COMMITTING",
    ];
    let cases: [(&[u64], Option<u64>, [&str; 3]); 6] = [
        (&[5], None, by_clock),
        (&[], Some(5), by_clock),
        // A request is no signal: the first signal after it changes nothing.
        (&[6], Some(5), by_clock),
        (
            &[5, 7],
            None,
            [
                "closing 5 CLOSING",
                "cut 7 COMMITTING",
                "leave 30 COMMITTING",
            ],
        ),
        (
            &[5, 7, 8],
            None,
            [
                "closing 5 CLOSING",
                "cut 7 COMMITTING",
                "leave 8 COMMITTING",
            ],
        ),
        // The second signal, after the clock has cut already, does not do what the third is for.
        (&[5, 29], None, by_clock),
    ];
    for (signals, request, course) in cases {
        let life = Lifecycle::unfollowed();
        let (send, log) = follow(life.handle());
        settle().await;
        for second in 1..=40 {
            advance(SECOND).await;
            for _ in signals.iter().filter(|at| **at == second) {
                send.send(()).unwrap();
            }
            if request == Some(second) {
                life.handle().request_stop();
            }
            settle().await;
        }
        assert_eq!(
            log.lines(),
            course,
            "signals {signals:?}, request {request:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn l6_after_leave_the_rest_is_left_and_named() {
    let (mut life, log) = (Lifecycle::unfollowed(), Log::default());
    let _send = follow(life.handle());
    start(&mut life, &log, "ledger").await;
    life.spawn("deaf", 60 * SECOND, |_| pending::<Plain>());
    life.clean_up("endless", 60 * SECOND, || pending::<Plain>());
    let report = life.stop().await;
    assert_eq!(
        ends(&report),
        [("endless", End::Left), ("ledger", End::Left)]
    );
    assert_eq!(report.tasks.cancelled, ["deaf"]);
    assert_eq!(report.took.as_secs(), 25);
    assert_eq!(log.lines(), ["open ledger"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_started_after_a_stop_was_requested() {
    let mut life = Lifecycle::unfollowed();
    let _send = follow(life.handle());
    let close = |()| async { Plain::Ok(()) };
    life.handle().request_stop();
    let open = async { panic!("begun") };
    let error = life
        .start::<_, (), &str, _, _, _>("late", LIMIT, open, close)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "late was not started: the service is being stopped"
    );
}

#[tokio::test(start_paused = true)]
async fn a_start_is_not_disturbed_by_the_first_signal_and_ends_at_the_second() {
    let mut life = Lifecycle::unfollowed();
    let (send, _) = follow(life.handle());
    let close = |()| async { Plain::Ok(()) };
    let closing = life.handle().closing();
    let open = async {
        send.send(()).unwrap();
        closing.cancelled().await;
        settle().await;
        Ok::<_, &str>(((), "opened"))
    };
    assert_eq!(
        life.start("patient", LIMIT, open, close).await.unwrap(),
        "opened"
    );
    let mut life = Lifecycle::unfollowed();
    let (send, _) = follow(life.handle());
    let open = async {
        send.send(()).unwrap();
        send.send(()).unwrap();
        pending::<Result<((), ()), &str>>().await
    };
    let error = life.start("endless", LIMIT, open, close).await.unwrap_err();
    assert!(matches!(error, StartError::Stopping { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_lifecycle_dropped_without_stop_cancels_its_tasks_and_drops_its_resources() {
    let (mut life, log) = (Lifecycle::unfollowed(), Log::default());
    let resource = Owned(log.clone(), "drop resource");
    let open = async { Ok::<_, &str>((resource, ())) };
    life.start("resource", LIMIT, open, |_| async { Plain::Ok(()) })
        .await
        .unwrap();
    let (held, mut released) = oneshot::channel::<()>();
    life.spawn("deaf", LIMIT, |_| async move {
        let _held = held;
        pending::<Plain>().await
    });
    settle().await;
    assert_eq!(
        released.try_recv(),
        Err(oneshot::error::TryRecvError::Empty)
    );
    drop(life);
    assert_eq!(log.lines(), ["drop resource"]);
    assert!(timeout(LIMIT, released).await.unwrap().is_err());
}

#[tokio::test]
async fn the_thread_that_follows_the_signals_moves_the_stop_on_by_the_clock() {
    let deadlines = Deadlines {
        stop: Duration::from_millis(20),
        reserve: Duration::ZERO,
    };
    let mut life = Lifecycle::new(deadlines, Signals::none().unwrap()).unwrap();
    life.clean_up("endless", LIMIT, || pending::<Plain>());
    let report = life.stop().await;
    assert_eq!(ends(&report), [("endless", End::Left)]);
    drop(Signals::none().unwrap()); // A runtime dropped inside another one must not panic.
}

#[test]
fn the_report_reads_line_by_line() {
    let clean_up = |name: &'static str, end| CleanUp {
        name: name.into(),
        took: SECOND / 8,
        end,
    };
    let mut report = Report {
        took: 3 * SECOND,
        ..Report::default()
    };
    assert!(report.is_clean());
    assert_eq!(
        report.to_string(),
        "tasks: 0 finished, 0 failed, 0 cancelled, 0 alive\nstopped in 3.0s"
    );
    report.clean_ups = vec![
        clean_up("server", End::Done),
        clean_up("ledger", End::Failed("disk on fire".to_owned())),
        clean_up("lock", End::TimedOut(SECOND)),
        clean_up("log", End::Left),
    ];
    report.tasks = TasksReport {
        finished: 5,
        failed: 1,
        failures: vec![TaskFailure {
            name: "beat".into(),
            message: "out of breath".to_owned(),
        }],
        cancelled: vec!["deaf".into()],
        alive: vec!["blocked".into()],
    };
    assert!(!report.is_clean());
    assert_eq!(
        report.to_string(),
        "clean-up server: done in 125.0ms\n\
         clean-up ledger: failed in 125.0ms: disk on fire\n\
         clean-up lock: not done after 1s\n\
         clean-up log: left undone\n\
         tasks: 5 finished, 1 failed, 1 cancelled, 1 alive\n\
         task beat: out of breath\n\
         task deaf: cancelled\n\
         task blocked: still alive\n\
         stopped in 3.0s"
    );
}
