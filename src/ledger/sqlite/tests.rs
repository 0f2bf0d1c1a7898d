use std::{os::unix::ffi::OsStrExt, time::Instant};

use super::{connection::BUSY_TIMEOUT, *};
use crate::{
    fingerprint::Fingerprint,
    ledger::{Output, Replaced},
    policy::OnSuccess,
};

fn ledger() -> (tempfile::TempDir, PathBuf, Sqlite) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("ledger.sqlite");
    let ledger = Sqlite::open(&path).expect("open");
    (dir, path, ledger)
}

fn identity(inode: u64) -> Fingerprint {
    Fingerprint { device: u64::MAX, inode, size: 3, modified_ns: -1, changed_ns: i64::MAX }
}

fn record(ledger: &Sqlite, pipeline: PipelineId, source: &Path, state: State) -> Record {
    Record {
        id: ledger.next_id(),
        pipeline,
        source: source.to_path_buf(),
        identity: identity(1),
        output: Some(Output {
            path: source.with_extension("zst"),
            temp: "temp".into(),
            identity: identity(2),
            hash: [7; 32],
            source_hash: [8; 32],
            replaces: Some(Replaced { identity: identity(u64::MAX), hash: Some([9; 32]) }),
            transforms: "zstd:3".into(),
        }),
        on_success: OnSuccess::Archive("/archive".into()),
        state,
        reason: Some("a reason".into()),
        moved_to: Some("/quarantine/a".into()),
        at_ns: 5,
    }
}

fn pipeline(ledger: &Sqlite) -> PipelineId {
    ledger.pipeline("main", "/in".as_ref(), "/out".as_ref()).expect("register")
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let (_dir, path, ledger) = ledger();
    let pipeline = pipeline(&ledger);
    let name = Path::new(std::ffi::OsStr::from_bytes(b"\xff\n\x00name"));
    let record = record(&ledger, pipeline, name, State::Done);
    ledger.append(std::slice::from_ref(&record), Flush::Now).expect("append");
    assert_eq!(ledger.latest(pipeline, name).expect("look up"), Some(record.clone()));
    assert_eq!(ledger.record(record.id).expect("look up"), Some(record.clone()));
    drop(ledger);
    let reopened = Sqlite::open(&path).expect("open again");
    assert_eq!(reopened.latest(pipeline, name).expect("look up"), Some(record.clone()));
    assert!(reopened.next_id() > record.id);
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
fn the_newest_record_that_counts_is_the_latest() {
    let (_dir, _, ledger) = ledger();
    let pipeline = pipeline(&ledger);
    let source = Path::new("a");
    let done = record(&ledger, pipeline, source, State::Done);
    let withdrawn = record(&ledger, pipeline, source, State::Withdrawn);
    let quarantined = record(&ledger, pipeline, source, State::Quarantined);
    ledger.append(&[done.clone(), withdrawn], Flush::Deferred).expect("append");
    assert_eq!(ledger.latest(pipeline, source).expect("look up"), Some(done.clone()));
    ledger.append(std::slice::from_ref(&quarantined), Flush::Deferred).expect("append");
    assert_eq!(ledger.latest(pipeline, source).expect("look up"), Some(quarantined));
    let output = ledger.latest_for_output(pipeline, "a.zst".as_ref()).expect("look up");
    assert_eq!(output, Some(done));
    assert_eq!(ledger.latest(pipeline + 1, source).expect("look up"), None);
}

#[test]
fn a_record_of_the_same_number_replaces_and_a_mark_changes_its_state() {
    let (_dir, _, ledger) = ledger();
    let pipeline = pipeline(&ledger);
    let intent = record(&ledger, pipeline, "a".as_ref(), State::Intent);
    ledger.append(std::slice::from_ref(&intent), Flush::Now).expect("append");
    ledger.append(std::slice::from_ref(&intent), Flush::Now).expect("append again");
    assert_eq!(ledger.unfinished().expect("list"), std::slice::from_ref(&intent));
    ledger.mark(&[(intent.id, State::Published, None)], Flush::Deferred).expect("mark");
    let published = Record { state: State::Published, ..intent.clone() };
    assert_eq!(ledger.unfinished().expect("list"), [published]);
    let why = Some("why".to_owned());
    ledger.mark(&[(intent.id, State::Withdrawn, why.clone())], Flush::Now).expect("mark");
    assert_eq!(ledger.unfinished().expect("list"), []);
    let found = ledger.record(intent.id).expect("look up").expect("a record");
    assert_eq!((found.state, found.reason), (State::Withdrawn, why));
}

#[test]
fn a_stop_without_an_end_is_unclean() {
    let (_dir, path, ledger) = ledger();
    assert_eq!(ledger.begin("boot").expect("begin"), PreviousShutdown::Clean);
    drop(ledger);
    let ledger = Sqlite::open(&path).expect("open");
    assert_eq!(ledger.begin("boot").expect("begin"), PreviousShutdown::Unclean);
    ledger.mark_recovered();
    ledger.end("boot").expect("end");
    assert!(!path.with_extension("sqlite-wal").metadata().is_ok_and(|wal| wal.len() > 0));
    drop(ledger);
    let ledger = Sqlite::open(&path).expect("open");
    assert_eq!(ledger.begin("boot").expect("begin"), PreviousShutdown::Clean);
    ledger.mark_recovered();
    ledger.end("boot").expect("end");
    // Power may have failed since, and brought back what was removed before.
    assert_eq!(ledger.begin("another boot").expect("begin"), PreviousShutdown::Unclean);
}

/// A signal between the ledger's opening and the end of recovery stopped the service in good order,
/// and the leftovers of the previous run were never swept.
#[test]
fn a_stop_before_recovery_completed_is_as_unclean_as_the_previous_one() {
    let (_dir, path, ledger) = ledger();
    ledger.begin("boot").expect("begin");
    drop(ledger);
    let ledger = Sqlite::open(&path).expect("open");
    ledger.end("boot").expect("a stop before recovery");
    assert_eq!(ledger.begin("boot").expect("begin"), PreviousShutdown::Unclean);
    ledger.end("boot").expect("a stop within it");
    drop(ledger);
    let ledger = Sqlite::open(&path).expect("open");
    assert_eq!(ledger.begin("boot").expect("begin"), PreviousShutdown::Unclean);
    ledger.mark_recovered();
    ledger.end("boot").expect("a clean stop");
    assert_eq!(ledger.begin("boot").expect("begin"), PreviousShutdown::Clean);
}

#[test]
fn the_instance_stays_and_the_pipelines_name_follows() {
    let (_dir, path, ledger) = ledger();
    let instance = ledger.instance().to_owned();
    assert_eq!(instance.len(), 8);
    let first = pipeline(&ledger);
    let renamed = ledger.pipeline("other", "/in".as_ref(), "/out".as_ref()).expect("register");
    let second = ledger.pipeline("main", "/in2".as_ref(), "/out".as_ref()).expect("register");
    assert_eq!(first, renamed);
    assert_ne!(first, second);
    let names: Vec<_> = ledger.roots().expect("list").into_iter().map(|roots| roots.name).collect();
    assert_eq!(names, ["other", "main"]);
    drop(ledger);
    assert_eq!(Sqlite::open(&path).expect("open").instance(), instance);
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
    assert!(viewer.mark(&[(quarantined.id, State::Done, None)], Flush::Now).is_err());
    let requeue = Sqlite::open(&path).expect("open to write");
    requeue.mark(&[(quarantined.id, State::Requeued, None)], Flush::Now).expect("mark");
    let latest = service.latest(pipeline, "a".as_ref()).expect("look up").expect("a record");
    assert_eq!(latest.state, State::Requeued);
}

#[test]
fn the_history_is_newest_first_and_filtered() {
    let (_dir, _, ledger) = ledger();
    let pipeline = pipeline(&ledger);
    let records: Vec<Record> = (0..5)
        .map(|number| Record {
            at_ns: number,
            ..record(&ledger, pipeline, Path::new(&number.to_string()), State::Done)
        })
        .collect();
    ledger.append(&records, Flush::Now).expect("append");
    let query = HistoryQuery { since_ns: Some(2), limit: Some(2), ..HistoryQuery::default() };
    let found: Vec<i64> =
        ledger.history(&query).expect("history").iter().map(|record| record.at_ns).collect();
    assert_eq!(found, [4, 3]);
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
    ledger.begin("boot").expect("begin");
    ledger.mark_recovered();
    let reader = Connection::open(&path).expect("open");
    reader.execute_batch("BEGIN; SELECT count(*) FROM records").expect("read");
    let pipeline = pipeline(&ledger);
    let done = record(&ledger, pipeline, "a".as_ref(), State::Done);
    ledger.append(&[done], Flush::Deferred).expect("append");
    let start = Instant::now();
    ledger.end("boot").expect("end");
    assert!(start.elapsed() < BUSY_TIMEOUT / 2, "{:?}", start.elapsed());
    drop((reader, ledger));
    let reopened = Sqlite::open(&path).expect("open");
    assert_eq!(reopened.begin("boot").expect("begin"), PreviousShutdown::Clean);
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
            .reader()
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

#[test]
fn numbers_in_the_events_file_are_not_given_again() {
    let (_dir, _path, ledger) = ledger();
    ledger.skip_ids(41);
    assert_eq!(ledger.next_id(), 42);
    ledger.skip_ids(7);
    ledger.skip_ids(RecordId::MAX);
    assert_eq!(ledger.next_id(), 43);
}

#[test]
fn records_of_this_boot_are_recognized_after_a_restart_and_not_after_another_boot() {
    let (_dir, path, ledger) = ledger();
    let pipeline = pipeline(&ledger);
    ledger.begin("one").expect("begin");
    let stored = record(&ledger, pipeline, "a".as_ref(), State::Done);
    ledger.append(std::slice::from_ref(&stored), Flush::Now).expect("append");
    assert!(ledger.is_of_this_boot(stored.id) && ledger.is_of_this_run(stored.id));
    drop(ledger);
    for (boot, is_of_boot) in [("one", true), ("two", false), ("", false)] {
        let reopened = Sqlite::open(&path).expect("open again");
        reopened.begin(boot).expect("begin");
        assert_eq!(reopened.is_of_this_boot(stored.id), is_of_boot, "{boot}");
        assert!(!reopened.is_of_this_run(stored.id));
    }
}

/// While another program held the ledger, postponed updates were written over later ones.
#[test]
fn a_late_publication_update_undoes_no_later_update() {
    let (_dir, _path, ledger) = ledger();
    let pipeline = pipeline(&ledger);
    let stored = record(&ledger, pipeline, "a".as_ref(), State::Intent);
    ledger.append(std::slice::from_ref(&stored), Flush::Now).expect("append");
    for (state, expected) in [
        (State::Published, State::Published),
        (State::Done, State::Done),
        (State::Published, State::Done),
        (State::Requeued, State::Requeued),
        (State::Published, State::Requeued),
    ] {
        ledger.mark(&[(stored.id, state, None)], Flush::Now).expect("mark");
        let found = ledger.record(stored.id).expect("look up").expect("there");
        assert_eq!(found.state, expected, "after {state}");
    }
}

#[test]
fn an_output_that_is_made_again_still_belongs_to_its_source() {
    let (_dir, _path, ledger) = ledger();
    let pipeline = pipeline(&ledger);
    let stored = record(&ledger, pipeline, "a".as_ref(), State::Done);
    ledger.append(std::slice::from_ref(&stored), Flush::Now).expect("append");
    for state in [State::Requeued, State::Changed] {
        ledger.mark(&[(stored.id, state, None)], Flush::Now).expect("mark");
        let found = ledger.latest_published(pipeline, "a".as_ref()).expect("look up");
        assert_eq!(found.map(|record| record.id), Some(stored.id), "{state}");
    }
}
