use std::time::Instant;

use super::{connection::BUSY_TIMEOUT, *};
use crate::{
    ledger::{
        State,
        conformance::{pipeline, record},
    },
    reason::Reason,
};

fn ledger() -> (tempfile::TempDir, PathBuf, Sqlite) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("ledger.sqlite");
    let ledger = Sqlite::open(&path).expect("open");
    (dir, path, ledger)
}

#[test]
fn a_record_number_out_of_range_is_damage() {
    for id in [RecordId::MAX, LAST_ID + 1, -1] {
        let (_dir, path, ledger) = ledger();
        let pipeline = pipeline(&ledger);
        let record = Record { id, ..record(&ledger, pipeline, "a".as_ref(), State::Done) };
        ledger.append(&[record], Flush::Now).expect("append");
        drop(ledger);
        let error = Sqlite::open(&path).expect_err("a damaged ledger");
        assert_eq!(error.action, "read", "{error}");
    }
}

#[test]
fn another_process_may_read_and_update_while_the_service_runs() {
    let (_dir, path, service) = ledger();
    let pipeline = pipeline(&service);
    let quarantined = record(&service, pipeline, "a".as_ref(), State::Quarantined);
    service.append(std::slice::from_ref(&quarantined), Flush::Deferred).expect("append");
    let viewer = Sqlite::open_read_only(&path).expect("open to look");
    let query = HistoryQuery { state: Some(State::Quarantined), ..HistoryQuery::default() };
    assert_eq!(viewer.history(&query).expect("history"), std::slice::from_ref(&quarantined));
    assert!(viewer.set_states(&[(quarantined.id, State::Done, None)], Flush::Now).is_err());
    let requeue = Sqlite::open(&path).expect("open to write");
    requeue.set_states(&[(quarantined.id, State::Requeued, None)], Flush::Now).expect("mark");
    let latest = service.latest(pipeline, "a".as_ref()).expect("look up").expect("a record");
    assert_eq!(latest.state, State::Requeued);
}

#[test]
fn a_ledger_of_a_newer_version_is_refused() {
    let (_dir, path, ledger) = ledger();
    drop(ledger);
    Connection::open(&path)
        .and_then(|connection| connection.pragma_update(None, "user_version", 99))
        .expect("raise the version");
    let error = Sqlite::open(&path).expect_err("too new");
    assert!(error.source.to_string().contains("newer Tidemill"), "{}", error.source);
}

#[test]
fn the_reason_of_an_older_version_has_no_code() {
    let (_dir, path, ledger) = ledger();
    let pipeline = pipeline(&ledger);
    let record = record(&ledger, pipeline, "a".as_ref(), State::Quarantined);
    ledger.append(std::slice::from_ref(&record), Flush::Now).expect("append");
    drop(ledger);
    Connection::open(&path)
        .and_then(|older| {
            older.execute_batch(
                "
ALTER TABLE records DROP COLUMN output_sum;
ALTER TABLE records DROP COLUMN reason_code;
ALTER TABLE records RENAME COLUMN mtime_ns TO modified_ns;
ALTER TABLE records RENAME COLUMN ctime_ns TO changed_ns;
ALTER TABLE records RENAME COLUMN out_mtime_ns TO out_modified_ns;
ALTER TABLE records RENAME COLUMN out_ctime_ns TO out_changed_ns;
PRAGMA user_version = 4",
            )
        })
        .expect("return to the schema of the older version");
    let found = Sqlite::open(&path).and_then(|ledger| ledger.record(record.id)).expect("migrate");
    let reason = record.reason.map(|reason| Reason::stored(None, reason.text));
    assert_eq!(found.and_then(|found| found.reason), reason);
}

/// Another program's transaction ended the service: nothing of a write was done, and the ledger
/// counted as broken.
#[test]
fn another_programs_write_delays_a_write_and_breaks_nothing() {
    let (_dir, path, ledger) = ledger();
    let pipeline = pipeline(&ledger);
    let other = Connection::open(&path).expect("open");
    other.execute_batch("BEGIN IMMEDIATE").expect("begin");
    let intent = record(&ledger, pipeline, "a".as_ref(), State::Intent);
    let refused = ledger.append(std::slice::from_ref(&intent), Flush::Now).expect_err("busy");
    assert_eq!(refused.kind, ErrorKind::Busy, "{}", refused.source);
    assert_eq!(ledger.unfinished().expect("list"), []);
    other.execute_batch("COMMIT").expect("commit");
    ledger.append(std::slice::from_ref(&intent), Flush::Now).expect("append");
    assert_eq!(ledger.unfinished().expect("list"), [intent]);
}

/// The stop waited for ten seconds, and ended as a failure of storage.
#[test]
fn a_lasting_reader_does_not_hold_up_the_end() {
    let (_dir, path, ledger) = ledger();
    ledger.join("boot").expect("join");
    ledger.session().mark_recovered();
    let reader = Connection::open(&path).expect("open");
    reader.execute_batch("BEGIN; SELECT count(*) FROM records").expect("read");
    let pipeline = pipeline(&ledger);
    let done = record(&ledger, pipeline, "a".as_ref(), State::Done);
    ledger.append(&[done], Flush::Deferred).expect("append");
    let start = Instant::now();
    ledger.leave().expect("leave");
    assert!(start.elapsed() < BUSY_TIMEOUT / 2, "{:?}", start.elapsed());
    drop((reader, ledger));
    let reopened = Sqlite::open(&path).expect("open");
    assert_eq!(reopened.join("boot").expect("join"), PreviousShutdown::Clean);
}

#[test]
fn the_log_is_checkpointed_before_it_grows_long() {
    let (_dir, path, ledger) = ledger();
    let pipeline = pipeline(&ledger);
    for number in 0..2000 {
        let name = number.to_string();
        let done = record(&ledger, pipeline, name.as_ref(), State::Done);
        ledger.append(&[done], Flush::Deferred).expect("append");
    }
    let log = path.with_extension("sqlite-wal").metadata().expect("the log").len();
    assert!(log < 1100 * 4200, "{log} bytes");
}

/// A deferred write was durable only with the kernel's own writeback, 30 seconds later.
#[test]
fn a_deferred_write_is_flushed_after_its_wait() {
    let (_dir, _path, ledger) = ledger();
    let pipeline = pipeline(&ledger);
    let flushes = || -> i64 {
        let sql = "SELECT coalesce(max(value), 0) FROM meta WHERE name = 'flushes'";
        ledger
            .reader
            .lock()
            .query_row(sql, [], |row| row.get::<_, String>(0))
            .map_or(0, |value| value.parse().expect("a number"))
    };
    ledger.flush(Duration::ZERO).expect("nothing to flush");
    assert_eq!(flushes(), 0);
    let done = record(&ledger, pipeline, "a".as_ref(), State::Done);
    ledger.append(std::slice::from_ref(&done), Flush::Deferred).expect("append");
    ledger.flush(Duration::from_hours(1)).expect("too soon");
    assert_eq!(flushes(), 0);
    for _ in 0..2 {
        ledger.flush(Duration::ZERO).expect("flush");
        assert_eq!(flushes(), 1, "once");
    }
    ledger.append(std::slice::from_ref(&done), Flush::Deferred).expect("append");
    ledger.append(&[done], Flush::Now).expect("append");
    ledger.flush(Duration::ZERO).expect("durable with the other");
    assert_eq!(flushes(), 1);
}

/// The write-ahead log is empty after a clean stop.
#[test]
fn a_clean_stop_leaves_no_log() {
    let (_dir, path, ledger) = ledger();
    ledger.join("boot").expect("join");
    ledger.session().mark_recovered();
    ledger.leave().expect("leave");
    assert!(!path.with_extension("sqlite-wal").metadata().is_ok_and(|wal| wal.len() > 0));
}

/// Records of several pages each.
const LEFT: i64 = 60;

/// A log that a kill left, too short for a checkpoint, and the bytes of it and of the database.
fn left_by_a_kill() -> (tempfile::TempDir, PathBuf, [u64; 2]) {
    let (dir, path, ledger) = ledger();
    let pipeline = pipeline(&ledger);
    for number in 0..LEFT {
        let source = format!("{number} {}", "long ".repeat(4000));
        let record = record(&ledger, pipeline, source.as_ref(), State::Done);
        ledger.append(&[record], Flush::Deferred).expect("append");
    }
    drop(ledger);
    let sizes = sizes(&path);
    (dir, path, sizes)
}

fn sizes(path: &Path) -> [u64; 2] {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    [log.as_os_str(), path.as_os_str()].map(|path| std::fs::metadata(path).expect("a file").len())
}

/// Closing a ledger moved its log into the database, and dropped the errors of that.
#[test]
fn only_the_service_moves_the_log_into_the_database() {
    let (_dir, path, [log, database]) = left_by_a_kill();
    let command = Sqlite::open_existing(&path).expect("open next to a service");
    for state in [State::Requeued, State::Done].repeat(4) {
        for id in 1..=LEFT {
            command.set_states(&[(id, state, None)], Flush::Deferred).expect("mark");
        }
    }
    drop(command);
    let [longer, same] = sizes(&path);
    assert!(longer > log && same == database, "{log} -> {longer}, {database} -> {same}");
    drop(Sqlite::open(&path).expect("open"));
    let [log, larger] = sizes(&path);
    assert!(log == 0 && larger > database, "{log}, {database} -> {larger}");
}

/// SQLite keeps the log where a link leads.
#[test]
fn the_log_of_a_linked_ledger_is_repaired() {
    let (dir, path, _) = left_by_a_kill();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&path, &link).expect("link");
    drop(Sqlite::open(&link).expect("open"));
    assert_eq!(sizes(&path)[0], 0);
}

/// The pages of removed records are used again.
#[test]
fn a_ledger_whose_old_records_go_does_not_grow() {
    const RECORDS: usize = 4000;
    let (_dir, path, ledger) = ledger();
    let pipeline = pipeline(&ledger);
    let mut bytes = Vec::new();
    for round in 0..10 {
        let of = |number: usize| {
            let source = format!("day-{round}/file-{number}");
            record(&ledger, pipeline, source.as_ref(), State::Done)
        };
        let records: Vec<_> = (0..RECORDS).map(of).collect();
        for batch in records.chunks(256) {
            ledger.append(batch, Flush::Deferred).expect("append");
        }
        let (mut after, mut removed) = (0, 0);
        loop {
            let page = ledger.finished(after, 512).expect("list");
            let Some(last) = page.last() else { break };
            after = last.id;
            let ids: Vec<_> = page.iter().map(|record| record.id).collect();
            removed += ledger.remove_records(&ids).expect("remove");
        }
        assert!(removed >= RECORDS as u64 - 1, "{removed} in round {round}");
        let [log, database] = sizes(&path);
        bytes.push(log + database);
    }
    let (first, most) = (bytes[1], bytes.iter().max().expect("ten rounds"));
    assert!(*most <= first + first / 10, "{bytes:?}");
}
