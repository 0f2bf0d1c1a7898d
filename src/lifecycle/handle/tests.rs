//! The phases (L5) and the course of a stop (L6).

use std::future::pending;

use tokio::sync::mpsc;
use tokio::time::advance;

use super::*;
use crate::fixture::{LIMIT, Log, Plain, SECOND, outcomes, settle, start};
use crate::{CloseOutcome, Lifecycle, Signals, StartError};

#[tokio::test(start_paused = true)]
async fn l5_phases_only_move_forward() {
    let life = Lifecycle::without_signals();
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

/// Follows signals sent by the test, and logs the second and the phase of each step of the stop.
fn follow(handle: &Handle) -> (mpsc::UnboundedSender<&'static str>, Log) {
    let (send, mut receive) = mpsc::unbounded_channel();
    let deadlines = Deadlines { stop: 25 * SECOND, reserve: 2 * SECOND };
    let signals = stream::poll_fn(move |context| receive.poll_recv(context));
    tokio::spawn(handle.clone().follow(deadlines, signals));
    let (log, begun) = (Log::default(), Instant::now());
    let steps = [
        ("closing", handle.closing().cancelled_owned()),
        ("cut", handle.cut().cancelled_owned()),
        ("forced_stop", handle.forced_stop()),
    ];
    for (name, step) in steps {
        let (log, phase) = (log.clone(), handle.phase());
        tokio::spawn(async move {
            step.await;
            log.add(format!("{name} {} {}", begun.elapsed().as_secs(), *phase.borrow()));
        });
    }
    (send, log)
}

#[tokio::test(start_paused = true)]
async fn l6_a_stop_is_escalated_by_signals_and_by_the_clock() {
    let by_clock = ["closing 5 CLOSING", "cut 28 COMMITTING", "forced_stop 30 COMMITTING"];
    let cases: [(&[u64], Option<u64>, [&str; 3]); 6] = [
        (&[5], None, by_clock),
        (&[], Some(5), by_clock),
        // A request is no signal: the first signal after it changes nothing.
        (&[6], Some(5), by_clock),
        (&[5, 7], None, ["closing 5 CLOSING", "cut 7 COMMITTING", "forced_stop 30 COMMITTING"]),
        (&[5, 7, 8], None, ["closing 5 CLOSING", "cut 7 COMMITTING", "forced_stop 8 COMMITTING"]),
        // The second signal, after the clock has cut already, does not have the effect of the third.
        (&[5, 29], None, by_clock),
    ];
    for (signals, request, course) in cases {
        let life = Lifecycle::without_signals();
        let (send, log) = follow(life.handle());
        settle().await;
        for second in 1..=40 {
            advance(SECOND).await;
            for _ in signals.iter().filter(|at| **at == second) {
                send.send("TERM").unwrap();
            }
            if request == Some(second) {
                life.handle().request_stop();
            }
            settle().await;
        }
        assert_eq!(log.lines(), course, "signals {signals:?}, request {request:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_signal_counts_once_and_one_of_another_type_counts() {
    let life = Lifecycle::without_signals();
    let (send, log) = follow(life.handle());
    let mut course = Vec::new();
    let half = SIGNAL_DEBOUNCE / 2;
    for (kind, step) in [
        ("TERM", Some("closing 0 CLOSING")),
        ("TERM", None),
        ("INT", Some("cut 0 COMMITTING")),
        ("INT", None),
        ("INT", Some("forced_stop 1 COMMITTING")),
    ] {
        send.send(kind).unwrap();
        settle().await;
        course.extend(step);
        assert_eq!(log.lines(), course, "{kind}");
        advance(half).await;
    }
}

#[tokio::test(start_paused = true)]
async fn l6_after_the_forced_stop_the_rest_is_abandoned_and_named() {
    let (mut life, log) = (Lifecycle::without_signals(), Log::default());
    let _send = follow(life.handle());
    start(&mut life, &log, "ledger").await;
    life.spawn("deaf", 60 * SECOND, |_| pending::<Plain>());
    life.on_close("endless", 60 * SECOND, pending::<Plain>);
    let report = life.stop().await;
    assert_eq!(
        outcomes(&report),
        [("endless", CloseOutcome::Abandoned), ("ledger", CloseOutcome::Abandoned)]
    );
    assert_eq!(report.tasks.cancelled, ["deaf"]);
    assert_eq!(report.took.as_secs(), 25);
    assert_eq!(log.lines(), ["open ledger"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_started_after_a_stop_was_requested() {
    let mut life = Lifecycle::without_signals();
    let _send = follow(life.handle());
    let close = |()| async { Plain::Ok(()) };
    life.handle().request_stop();
    let open = async { panic!("begun") };
    let error = life.start::<_, (), &str, _, _, _>("late", LIMIT, open, close).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot start late: the service is stopping");
}

#[tokio::test(start_paused = true)]
async fn a_start_continues_at_the_first_signal_and_ends_at_the_second() {
    let mut life = Lifecycle::without_signals();
    let (send, _) = follow(life.handle());
    let close = |()| async { Plain::Ok(()) };
    let closing = life.handle().closing();
    let open = async {
        send.send("TERM").unwrap();
        closing.cancelled().await;
        settle().await;
        Ok::<_, &str>(((), "opened"))
    };
    assert_eq!(life.start("patient", LIMIT, open, close).await.unwrap(), "opened");
    let mut life = Lifecycle::without_signals();
    let (send, _) = follow(life.handle());
    let open = async {
        send.send("TERM").unwrap();
        send.send("INT").unwrap();
        pending::<Result<((), ()), &str>>().await
    };
    let error = life.start("endless", LIMIT, open, close).await.unwrap_err();
    assert!(matches!(error, StartError::Stopping { .. }), "{error}");
}

#[tokio::test]
async fn the_signal_thread_escalates_the_stop_by_the_clock() {
    let deadlines = Deadlines { stop: Duration::from_millis(20), reserve: Duration::ZERO };
    let mut life = Lifecycle::new(deadlines, Signals::none().unwrap()).unwrap();
    life.on_close("endless", LIMIT, pending::<Plain>);
    let report = life.stop().await;
    assert_eq!(outcomes(&report), [("endless", CloseOutcome::Abandoned)]);
    drop(Signals::none().unwrap()); // A runtime dropped inside another one must not panic.
}

#[test]
fn l6_a_short_deadline_keeps_half_of_itself_for_the_last_commit() {
    let drain = |stop| Deadlines { stop, reserve: 2 * SECOND }.drain();
    assert_eq!(drain(25 * SECOND), 23 * SECOND);
    assert_eq!(drain(3 * SECOND), SECOND * 3 / 2);
    assert_eq!(drain(SECOND), SECOND / 2);
    assert_eq!(drain(Duration::ZERO), Duration::ZERO);
}
