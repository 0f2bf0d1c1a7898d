//! Background tasks (L4).

use std::future::pending;

use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::*;
use crate::Lifecycle;
use crate::fixture::{LIMIT, Plain, SECOND};

#[tokio::test(start_paused = true)]
async fn l4_tasks_that_overrun_their_limit_are_cancelled_and_named() {
    let mut life = Lifecycle::without_signals();
    life.spawn("deaf", LIMIT, |_| pending::<Plain>());
    life.spawn("early", LIMIT, |_| async { Plain::Ok(()) });
    let group = life.tasks(LIMIT);
    for name in ["a", "b"] {
        group.spawn(name, |_| pending::<Plain>()).unwrap();
    }
    life.spawn("slow", LIMIT, |stop| async move {
        stop.stopped().await;
        tokio::time::sleep(9 * SECOND).await;
        Plain::Ok(())
    });
    let report = life.stop().await;
    assert_eq!(report.tasks.cancelled, ["a", "b", "deaf"]);
    assert_eq!((report.tasks.finished, report.tasks.failed), (2, 0));
    assert_eq!(report.took.as_secs(), 29);
    assert!(!report.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l4_a_task_that_blocks_its_thread_is_named_alive_and_does_not_delay_the_stop() {
    let mut life = Lifecycle::without_signals();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = oneshot::channel();
    life.spawn("blocked", Duration::ZERO, |_| async move {
        begun.send(()).unwrap();
        assert!(released.recv().is_err());
        Plain::Ok(())
    });
    has_begun.await.unwrap();
    let report = life.stop().await;
    assert_eq!(report.tasks.alive, ["blocked"]);
    drop(release);
}

#[tokio::test(start_paused = true)]
async fn l4_a_task_that_fails_or_panics_is_reported_while_the_service_runs() {
    for (panics, message) in
        [(false, "task beat: out of breath"), (true, "task beat: panicked: ouch")]
    {
        let mut life = Lifecycle::without_signals();
        let (go, gone) = oneshot::channel::<()>();
        life.spawn("beat", LIMIT, move |_| async move {
            gone.await.unwrap();
            assert!(!panics, "ouch");
            Plain::Err("out of breath")
        });
        assert!(life.handle().failed().now_or_never().is_none());
        go.send(()).unwrap();
        let failure = timeout(LIMIT, life.handle().failed()).await.unwrap();
        assert_eq!(failure.to_string(), message);
        assert_eq!(life.handle().failed().now_or_never(), Some(failure.clone()));
        let report = life.stop().await;
        assert_eq!((report.tasks.failed, &report.tasks.failures), (1, &vec![failure]));
        assert!(!report.is_clean());
    }
}

#[tokio::test(start_paused = true)]
async fn failures_beyond_the_bound_are_only_counted() {
    let mut life = Lifecycle::without_signals();
    let group = life.tasks(LIMIT);
    for number in 0..100 {
        group.spawn(format!("{number}"), |_| async { Plain::Err("no") }).unwrap();
    }
    let tasks = life.stop().await.tasks;
    assert_eq!((tasks.failed, tasks.failures.len()), (100, FAILURES_KEPT));
    assert_eq!(tasks.failures[0].name, "0");
}

#[tokio::test(start_paused = true)]
async fn a_group_accepts_tasks_from_tasks_until_it_stops() {
    let mut life = Lifecycle::without_signals();
    let group = life.tasks(LIMIT);
    let inner = group.clone();
    group
        .spawn("outer", |stop| async move {
            inner.spawn("inner", |_| async { Plain::Ok(()) }).unwrap();
            assert!(!stop.is_set());
            stop.stopped().await;
            assert_eq!(inner.spawn("late", |_| async { Plain::Ok(()) }), Err(Refused));
            Plain::Ok(())
        })
        .unwrap();
    tokio::task::yield_now().await;
    let report = life.stop().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.tasks.finished, 2);
    assert_eq!(group.spawn("later", |_| async { Plain::Ok(()) }), Err(Refused));
}
