//! The ledger: what was written comes back, and a damaged one is an error or is read, never a panic.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use tempfile::TempDir;
use tidemill::{
    fingerprint::Fingerprint,
    ledger::{
        Flush, HistoryQuery, Ledger, Output, Record, Replaced, Result, State, sqlite::Sqlite,
    },
    policy::OnSuccess,
    reason::{Reason, ReasonCode},
    recovery,
    sink::{Sink, SinkOptions, local::Local},
    sync::Mutex,
};

use super::parameters;

const STATES: [State; 8] = [
    State::Intent,
    State::Published,
    State::Done,
    State::Withdrawn,
    State::Skipped,
    State::Quarantined,
    State::Requeued,
    State::Changed,
];

/// A place for the damaged one, and a whole one: the database, its log, and what the ledger returned
/// after each transaction of the log.
struct Whole {
    place: TempDir,
    database: Vec<u8>,
    log: Vec<u8>,
    histories: Vec<Vec<Record>>,
}

thread_local! {
    /// Removed at the end of the thread, which a static would not be.
    static WHOLE: Rc<Whole> = Rc::new(make().expect("a ledger"));
}

fn whole() -> Rc<Whole> {
    WHOLE.with(Rc::clone)
}

fn make() -> Result<Whole> {
    let place = tempfile::tempdir().expect("a directory");
    for dir in ["in", "out"] {
        fs::create_dir(place.path().join(dir)).expect("a directory");
    }
    let path = place.path().join("ledger.sqlite");
    let ledger = Sqlite::open(&path)?;
    let (input, output) = (place.path().join("in"), place.path().join("out"));
    let pipeline = ledger.register_pipeline("main", &input, &output)?;
    let mut records = Reader(&[0; 0]);
    let mut append = |ledger: &Sqlite, state: State| {
        let record = Record { id: ledger.session().next_id(), state, ..records.record(pipeline) };
        ledger.append(&[record], Flush::Now)
    };
    STATES.into_iter().try_for_each(|state| append(&ledger, state))?;
    // Everything so far goes into the database, what comes now into the log.
    ledger.session().mark_recovered();
    ledger.leave()?;
    let mut histories = Vec::new();
    for state in STATES {
        histories.push(ledger.history(&HistoryQuery::default())?);
        append(&ledger, state)?;
    }
    histories.push(ledger.history(&HistoryQuery::default())?);
    let read = |path: &Path| fs::read(path).expect("read");
    let (database, log) = (read(&path), read(&log_of(&path)));
    drop(ledger);
    Ok(Whole { place, database, log, histories })
}

fn log_of(path: &Path) -> PathBuf {
    path.with_extension("sqlite-wal")
}

/// Records from the bytes, or a ledger that was damaged as they say.
pub fn ledger(data: &[u8]) {
    let ([what], bytes) = parameters(data);
    match what % 4 {
        0 => records_come_back(bytes),
        1 => a_damaged_log_is_cut_where_it_is_damaged(bytes),
        2 => {
            let mut database = whole().database.clone();
            damage(&mut database, bytes);
            let log: &[u8] = if what & 4 == 0 { &whole().log } else { &[] };
            drop(open_and_ask(&database, log));
        }
        _ => {
            let (log, database) = bytes.split_at(usize::from(what / 4).min(bytes.len()));
            drop(open_and_ask(database, log));
        }
    }
}

fn records_come_back(bytes: &[u8]) {
    let path = whole().place.path().join("records.sqlite");
    remove(&path);
    let ledger = Sqlite::open(&path).expect("a new ledger");
    let pipeline =
        ledger.register_pipeline("main", Path::new("/in"), Path::new("/out")).expect("register");
    let record = Reader(bytes).record(pipeline);
    ledger.append(std::slice::from_ref(&record), Flush::Deferred).expect("append");
    assert_eq!(ledger.record(record.id).expect("read").as_ref(), Some(&record));
    let latest = ledger.latest(pipeline, &record.source).expect("read");
    assert_eq!(latest.as_ref(), (record.state != State::Withdrawn).then_some(&record));
    assert_eq!(ledger.unfinished().expect("read").len(), usize::from(record.state.is_unfinished()));
    drop(ledger);
    if let Ok(ledger) = Sqlite::open(&path) {
        assert_eq!(ledger.record(record.id).expect("read"), Some(record));
        ledger.session().next_id();
    }
}

/// SQLite's log has checksums: what is read is what was there after one of its transactions.
fn a_damaged_log_is_cut_where_it_is_damaged(bytes: &[u8]) {
    let mut log = whole().log.clone();
    damage(&mut log, bytes);
    if let Ok(history) = open_and_ask(&whole().database, &log) {
        assert!(whole().histories.contains(&history), "what was never there: {history:?}");
    }
}

/// Each five bytes write one, flip a bit, or cut the file.
fn damage(file: &mut Vec<u8>, bytes: &[u8]) {
    for damage in bytes.chunks_exact(5) {
        let &[low, middle, high, how, value] = damage else { continue };
        let place = u32::from_le_bytes([low, middle, high, 0]) as usize;
        let place = place % file.len().max(1);
        match (how, file.get_mut(place)) {
            (0..=9, _) => file.truncate(place),
            (10..=127, Some(byte)) => *byte ^= 1 << (value % 8),
            (_, Some(byte)) => *byte = value,
            (_, None) => {}
        }
    }
}

/// All that a start asks of it, and what recovery makes of the answers.
fn open_and_ask(database: &[u8], log: &[u8]) -> Result<Vec<Record>> {
    let path = whole().place.path().join("damaged.sqlite");
    remove(&path);
    fs::write(&path, database).expect("write");
    fs::write(log_of(&path), log).expect("write");
    let ledger = Sqlite::open(&path)?;
    let history = ledger.history(&HistoryQuery::default())?;
    ledger.join("boot")?;
    let events = Arc::new(Mutex::new(None));
    let open_sink = |name: &str, path: &Path| {
        let sink = Local::open(SinkOptions::offline(name, path, ledger.instance()))?;
        Ok(Arc::new(sink) as Arc<dyn Sink>)
    };
    if let Ok(found) = recovery::gather((&ledger, &open_sink), &events, &|_| false) {
        let plans: Vec<_> = found.facts.iter().map(recovery::plan).collect();
        assert_eq!(plans.len(), found.facts.len());
    }
    for record in &history {
        ledger.record(record.id)?;
        ledger.latest(record.pipeline, &record.source)?;
        ledger.latest_published(record.pipeline, &record.source)?;
    }
    let record = Record { id: ledger.session().next_id(), ..Reader(&[]).record(1) };
    ledger.append(&[record], Flush::Deferred)?;
    ledger.session().mark_recovered();
    ledger.leave()?;
    Ok(history)
}

fn remove(path: &Path) {
    for path in [path.to_path_buf(), log_of(path), path.with_extension("sqlite-shm")] {
        fs::remove_file(path).ok();
    }
}

/// Takes values off the bytes; zeros where there are no more.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const COUNT: usize>(&mut self) -> [u8; COUNT] {
        let (array, rest) = parameters(self.0);
        self.0 = rest;
        array
    }

    fn number(&mut self) -> i64 {
        i64::from_le_bytes(self.array())
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes.to_vec()
    }

    fn identity(&mut self) -> Fingerprint {
        Fingerprint {
            device: self.number().cast_unsigned(),
            inode: self.number().cast_unsigned(),
            size: self.number().cast_unsigned(),
            mtime_ns: self.number(),
            ctime_ns: self.number(),
        }
    }

    fn path(&mut self) -> PathBuf {
        OsString::from_vec(self.bytes()).into()
    }

    fn output(&mut self) -> Output {
        Output {
            path: self.path(),
            temp: OsString::from_vec(self.bytes()),
            identity: self.identity(),
            hash: self.array(),
            source_hash: self.array(),
            replaces: (self.byte() % 2 == 1).then(|| Replaced {
                identity: self.identity(),
                hash: (self.byte() % 2 == 1).then(|| self.array()),
                sha256: (self.byte() % 2 == 1).then(|| self.array()),
            }),
            transforms: String::from_utf8_lossy(&self.bytes()).into_owned(),
            sha256: (self.byte() % 2 == 1).then(|| self.array()),
        }
    }

    fn reason(&mut self) -> Reason {
        let code = ReasonCode::ALL[usize::from(self.byte()) % ReasonCode::ALL.len()];
        Reason::new(code, String::from_utf8_lossy(&self.bytes()))
    }

    fn record(&mut self, pipeline: i64) -> Record {
        let choices = self.byte();
        Record {
            id: self.number(),
            pipeline,
            source: self.path(),
            identity: self.identity(),
            output: (choices & 1 == 0).then(|| self.output()),
            on_success: match choices >> 1 & 3 {
                0 => OnSuccess::Keep,
                1 => OnSuccess::Delete,
                _ => OnSuccess::Archive(self.path()),
            },
            state: STATES[usize::from(choices >> 3) % STATES.len()],
            reason: (choices & 64 != 0).then(|| self.reason()),
            moved_to: (choices & 128 != 0).then(|| self.path()),
            at_ns: self.number(),
        }
    }
}
