//! Another program that works on the files of a service while that runs, or is killed: it appends to the events file and
//! reads it, and holds transactions on the ledger.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::{harness::PATIENCE, prove::Random};

/// The ledger that its lines name.
pub const ANOTHER_LEDGER: &str = "another";

/// What a program may hold a ledger with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// Nobody else writes meanwhile.
    Writing,
    /// The log cannot be moved into the database as a whole meanwhile.
    Reading,
}

/// Holds a transaction on a ledger for this long, if there is one and it can be begun. It changes nothing.
pub fn hold(ledger: &Path, transaction: Transaction, time: Duration) {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(ledger) = Connection::open_with_flags(ledger, flags) else { return };
    ledger.busy_timeout(PATIENCE).expect("set up");
    let begun = match transaction {
        Transaction::Writing => ledger.execute_batch("BEGIN IMMEDIATE"),
        Transaction::Reading => ledger
            .execute_batch("BEGIN")
            .and_then(|()| ledger.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))),
    };
    if begun.is_ok() {
        std::thread::park_timeout(time);
    }
}

/// Appends a whole line in one write, as programs do that share a log.
pub fn append(events: &Path, line: &Value) {
    if let Ok(mut file) = fs::File::options().append(true).create(true).open(events) {
        file.write_all(format!("{line}\n").as_bytes()).expect("append");
    }
}

/// The whole lines of the service itself. Half a line that a kill left may have another program's behind it, which is
/// no line of either then.
pub fn own_lines(events: &Path) -> Vec<Value> {
    let text = fs::read_to_string(events).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let own = whole.filter_map(|line| {
        let event: Option<Value> = serde_json::from_str(line).ok();
        let is_joined = event.is_none() && line.contains(ANOTHER_LEDGER);
        assert!(event.is_some() || is_joined, "no JSON line: {line}");
        event.filter(|event| event["ledger"] != ANOTHER_LEDGER)
    });
    own.collect()
}

/// The running program. Dropping it ends it.
pub struct Neighbour {
    is_ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    pub fn start(events: PathBuf, ledger: PathBuf, seed: u64) -> Self {
        let is_ended = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_ended);
        let mut random = Random::new(seed ^ 0x4e16);
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Acquire) {
                act(&events, &ledger, &mut random);
                std::thread::park_timeout(Duration::from_micros(random.below(8_000)));
            }
        });
        Self { is_ended, thread: Some(thread) }
    }
}

fn act(events: &Path, ledger: &Path, random: &mut Random) {
    // Mostly for a moment, so that the service gets on; sometimes longer than it waits within one call.
    let most_micros = if random.below(16) == 0 { 300_000 } else { 3_000 };
    let time = Duration::from_micros(random.below(most_micros));
    match random.below(4) {
        0 => hold(ledger, Transaction::Writing, time),
        1 => hold(ledger, Transaction::Reading, time),
        2 => drop(own_lines(events)),
        _ => append(
            events,
            &serde_json::json!({
                "time": "2026-01-01T00:00:00Z",
                "id": 1 + random.below(1_000),
                "ledger": ANOTHER_LEDGER,
                "pipeline": "main",
                "outcome": "published",
                "source": "a",
            }),
        ),
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.is_ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the other program failed");
        }
    }
}
