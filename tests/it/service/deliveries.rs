//! SIGKILL at random instants while producers rename and deliver again, and operators who
//! change the policy and have files processed again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    harness::{Service, Tree, decode, decoder},
    neighbour::own_lines,
    prove::{self, Random},
};

const KILLS: usize = 10;
const KILLED: i32 = -9;
/// What a producer never finished: nobody touches it.
const UNFINISHED: &str = "d0/.unfinished.part";

/// BLAKE3, in hexadecimal.
type Hash = String;

fn hash_of(path: &Path) -> Option<Hash> {
    Some(blake3::hash(&fs::read(path).ok()?).to_hex().to_string())
}

/// A line of the events file: an acknowledgement.
struct Line {
    id: i64,
    source: String,
    source_hash: Hash,
    output: String,
    output_hash: Hash,
    /// Whether the file's own job wrote it, and not the recovery of a job that was killed.
    is_of_its_job: bool,
}

/// What was done, for the report.
#[derive(Default)]
struct Figures {
    kills: usize,
    delivered: usize,
    renamed: usize,
    redelivered: usize,
    reprocessed: usize,
    /// Lines of which no other of the same run may have the content.
    published_once: usize,
}

struct Rig {
    tree: Tree,
    random: Random,
    /// The policy of the last start.
    on_success: &'static str,
    /// Every content that was delivered.
    contents: BTreeSet<Hash>,
    /// How often a content may be acknowledged under a source's name.
    allowed: BTreeMap<(String, Hash), usize>,
    /// The content that each final name got last.
    last: BTreeMap<String, Hash>,
    /// Names from which a file was renamed. What comes under one of them may count as an update.
    left: BTreeSet<String>,
    /// How often each content was renamed since the last start.
    renames: BTreeMap<Hash, usize>,
    figures: Figures,
}

impl Rig {
    fn new(seed: u64, links: bool) -> Self {
        let mut rig = Self {
            tree: Tree::new().by_links(links),
            random: Random::new(seed),
            on_success: "keep",
            contents: BTreeSet::new(),
            allowed: BTreeMap::new(),
            last: BTreeMap::new(),
            left: BTreeSet::new(),
            renames: BTreeMap::new(),
            figures: Figures::default(),
        };
        for _ in 0..80 {
            rig.deliver_new();
        }
        fs::write(rig.input(UNFINISHED), "half of a line").expect("write");
        rig
    }

    fn input(&self, name: &str) -> PathBuf {
        self.tree.path("in").join(name)
    }

    fn pick<'a>(&mut self, names: &[&'a String]) -> Option<&'a String> {
        let number = self.random.below(1 << 32);
        let count = u64::try_from(names.len()).expect("a count");
        let at = number.checked_rem(count)?;
        names.get(usize::try_from(at).expect("an index")).copied()
    }

    fn deliver_new(&mut self) {
        let number = self.figures.delivered;
        self.deliver(&format!("d{}/{number}.log", number % 3));
    }

    /// Writes a file under a temporary name and renames it to its final one.
    #[expect(clippy::disallowed_methods, reason = "the producer renames it")]
    fn deliver(&mut self, name: &str) {
        self.figures.delivered += 1;
        let lines = if self.random.below(20) == 0 { 20_000 } else { 1 + self.random.below(40) };
        let line = format!("a line of delivery {}\n", self.figures.delivered);
        let content = line.repeat(usize::try_from(lines).expect("a count"));
        let hash = blake3::hash(content.as_bytes()).to_hex().to_string();
        let (dir, file) = name.split_once('/').expect("a directory");
        let temporary = match self.random.below(3) {
            0 => format!("{dir}/.{file}.part"),
            1 => format!("{dir}/{file}.tmp"),
            _ => format!("{dir}/{file}.filepart"),
        };
        fs::create_dir_all(self.input(dir)).expect("directory");
        fs::write(self.input(&temporary), content).expect("write");
        self.appears(name, hash.clone());
        self.contents.insert(hash);
        fs::rename(self.input(&temporary), self.input(name)).expect("rename");
    }

    fn appears(&mut self, name: &str, hash: Hash) {
        *self.allowed.entry((name.to_owned(), hash.clone())).or_default() += 1;
        self.last.insert(name.to_owned(), hash);
    }

    /// Renames a finished file, which may be in flight, within its directory.
    #[expect(clippy::disallowed_methods, reason = "the producer renames it")]
    fn rename(&mut self) {
        let last = self.last.clone();
        let there: Vec<_> = last.keys().filter(|name| self.input(name).exists()).collect();
        let Some(from) = self.pick(&there) else { return };
        let to = format!("{from}.{}", self.figures.renamed);
        if fs::rename(self.input(from), self.input(&to)).is_ok() {
            self.figures.renamed += 1;
            self.appears(&to, last[from].clone());
            *self.renames.entry(last[from].clone()).or_default() += 1;
            self.last.remove(from);
            self.left.insert(from.clone());
        }
    }

    /// Delivers other content under the name of a source that was acknowledged and disposed of.
    fn redeliver(&mut self) {
        if self.on_success == "keep" {
            return;
        }
        let acknowledged: BTreeSet<_> =
            self.lines().into_iter().map(|line| (line.source, line.source_hash)).collect();
        let last = self.last.clone();
        let is_gone = |(name, hash): &(&String, &Hash)| {
            acknowledged.contains(&((*name).clone(), (*hash).clone()))
                && !self.left.contains(*name)
                && !self.input(name).exists()
        };
        let gone: Vec<_> = last.iter().filter(is_gone).map(|(name, _)| name).collect();
        if let Some(name) = self.pick(&gone) {
            self.deliver(name);
            self.figures.redelivered += 1;
        }
    }

    fn producer(&mut self) {
        match self.random.below(4) {
            0 => self.rename(),
            1 => self.deliver_new(),
            _ => self.redeliver(),
        }
    }

    /// Asks for a kept source to be processed again.
    fn reprocess(&mut self) {
        let last = self.last.clone();
        let names: Vec<_> = last.keys().collect();
        let Some(name) = self.pick(&names) else { return };
        let state = self.tree.path("out/.tidemill");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.arg("reprocess").arg("--state-dir").arg(state).arg(self.input(name));
        let output = command.output().expect("reprocess");
        if output.status.success() {
            *self.allowed.entry((name.clone(), last[name].clone())).or_default() += 1;
            self.figures.reprocessed += 1;
        }
    }

    /// Starts the service, and kills it while producers go on.
    fn killed(&mut self, number: usize) {
        for _ in 0..8 {
            self.producer();
        }
        let ends = number.is_multiple_of(2);
        let more: &[&str] = if ends { &["--once"] } else { &["--settle", "0s"] };
        let before: BTreeSet<_> = self.lines().into_iter().map(|line| line.id).collect();
        self.renames.clear();
        let starts = self.ready();
        let service = self.tree.start(self.on_success, more);
        // On a busy machine the others are killed before they take a file.
        if number % 4 == 1 {
            crate::files::until("it is ready", || self.ready() > starts);
        }
        for _ in 0..self.random.below(6) {
            self.wait(20_000);
            self.producer();
        }
        self.wait(60_000);
        service.signal(Signal::KILL);
        self.ended(service, ends);
        self.assert_once_in_a_run(&before);
        self.assert_sound();
    }

    /// How many starts got ready.
    fn ready(&self) -> usize {
        self.tree.log().matches("event=pipeline.ready").count()
    }

    /// Waits for an instant that only the seed knows.
    fn wait(&mut self, most_micros: u64) {
        std::thread::park_timeout(Duration::from_micros(self.random.below(most_micros)));
    }

    fn ended(&mut self, service: Service, may_be_through: bool) {
        let code = service.wait();
        let expected = code == KILLED || (may_be_through && code == 0);
        assert!(expected, "{code}\n{}", self.tree.log());
        self.figures.kills += usize::from(code == KILLED);
    }

    fn lines(&self) -> Vec<Line> {
        let line = |event: serde_json::Value| {
            assert_eq!(event["outcome"], "published", "{event}\n{}", self.tree.log());
            let text = |field: &str| event[field].as_str().expect("a text").to_owned();
            Line {
                id: event["id"].as_i64().expect("an id"),
                source: text("source"),
                source_hash: text("source_hash"),
                output: text("output"),
                output_hash: text("output_hash"),
                is_of_its_job: event["seconds"].is_number(),
            }
        };
        own_lines(&self.tree.path("events")).into_iter().map(line).collect()
    }

    /// Within one life of the process a rename publishes no content twice, unless the source is kept or
    /// renamed again at once. A kill between the publication and the removal is another life.
    fn assert_once_in_a_run(&mut self, before: &BTreeSet<i64>) {
        if self.on_success == "keep" {
            return;
        }
        let mut seen = BTreeMap::new();
        for line in self.lines().into_iter().filter(|line| line.is_of_its_job) {
            let renames = self.renames.get(&line.source_hash).copied().unwrap_or(0);
            if before.contains(&line.id) || renames > 1 {
                continue;
            }
            self.figures.published_once += 1;
            if let Some(first) = seen.insert(line.source_hash, line.source.clone()) {
                panic!("{first} was published again as {}\n{}", line.source, self.tree.log());
            }
        }
    }

    /// What holds whenever the service is down.
    fn assert_sound(&self) {
        let log = || self.tree.log();
        let lines = self.lines();
        let ids: BTreeSet<_> = lines.iter().map(|line| line.id).collect();
        assert_eq!(ids.len(), lines.len(), "a record was acknowledged twice\n{}", log());
        let mut counts: BTreeMap<_, usize> = BTreeMap::new();
        for Line { source, source_hash, output, output_hash, .. } in &lines {
            let found = hash_of(&self.tree.path("out").join(output));
            assert_eq!(found.as_ref(), Some(output_hash), "{output} was replaced\n{}", log());
            *counts.entry((source.clone(), source_hash.clone())).or_default() += 1;
        }
        for (of, count) in counts {
            let allowed = self.allowed.get(&of).copied().unwrap_or(0);
            assert!(count <= allowed, "{of:?}: {count} of {allowed}\n{}", log());
        }
        let mut unzstd = decoder();
        for output in self.tree.files("out") {
            let packed = fs::read(self.tree.path("out").join(&output)).expect("read");
            if !is_private(&output) {
                let content = blake3::hash(&decode(&mut unzstd, &packed)).to_hex().to_string();
                assert!(
                    self.contents.contains(&content),
                    "{output:?} is of no delivery\n{}",
                    log()
                );
            }
        }
        let there = self.hashes("in");
        let acknowledged: BTreeSet<_> = lines.into_iter().map(|line| line.source_hash).collect();
        for content in &self.contents {
            let kept = there.contains(content);
            assert!(kept || acknowledged.contains(content), "a delivery is lost\n{}", log());
            assert!(kept || self.on_success != "keep", "a source was to be kept\n{}", log());
        }
        assert!(self.input(UNFINISHED).exists(), "it was never finished\n{}", log());
    }

    /// The contents below a directory, sorted; without what was never finished.
    fn hashes(&self, dir: &str) -> Vec<Hash> {
        let files = self.tree.files(dir).into_iter().filter(|path| path != Path::new(UNFINISHED));
        let hashes = files.map(|path| hash_of(&self.tree.path(dir).join(path)).expect("read"));
        let mut hashes: Vec<_> = hashes.collect();
        hashes.sort();
        hashes
    }

    /// Every delivery was published and acknowledged, and disposed of by the last policy.
    fn assert_done(&self) {
        let log = || self.tree.log();
        self.assert_sound();
        self.tree.assert_no_leftovers();
        let lines = self.lines();
        let acknowledged: BTreeSet<_> = lines.iter().map(|line| line.source_hash.clone()).collect();
        assert_eq!(acknowledged, self.contents, "acknowledged\n{}", log());
        let outputs: BTreeSet<_> = lines.iter().map(|line| PathBuf::from(&line.output)).collect();
        let found: BTreeSet<_> = self.tree.files("out").into_iter().collect();
        assert_eq!(found, outputs, "outputs\n{}", log());
        let all: Vec<_> = self.contents.iter().cloned().collect();
        let (kept, archived) = match self.on_success {
            "keep" => (all, Vec::new()),
            "archive" => (Vec::new(), all),
            _ => (Vec::new(), Vec::new()),
        };
        assert_eq!(self.hashes("in"), kept, "the input\n{}", log());
        assert_eq!(self.hashes("archive"), archived, "the archive\n{}", log());
    }
}

fn is_private(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tidemill"))
}

/// 60 kills, or as many as are asked for; ten on each tree, whose sources are kept at first.
#[test]
fn a_kill_at_random_instants_alongside_renames_redeliveries_and_other_policies_loses_nothing() {
    let trees = prove::count(60).div_ceil(KILLS);
    let mut sum = Figures::default();
    for round in 0..trees {
        let seed = prove::seed() ^ (round as u64) << 32;
        let mut rig = Rig::new(seed, round % 2 == 1);
        let neighbour = (round % 3 == 1).then(|| rig.tree.shared("out/.tidemill", seed));
        let then = ["delete", "archive", "keep"][round % 3];
        let changed_at = 1 + rig.random.below(5);
        for number in 0..KILLS {
            if number as u64 == changed_at {
                rig.on_success = then;
            }
            rig.killed(number);
            if rig.on_success == "keep" {
                (0..3).for_each(|_| rig.reprocess());
            }
        }
        let code = rig.tree.once(rig.on_success);
        assert_eq!(code, 0, "round {round}\n{}", rig.tree.log());
        drop(neighbour);
        rig.assert_done();
        let Figures { kills, delivered, renamed, redelivered, reprocessed, published_once } =
            rig.figures;
        sum.kills += kills;
        sum.delivered += delivered;
        sum.renamed += renamed;
        sum.redelivered += redelivered;
        sum.reprocessed += reprocessed;
        sum.published_once += published_once;
    }
    prove::report(
        "kills at random instants alongside producers",
        &[
            ("kills", &sum.kills),
            ("delivered", &sum.delivered),
            ("renamed", &sum.renamed),
            ("redelivered", &sum.redelivered),
            ("reprocessed", &sum.reprocessed),
            ("violations", &0),
        ],
    );
    assert!(sum.kills >= trees * 2, "only {} kills met a running service", sum.kills);
    let all = [sum.renamed, sum.redelivered, sum.reprocessed, sum.published_once];
    assert!(all.iter().all(|count| *count > 0), "not everything happened: {all:?}");
}
