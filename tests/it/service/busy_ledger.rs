//! Another program writes to the ledger while the service starts: the start waits for its end.

use std::path::Path;

use rusqlite::Connection;

use crate::{
    files::{Running, TestDir, tree, until},
    mounts::Mount,
};

const WAITING: &str = "another program writes to the ledger, start waiting";

/// Another program in a transaction, as of a backup. Dropping it ends the transaction.
fn writer(ledger: &Path) -> Connection {
    let connection = Connection::open(ledger).expect("open");
    connection.busy_timeout(crate::files::PATIENCE).expect("set up");
    connection.execute_batch("BEGIN IMMEDIATE").expect("begin");
    connection
}

/// A place with a file that is done, and another that waits for the start.
fn place_with_work() -> TestDir {
    let place = TestDir::new();
    place.put("first", "first");
    assert_eq!(place.once(&["--on-success", "delete"]).code, 0);
    place.put("second", "second");
    place
}

fn start(place: &TestDir, args: &[&str]) -> Running {
    let args = [&["run", "--config", "tidemill.toml", "--on-success", "delete"], args].concat();
    Running::start(&mut place.tidemill(&args))
}

/// It ended with 75, again at each start.
#[test]
fn a_start_waits_for_the_program_that_writes_to_the_ledger() {
    for args in [&[][..], &["--once"]] {
        let place = place_with_work();
        let writer = writer(&place.state().join("ledger.sqlite"));
        let running = start(&place, args);
        running.until_logged(WAITING);
        drop(writer);
        until("the source to be done", || tree(&place.input()).is_empty());
        let ended = if args.is_empty() { running.stop() } else { running.end() };
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(place.published("second.zst"), b"second");
        place.assert_clean();
    }
}

#[test]
fn a_stop_while_the_start_waits_for_the_ledger_leaves_the_work_to_the_next_start() {
    let place = place_with_work();
    let writer = writer(&place.state().join("ledger.sqlite"));
    let running = start(&place, &[]);
    running.until_logged(WAITING);
    let ended = running.stop();
    assert_eq!(ended.code, 75, "{ended:?}");
    drop(writer);
    assert_eq!(place.once(&["--on-success", "delete"]).code, 0);
    assert_eq!(place.published("second.zst"), b"second");
    place.assert_clean();
}

/// It failed, and stayed so until a reload.
#[test]
fn a_pipeline_that_opens_late_waits_for_the_ledger() {
    let place = TestDir::new();
    let late = place.root().join("late");
    std::fs::create_dir(&late).expect("directory");
    let Some(mount) = Mount::memory(&late, "1m") else { return };
    for dir in ["in", "out"] {
        std::fs::create_dir(late.join(dir)).expect("directory");
    }
    mount.set_read_only();
    place.configure(
        "name = \"main\"\n[[pipeline]]\nname = \"late\"\ninput = \"late/in\"\noutput = \"late/out\"",
    );
    let running = place.watch(&[]);
    let ledger = Connection::open(place.state().join("ledger.sqlite")).expect("open");
    // Its row is as new as the pipeline.
    ledger.execute("DELETE FROM pipelines WHERE name = 'late'", []).expect("forget");
    let writer = writer(&place.state().join("ledger.sqlite"));
    mount.set_writable();
    running.until_logged(WAITING);
    drop(writer);
    running.until_logged("pipeline started");
    std::fs::write(late.join("in/file"), "content").expect("write");
    until("the late pipeline publishes", || late.join("out/file.zst").exists());
    assert_eq!(running.stop().code, 0);
}
