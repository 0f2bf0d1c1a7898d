//! Order and completeness of opening and closing (L1, L2).

use std::future::pending;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::fixture::{LIMIT, Log, Owned, Plain, outcomes, settle, spawn, start};

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
