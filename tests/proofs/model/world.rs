//! The tree, what the model keeps of it, and the service that works on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    filesystems::odd::{self, Mounted, Oddities},
    harness::{LINKS, Service, Tree},
    model::steps::{Case, End, Hand, PATHS, Served, Step},
    neighbour::own_lines,
};

const KILLED: i32 = -9;
const TERMINATED: i32 = -15;
const QUARANTINED: i32 = 65;
const WORK_LEFT: i32 = 75;

/// BLAKE3, in hexadecimal.
pub type Hash = String;

pub fn hash(content: &[u8]) -> Hash {
    blake3::hash(content).to_hex().to_string()
}

/// What has an output's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    Nobody,
    /// A whole output of ours.
    Ours,
    /// A file of another program.
    Foreign,
    Directory,
}

/// A line of the events file that says "published".
#[derive(Clone, Debug)]
pub struct Line {
    pub id: i64,
    pub source: String,
    pub source_hash: Hash,
    pub output: String,
    pub output_hash: Hash,
}

/// What was done, for the report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub steps: u64,
    pub starts: u64,
    pub kills: u64,
    pub published: u64,
    pub taken: u64,
    pub quarantined: u64,
    pub redelivered: u64,
    pub reprocessed: u64,
}

impl Figures {
    pub fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.starts += other.starts;
        self.kills += other.kills;
        self.published += other.published;
        self.taken += other.taken;
        self.quarantined += other.quarantined;
        self.redelivered += other.redelivered;
        self.reprocessed += other.reprocessed;
    }
}

/// Slow file systems in user space. The clock of their server is behind, so that a file seems to have rested as long as one has
/// to whose writers the kernel does not report.
fn slow() -> Oddities {
    let (behind, latency) = (Duration::from_secs(3), Duration::from_micros(100));
    Oddities { behind, latency, ..Oddities::default() }
}

pub struct World {
    /// The file systems in user space, which are unmounted first.
    pub disks: Vec<Mounted>,
    pub tree: Tree,
    /// What other programs began and end by themselves.
    pub others: Vec<JoinHandle<()>>,
    pub served: Served,
    pub on_success: &'static str,
    pub on_exists: &'static str,
    links: bool,
    /// Contents made so far.
    pub written: usize,
    /// The content each producer last gave a path, and did not take back.
    pub now: BTreeMap<&'static str, Vec<u8>>,
    /// What producers began under temporary names, by the final one.
    pub begun: BTreeMap<&'static str, Vec<u8>>,
    /// Contents that came under a name whose source the service had disposed of.
    pub redelivered: BTreeSet<Hash>,
    /// How often a content appeared at a path, or was to be processed again: it is published as often at most.
    pub appeared: BTreeMap<(&'static str, Hash), usize>,
    /// The order in which contents appeared, whatever the path.
    pub order: Vec<Hash>,
    /// What had the output's name since the path's content appeared.
    pub holders: BTreeMap<&'static str, BTreeSet<Holder>>,
    /// Records whose acknowledged output somebody took or wrote over.
    pub taken: BTreeSet<i64>,
    /// Contents of other hands under outputs' names.
    pub foreign: BTreeMap<String, Vec<u8>>,
    pub figures: Figures,
}

/// The name that the output of this source has where nobody else has it.
pub fn output_of(path: &str) -> String {
    format!("{path}.zst")
}

/// The temporary name of a producer next to its final one.
pub fn temporary_of(path: &str) -> String {
    format!("{path}.part")
}

impl World {
    /// None where a file system in user space is asked for that cannot be mounted here.
    pub fn new(case: &Case) -> Option<Self> {
        let tree = Tree::new();
        fs::create_dir(tree.path("state")).expect("directory");
        let served = [("in", case.served.has_input()), ("out", case.served.has_output())];
        let served = served.iter().filter(|(_, is_served)| *is_served);
        let disks = served.map(|(dir, _)| odd::mount(&tree.path(dir), slow()));
        Some(Self {
            disks: disks.collect::<Option<_>>()?,
            tree,
            others: Vec::new(),
            served: case.served,
            on_success: case.on_success,
            on_exists: case.on_exists,
            links: case.links,
            written: 0,
            now: BTreeMap::new(),
            begun: BTreeMap::new(),
            redelivered: BTreeSet::new(),
            appeared: BTreeMap::new(),
            order: Vec::new(),
            holders: BTreeMap::new(),
            taken: BTreeSet::new(),
            foreign: BTreeMap::new(),
            figures: Figures::default(),
        })
    }

    pub fn ledger(&self) -> PathBuf {
        self.tree.path("state/ledger.sqlite")
    }

    /// Waits until the other programs have ended what they began.
    pub fn wait_for_others(&mut self) {
        for other in self.others.drain(..) {
            other.join().expect("another program");
        }
    }

    pub fn take(&mut self, step: &Step) {
        self.figures.steps += 1;
        match step {
            Step::Hand(hand) => self.hand(*hand),
            Step::Once => {
                let code = self.once();
                self.assert_code(code, &[0, QUARANTINED]);
            }
            Step::KilledAt(name, passes) => {
                let code = self.run_once(&format!("{name}={passes}*off->return(kill)"));
                self.ended(code, &[0, QUARANTINED, KILLED]);
            }
            Step::Hindered(failpoints) => {
                let code = self.run_once(failpoints);
                self.ended(code, &[0, QUARANTINED]);
            }
            Step::KilledAfter(micros) => {
                let service = self.start("", &["--once"]);
                std::thread::park_timeout(Duration::from_micros((*micros).into()));
                service.signal(Signal::KILL);
                self.ended(service.wait(), &[0, QUARANTINED, KILLED]);
            }
            // What was removed cannot be kept, nor archived: only what was kept has another policy.
            Step::Policy(on_success) if self.on_success == "keep" => self.on_success = on_success,
            Step::Policy(_) => {}
            Step::Reprocess(which) => self.reprocess(*which),
            Step::Watch(hands, end) => self.watch("", hands, *end),
            Step::Stuck(name, hands, end) => {
                let gate = self.tree.path("gate");
                fs::write(&gate, "").expect("a gate");
                let failpoint = format!("{name}=1*return(while:{})->off", gate.display());
                self.watch(&failpoint, hands, *end);
            }
        }
        self.observe();
    }

    /// Runs the service on what is there, to its end.
    pub fn once(&mut self) -> i32 {
        self.figures.starts += 1;
        self.run_once("")
    }

    fn run_once(&self, failpoints: &str) -> i32 {
        self.start(failpoints, &["--once"]).wait()
    }

    fn start(&self, failpoints: &str, more: &[&str]) -> Service {
        let links = if self.links { LINKS } else { "" };
        let failpoints = format!("{links};{failpoints}");
        let state = self.tree.path("state");
        let state = ["--state-dir", state.to_str().expect("UTF-8")];
        // Nobody writes under a final name there.
        let settle: &[&str] = if self.served.has_input() { &["--settle", "0s"] } else { &[] };
        let more = [&["--on-exists", self.on_exists], &state[..], settle, more].concat();
        self.tree.start_with(&failpoints, self.on_success, &more)
    }

    /// The service watches while others change files, to this end.
    fn watch(&mut self, failpoints: &str, hands: &[(Hand, u32)], end: End) {
        let service = self.start(failpoints, &[]);
        for (hand, micros) in hands {
            std::thread::park_timeout(Duration::from_micros((*micros).into()));
            self.act_next_to_the_service(*hand);
        }
        let (signal, codes): (_, &[i32]) = match end {
            End::Kill => (Signal::KILL, &[KILLED]),
            // It may not have come as far as its signals; and what was replaced in the instant of its
            // publication is left.
            End::Drain => (Signal::TERM, &[0, WORK_LEFT, TERMINATED]),
        };
        service.signal(signal);
        // What was stuck is so no longer.
        fs::remove_file(self.tree.path("gate")).ok();
        self.ended(service.wait(), codes);
    }

    fn reprocess(&mut self, which: u8) {
        let mut there: Vec<_> = self.now.keys().copied().collect();
        there.retain(|path| self.whole("in", path).exists());
        let Some(at) = usize::from(which).checked_rem(there.len()) else { return };
        let path = there[at];
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.arg("reprocess").arg("--state-dir").arg(self.tree.path("state"));
        let output = command.arg(self.whole("in", path)).output().expect("reprocess");
        if output.status.success() {
            *self.appeared.entry((path, hash(&self.now[path]))).or_default() += 1;
            self.figures.reprocessed += 1;
        }
    }

    fn ended(&mut self, code: i32, expected: &[i32]) {
        self.figures.starts += 1;
        self.figures.kills += u64::from(code == KILLED);
        self.assert_code(code, expected);
    }

    pub fn assert_code(&self, code: i32, expected: &[i32]) {
        assert!(expected.contains(&code), "ended with {code}\n{}", self.tree.log());
    }

    pub fn whole(&self, dir: &str, path: &str) -> PathBuf {
        self.tree.path(dir).join(path)
    }

    /// A producer gives a path this content.
    pub fn appears(&mut self, path: &'static str, content: Vec<u8>) {
        let hash = hash(&content);
        if self.is_disposed_of(path) {
            self.redelivered.insert(hash.clone());
            self.figures.redelivered += 1;
        }
        *self.appeared.entry((path, hash.clone())).or_default() += 1;
        self.order.push(hash);
        self.holders.insert(path, BTreeSet::from([self.holder(path)]));
        self.now.insert(path, content);
    }

    /// Whether the service acknowledged what this path had last, and removed it.
    pub fn is_disposed_of(&self, path: &str) -> bool {
        let Some(last) = self.now.get(path).map(|content| hash(content)) else { return false };
        let is_of_it = |line: &Line| line.source == path && line.source_hash == last;
        !self.whole("in", path).exists() && self.acknowledged().iter().any(is_of_it)
    }

    fn holder(&self, path: &str) -> Holder {
        let output = output_of(path);
        let whole = self.whole("out", &output);
        match fs::read(&whole) {
            Ok(found) if self.foreign.get(&output) == Some(&found) => Holder::Foreign,
            Ok(_) => Holder::Ours,
            Err(_) if whole.is_dir() => Holder::Directory,
            Err(_) => Holder::Nobody,
        }
    }

    /// Keeps what has the outputs' names now.
    pub fn observe(&mut self) {
        for path in PATHS {
            let holder = self.holder(path);
            self.holders.entry(path).or_default().insert(holder);
        }
    }

    /// The lines of the events file that say "published", the oldest first.
    pub fn acknowledged(&self) -> Vec<Line> {
        let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
        own_lines(&self.tree.path("events"))
            .into_iter()
            .filter(|event| event["outcome"] == "published")
            .map(|event| Line {
                id: event["id"].as_i64().expect("an id"),
                source: text(&event["source"]),
                source_hash: text(&event["source_hash"]),
                output: text(&event["output"]),
                output_hash: text(&event["output_hash"]),
            })
            .collect()
    }

    /// Whether the output is there as the line says.
    pub fn is_as_acknowledged(&self, line: &Line) -> bool {
        let found = fs::read(self.whole("out", &line.output));
        found.is_ok_and(|found| hash(&found) == line.output_hash)
    }
}
