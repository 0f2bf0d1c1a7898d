//! Shutdown at random instants: the deadline is kept, the exit code is right, the service
//! manager is notified, and the next start finishes what was left.
//!
//! `PROVE_COUNT` asks for more runs; from 1,000 on the aims themselves are asserted, which a machine
//! that runs other tests at the same time cannot promise.

#![cfg(feature = "failpoints")]
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by a panic")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{self, LINKS, Service, Tree};
use crate::manager::Manager;
use crate::prove::{self, Random};
use crate::stuck::Stuck;
use rusqlite::Connection;
use rustix::process::Signal;
use tidemill::ledger::{Ledger, sqlite::Sqlite};

const DEADLINES: [(&str, Duration); 4] = [
    ("0", Duration::ZERO),
    ("100ms", Duration::from_millis(100)),
    ("1s", Duration::from_secs(1)),
    ("25s", Duration::from_secs(25)),
];
const DISPOSITIONS: [&str; 3] = ["keep", "delete", "archive"];

fn pick<T: Copy>(random: &mut Random, all: &[T]) -> T {
    all[usize::try_from(random.below(all.len() as u64)).expect("an index")]
}

/// What else happens in a run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Also {
    /// Outputs get their names by links.
    Links,
    /// Sources are finished by a marker.
    Markers,
    /// The producer goes on until the end.
    Producer,
    /// The service manager reads no message.
    UnreadSocket,
    /// A reload comes just before the first signal.
    Reload,
    /// Another program is in a transaction of the ledger from before the first signal.
    BusyLedger,
}

/// What is varied in one run.
#[derive(Debug)]
struct Plan {
    on_success: &'static str,
    deadline: (&'static str, Duration),
    /// From the start, or from READY, to the first signal.
    wait: Duration,
    from_ready: bool,
    /// After the first: how long after the one before.
    more_signals: Vec<Duration>,
    /// Makes work last, so that the drain has something to wait for.
    failpoints: &'static str,
    also: Vec<Also>,
}

impl Plan {
    fn random(random: &mut Random) -> Self {
        let micros = |random: &mut Random, most| Duration::from_micros(random.below(most));
        let more = pick(random, &[0, 0, 0, 1, 1, 2]);
        let from_ready = random.below(4) > 0;
        let odds = [
            (Also::Links, 4),
            (Also::Markers, 4),
            (Also::Producer, 2),
            (Also::UnreadSocket, 6),
            (Also::Reload, 3),
            (Also::BusyLedger, 6),
        ];
        let mut also: Vec<_> =
            odds.into_iter().filter(|(_, count)| random.below(*count) == 0).collect();
        // Before READY there is neither a ledger nor anything to reload.
        also.retain(|(one, _)| from_ready || !matches!(one, Also::Reload | Also::BusyLedger));
        Self {
            on_success: pick(random, &DISPOSITIONS),
            deadline: pick(random, &DEADLINES),
            wait: micros(random, 120_000),
            from_ready,
            more_signals: (0..more).map(|_| micros(random, 20_000)).collect(),
            failpoints: pick(random, &["", "write=sleep(3)", "commit::sync=sleep(20)"]),
            also: also.into_iter().map(|(one, _)| one).collect(),
        }
    }

    fn has(&self, one: Also) -> bool {
        self.also.contains(&one)
    }

    /// The service on this tree, by a configuration file that it can reload.
    fn command(&self, tree: &Tree, more: &[&str]) -> Command {
        let on_success = match self.on_success {
            "archive" => format!("archive:{}", tree.path("archive").display()),
            other => other.to_owned(),
        };
        let marker = if self.has(Also::Markers) { "marker = \".done\"\n" } else { "" };
        let config = format!(
            "state_dir = \"out/.tidemill\"\nevents = \"events\"\nshutdown_deadline = \"{}\"\n\
             [[pipeline]]\ninput = \"in\"\noutput = \"out\"\non_success = \"{on_success}\"\n{marker}",
            self.deadline.0,
        );
        fs::write(tree.path("config.toml"), config).expect("configuration");
        let mut command = tree.configured("config.toml");
        command.args(more).env("FAILPOINTS", if self.has(Also::Links) { LINKS } else { "" });
        command
    }

    fn finish(&self, path: &Path) {
        if self.has(Also::Markers) {
            fs::write(marker_of(path), "").expect("a marker");
        }
    }
}

/// How a run ended.
struct Ended {
    code: i32,
    took: Duration,
    messages: Vec<String>,
}

fn marker_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".done");
    name.into()
}

fn run(plan: &Plan, tree: &mut Tree) -> Ended {
    for path in tree.contents.keys() {
        plan.finish(&tree.path("in").join(path));
    }
    let manager = Manager::new(&tree.path("notify"));
    if plan.has(Also::UnreadSocket) {
        manager.fill();
    }
    let mut command = plan.command(tree, &[]);
    let links = if plan.has(Also::Links) { LINKS } else { "" };
    command.env("FAILPOINTS", format!("{links};{}", plan.failpoints));
    let service =
        Service::from(command.env("NOTIFY_SOCKET", manager.path()).spawn().expect("start"));
    if plan.from_ready {
        harness::until("it is ready", || tree.log().contains("phase=READY"));
    }
    let goes_on = AtomicBool::new(plan.has(Also::Producer));
    let input = tree.path("in");
    let (ended, produced) = thread::scope(|scope| {
        let producer = scope.spawn(|| produce(plan, &input, &goes_on));
        thread::park_timeout(plan.wait);
        tree.put("late/file.log", b"came just before the signal");
        plan.finish(&input.join("late/file.log"));
        let ended = stop(plan, tree, service);
        goes_on.store(false, Ordering::Relaxed);
        (ended, producer.join().expect("a producer"))
    });
    tree.contents.extend(produced);
    let (code, took) = ended;
    Ended { code, took, messages: manager.messages() }
}

/// Puts small files into the input until it is stopped, and returns them.
fn produce(plan: &Plan, input: &Path, goes_on: &AtomicBool) -> Vec<(PathBuf, Vec<u8>)> {
    let mut produced = Vec::new();
    fs::create_dir_all(input.join("more")).expect("directory");
    while goes_on.load(Ordering::Relaxed) && produced.len() < 500 {
        let path = PathBuf::from(format!("more/{}.log", produced.len()));
        let content = format!("file {} of a producer that goes on", produced.len()).into_bytes();
        fs::write(input.join(&path), &content).expect("write");
        plan.finish(&input.join(&path));
        produced.push((path, content));
        thread::park_timeout(Duration::from_micros(500));
    }
    produced
}

/// Sends the signals, and waits for the end: its exit code, and how long it took.
fn stop(plan: &Plan, tree: &Tree, service: Service) -> (i32, Duration) {
    let _writer = plan.has(Also::BusyLedger).then(|| {
        let writer = Connection::open(tree.path("out/.tidemill/ledger.sqlite")).expect("open");
        writer.busy_timeout(harness::PATIENCE).expect("set up");
        writer.execute_batch("BEGIN IMMEDIATE").expect("begin");
        writer
    });
    if plan.has(Also::Reload) {
        service.signal(Signal::HUP);
    }
    let start = Instant::now();
    service.signal(Signal::TERM);
    // Two of one kind that come at once count as one.
    for (wait, kind) in
        plan.more_signals.iter().zip([Signal::INT, Signal::TERM].into_iter().cycle())
    {
        thread::park_timeout(*wait);
        service.signal(kind);
    }
    (service.wait(), start.elapsed())
}

/// Killed by a signal before it was registered: nothing had begun. Of two that wait, SIGINT comes first.
const BEFORE_MAIN: [i32; 2] = [-15, -2];

fn judge(plan: &Plan, ended: &Ended, tree: &Tree) {
    let Ended { code, took, messages } = ended;
    let what = || format!("{plan:?}: {code} after {took:?}, {messages:?}\n{}", tree.log());
    assert!(
        [0, 75].contains(code) || (!plan.from_ready && BEFORE_MAIN.contains(code)),
        "{}",
        what()
    );
    tree.assert_nothing_lost(plan.on_success);
    // Who leaves at once, at a deadline of nothing, may have had no time to say so.
    if plan.from_ready && !plan.has(Also::UnreadSocket) && !tree.log().contains("stopped at once") {
        assert!(messages.iter().any(|message| message.contains("STOPPING=1")), "{}", what());
    }
    if *code == 0 {
        let ledger = tree.path("out/.tidemill/ledger.sqlite");
        match Sqlite::open_read_only(&ledger) {
            Ok(ledger) => {
                assert_eq!(ledger.unfinished().expect("its records"), [], "{}", what());
            }
            // A signal before it was made, or while it was, leaves nothing that it could hold.
            Err(error) => assert!(!plan.from_ready, "{error}: {}", what()),
        }
        tree.assert_no_leftovers();
    }
    if *code == 75 {
        // Half of a short deadline is kept for the last commit.
        let had_time = plan.more_signals.is_empty() && *took < plan.deadline.1 / 2;
        assert!(
            !had_time || plan.has(Also::BusyLedger),
            "work was left, though there was time: {}",
            what()
        );
    }
}

#[test]
fn a_signal_at_any_instant_ends_the_service_in_time_and_reports_the_truth() {
    let mut random = Random::new(prove::seed());
    let (mut codes, mut latest) = (BTreeMap::<i32, usize>::new(), Duration::ZERO);
    let runs = prove::count(40);
    for _ in 0..runs {
        let plan = Plan::random(&mut random);
        let mut tree = Tree::with(60, 2);
        let ended = run(&plan, &mut tree);
        judge(&plan, &ended, &tree);
        *codes.entry(ended.code).or_default() += 1;
        let late = ended.took.saturating_sub(plan.deadline.1);
        assert!(
            late <= prove::allowed(Duration::from_millis(250)),
            "{plan:?}: {late:?}\n{}",
            tree.log()
        );
        latest = latest.max(late);
        let next = Service::from(plan.command(&tree, &["--once"]).spawn().expect("start"));
        assert_eq!(next.wait(), 0, "{plan:?}\n{}", tree.log());
        for dir in ["in", "archive"] {
            for path in
                tree.files(dir).iter().filter(|path| path.extension() == Some("done".as_ref()))
            {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the producer takes its markers back"
                )]
                fs::remove_file(tree.path(dir).join(path)).expect("remove");
            }
        }
        tree.assert_done(plan.on_success);
    }
    let codes = format!("{codes:?}").replace(' ', "");
    prove::report(
        "shutdown at random instants",
        &[
            ("runs", &runs),
            ("exit_codes", &codes),
            ("latest_after_deadline_ms", &latest.as_millis()),
            ("violations", &0),
        ],
    );
}

/// One pipeline's source hangs in a read, the other one works: the deadline holds, and the exit code is 75 as
/// soon as the one that hangs was begun.
#[test]
fn a_signal_while_a_file_system_hangs_ends_the_service_in_time() {
    const CONFIG: &str = "state_dir = \"state\"\n\
        [[pipeline]]\nname = \"stuck\"\ninput = \"stuck\"\noutput = \"out-stuck\"\n\
        [[pipeline]]\nname = \"well\"\ninput = \"in\"\noutput = \"out\"\n";
    let mut random = Random::new(prove::seed());
    let (mut codes, mut latest) = (BTreeMap::<i32, usize>::new(), Duration::ZERO);
    let runs = prove::count(10);
    for _ in 0..runs {
        let plan =
            Plan { deadline: pick(&mut random, &DEADLINES[..3]), ..Plan::random(&mut random) };
        let tree = Tree::with(60, 2);
        fs::write(tree.path("config.toml"), CONFIG).expect("configuration");
        let Some(stuck) = Stuck::mounted(&tree, "a signal while a file system hangs", false) else {
            return;
        };
        let manager = Manager::new(&tree.path("notify"));
        let mut command = tree.configured("config.toml");
        command.args(["--shutdown-deadline", plan.deadline.0]);
        command.env("NOTIFY_SOCKET", manager.path());
        let service = Service::from(command.spawn().expect("start"));
        // Declared after the service, so dropped before it.
        let stuck = stuck;
        manager.until("READY=1");
        thread::park_timeout(plan.wait);
        let was_begun = stuck.asked.load(Ordering::Relaxed);
        let start = Instant::now();
        service.signal(Signal::TERM);
        let code = service.wait();
        let what = || format!("{plan:?}: {code}\n{}", tree.log());
        assert!(code == 75 || (code == 0 && !was_begun), "{}", what());
        let late = start.elapsed().saturating_sub(plan.deadline.1);
        assert!(late <= prove::allowed(Duration::from_millis(250)), "{late:?}: {}", what());
        latest = latest.max(late);
        tree.assert_nothing_lost("keep");
        assert!(
            tree.files("out-stuck").iter().all(|path| path.to_string_lossy().ends_with(".tmp"))
        );
        *codes.entry(code).or_default() += 1;
        stuck.release();
        let mut command = tree.configured("config.toml");
        assert_eq!(
            Service::from(command.arg("--once").spawn().expect("start")).wait(),
            0,
            "{}",
            what()
        );
        assert_eq!(tree.files("out-stuck").len(), 1, "{}", what());
        assert_eq!(tree.files("out").len(), tree.contents.len(), "{}", what());
    }
    let codes = format!("{codes:?}").replace(' ', "");
    prove::report(
        "shutdown with a file system that hangs",
        &[
            ("runs", &runs),
            ("exit_codes", &codes),
            ("latest_after_deadline_ms", &latest.as_millis()),
            ("violations", &0),
        ],
    );
}

#[test]
fn an_idle_service_ends_at_once() {
    let runs = prove::count(20);
    let tree = Tree::new();
    let mut times = Vec::with_capacity(runs);
    for number in 0..runs {
        let manager = Manager::new(&tree.path(&format!("notify{number}")));
        let mut command = tree.command("keep", &[]);
        command.env("NOTIFY_SOCKET", manager.path());
        let service = Service::from(command.spawn().expect("start"));
        manager.until("READY=1");
        let start = Instant::now();
        service.signal(Signal::TERM);
        assert_eq!(service.wait(), 0, "{}", tree.log());
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    prove::report(
        "idle shutdown",
        &[
            ("runs", &runs),
            ("p50_ms", &at(50).as_millis()),
            ("p99_ms", &at(99).as_millis()),
            ("most_ms", &at(100).as_millis()),
        ],
    );
    assert!(at(99) < prove::allowed(Duration::from_millis(100)), "{:?}", at(99));
}

/// A drain that lasts asks the service manager for more time, and gets done.
#[test]
fn a_long_drain_notifies_the_service_manager() {
    let tree = Tree::with(300, 0);
    let manager = Manager::new(&tree.path("notify"));
    let mut command = tree.command("delete", &[]);
    command.env("NOTIFY_SOCKET", manager.path()).env("FAILPOINTS", "write=sleep(100)");
    let service = Service::from(command.spawn().expect("start"));
    manager.until("READY=1");
    harness::until("work has begun", || !tree.files("out").is_empty());
    manager.until(" files/s, ");
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", tree.log());
    let messages = manager.messages();
    let is_draining = |message: &String| message.contains("STATUS=Draining, ");
    assert!(messages.iter().any(is_draining), "{messages:?}");
    let at = |what: &str| messages.iter().position(|message| message.contains(what));
    let (ready, stopping) = (at("READY=1"), at("STOPPING=1"));
    let extended = at("EXTEND_TIMEOUT_USEC=");
    assert!(ready < stopping && stopping <= extended, "{messages:?}");
    assert!(extended.is_some(), "{messages:?}");
}
