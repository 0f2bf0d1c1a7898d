//! SIGKILL at random instants while operators reload several pipelines, change their policies and
//! requeue files, and consumers take outputs.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;

use crate::{
    harness::{Service, Tree},
    neighbour::own_lines,
    prove::{self, Random},
};

const KILLS: usize = 10;
const KILLED: i32 = -9;
const QUARANTINED: i32 = 65;
/// What another program has where a source's output would go.
const FOREIGN: &str = "of another program";

/// A pipeline and its source, by their names.
type Source = (&'static str, String);

#[derive(Clone, Copy)]
struct Pipeline {
    name: &'static str,
    on_success: &'static str,
    level: u64,
    /// Whether the configuration has it.
    is_on: bool,
}

/// An acknowledgement: a line of the events file.
struct Line {
    id: i64,
    of: Source,
    source_hash: String,
    output: PathBuf,
    output_hash: String,
}

#[derive(Default)]
struct Figures {
    kills: usize,
    reloads: usize,
    requeued: usize,
    taken: usize,
}

struct Rig {
    tree: Tree,
    random: Random,
    pipelines: [Pipeline; 3],
    /// Every source, which is delivered once.
    contents: BTreeMap<Source, String>,
    /// Records whose outputs a consumer took.
    taken: BTreeSet<i64>,
    /// Sources whose output's name another program has.
    blocked: BTreeSet<Source>,
    figures: Figures,
}

fn hash(content: &[u8]) -> String {
    blake3::hash(content).to_hex().to_string()
}

impl Rig {
    fn new(seed: u64) -> Self {
        let pipelines = ["a", "b", "c"].map(|name| Pipeline {
            name,
            on_success: "keep",
            level: 1,
            is_on: true,
        });
        let tree = Tree::new();
        for Pipeline { name, .. } in pipelines {
            for dir in ["in", "out", "archive"] {
                fs::create_dir(tree.path(&format!("{dir}-{name}"))).expect("directory");
            }
        }
        let mut rig = Self {
            tree,
            random: Random::new(seed),
            pipelines,
            contents: BTreeMap::new(),
            taken: BTreeSet::new(),
            blocked: BTreeSet::new(),
            figures: Figures::default(),
        };
        (0..60).for_each(|_| rig.deliver());
        rig.configure();
        rig
    }

    fn below(&mut self, below: usize) -> usize {
        usize::try_from(self.random.below(below as u64)).expect("small")
    }

    fn input(&self, (pipeline, name): &Source) -> PathBuf {
        self.tree.path(&format!("in-{pipeline}")).join(name)
    }

    fn output(&self, (pipeline, name): &Source) -> PathBuf {
        self.tree.path(&format!("out-{pipeline}")).join(format!("{name}.zst"))
    }

    /// Moves a new file in; each sixth one's output has its name taken.
    #[expect(clippy::disallowed_methods, reason = "the producer renames it")]
    fn deliver(&mut self) {
        let number = self.contents.len();
        let pipeline = self.pipelines[self.below(3)].name;
        let source = (pipeline, format!("{number}.log"));
        let lines = if self.below(20) == 0 { 20_000 } else { 1 + self.below(40) };
        let content = format!("a line of {number}\n").repeat(lines);
        if self.below(6) == 0 {
            fs::write(self.output(&source), FOREIGN).expect("write");
            self.blocked.insert(source.clone());
        }
        let temporary = self.tree.path("temporary");
        fs::write(&temporary, &content).expect("write");
        self.contents.insert(source.clone(), hash(content.as_bytes()));
        fs::rename(temporary, self.input(&source)).expect("rename");
    }

    /// Writes the configuration as an editor does: a new file in place of the old one.
    #[expect(clippy::disallowed_methods, reason = "the editor renames it")]
    fn configure(&self) {
        let mut text =
            "state_dir = \"state\"\nhttp = \"off\"\nevents = \"events\"\nsandbox = \"off\"\n"
                .to_owned();
        for Pipeline { name, on_success, level, .. } in self.pipelines.iter().filter(|on| on.is_on)
        {
            let on_success = match *on_success {
                "archive" => format!("archive:archive-{name}"),
                other => other.to_owned(),
            };
            write!(
                text,
                "[[pipeline]]\nname = \"{name}\"\ninput = \"in-{name}\"\noutput = \"out-{name}\"\n\
                 transforms = \"zstd:{level}\"\non_exists = \"fail\"\non_success = \"{on_success}\"\n"
            )
            .expect("write");
        }
        let new = self.tree.path("new.toml");
        fs::write(&new, text).expect("write");
        fs::rename(new, self.tree.path("tidemill.toml")).expect("rename");
    }

    /// Another policy for what was kept, another level, a pipeline removed or added.
    fn change(&mut self) {
        let at = self.below(3);
        let (level, what) = (1 + self.random.below(5), self.below(3));
        let then = ["delete", "archive"][self.below(2)];
        let pipeline = &mut self.pipelines[at];
        match what {
            0 if pipeline.on_success == "keep" => pipeline.on_success = then,
            // One always stays.
            1 if at > 0 => pipeline.is_on = !pipeline.is_on,
            _ => pipeline.level = level,
        }
        self.configure();
    }

    /// The other program removes its file, and an operator has the source processed after all, as far as
    /// it is in quarantine already.
    #[expect(clippy::disallowed_methods, reason = "the other program removes it")]
    fn requeue(&mut self) {
        let count = self.blocked.len();
        if count == 0 {
            return;
        }
        let at = self.below(count);
        let source = self.blocked.iter().nth(at).cloned().expect("a source");
        fs::remove_file(self.output(&source)).expect("remove");
        self.blocked.remove(&source);
        if self.requeued(self.input(&source).as_os_str()) {
            self.figures.requeued += 1;
        }
    }

    fn requeued(&self, what: impl AsRef<OsStr>) -> bool {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.arg("requeue").arg("--state-dir").arg(self.tree.path("state")).arg(what);
        command.output().expect("requeue").status.success()
    }

    fn quarantined(&self, (pipeline, name): &Source) -> PathBuf {
        self.tree.path(&format!("state/quarantine/{pipeline}")).join(name)
    }

    /// A consumer takes the oldest outputs that are acknowledged.
    #[expect(clippy::disallowed_methods, reason = "the consumer removes it")]
    fn take(&mut self) {
        let mut lines = self.lines();
        lines.retain(|line| !self.taken.contains(&line.id));
        for line in lines.iter().take(3) {
            let found = fs::read(&line.output).expect("an acknowledged output");
            assert_eq!(hash(&found), line.output_hash, "{:?}", line.of);
            fs::remove_file(&line.output).expect("take");
            self.taken.insert(line.id);
            self.figures.taken += 1;
        }
    }

    fn lines(&self) -> Vec<Line> {
        let events = own_lines(&self.tree.path("events")).into_iter();
        let published = events.filter(|event| event["outcome"] == "published");
        let line = |event: serde_json::Value| {
            let text = |field: &str| event[field].as_str().expect("a text").to_owned();
            let name = text("pipeline");
            let is_it = |pipeline: &&Pipeline| pipeline.name == name;
            let pipeline = self.pipelines.iter().find(is_it).expect("a pipeline").name;
            Line {
                id: event["id"].as_i64().expect("an id"),
                of: (pipeline, text("source")),
                source_hash: text("source_hash"),
                output: self.tree.path(&format!("out-{pipeline}")).join(text("output")),
                output_hash: text("output_hash"),
            }
        };
        published.map(line).collect()
    }

    fn start(&self, more: &[&str]) -> Service {
        self.tree.configured("tidemill.toml").args(more).spawn().expect("start").into()
    }

    fn is_ready(&self, starts: usize) -> bool {
        self.ready() > starts
    }

    fn ready(&self) -> usize {
        self.tree.log().matches("event=pipeline.ready").count()
    }

    /// Starts the service, and kills it while the others go on.
    fn killed(&mut self, number: usize) {
        (0..6).for_each(|_| self.deliver());
        let ends = number.is_multiple_of(2);
        let starts = self.ready();
        let service = self.start(if ends { &["--once"] } else { &[] });
        if number % 4 == 1 {
            crate::files::until("it is ready", || self.is_ready(starts));
        }
        for _ in 0..self.below(8) {
            self.wait(15_000);
            match self.below(5) {
                0 | 1 => self.deliver(),
                2 => self.take(),
                3 => self.requeue(),
                _ => {
                    self.change();
                    // Before it is ready a signal may meet a process that has no handler yet.
                    if !ends && self.is_ready(starts) {
                        service.signal(Signal::HUP);
                        self.figures.reloads += 1;
                    }
                }
            }
        }
        self.wait(60_000);
        service.signal(Signal::KILL);
        let code = service.wait();
        let is_through = ends && [0, QUARANTINED].contains(&code);
        assert!(code == KILLED || is_through, "{code}\n{}", self.tree.log());
        self.figures.kills += usize::from(code == KILLED);
        self.assert_sound();
    }

    fn wait(&mut self, most_micros: u64) {
        let micros = self.random.below(most_micros);
        std::thread::park_timeout(std::time::Duration::from_micros(micros));
    }

    /// What holds whenever the service is down.
    fn assert_sound(&self) {
        let log = || self.tree.log();
        let lines = self.lines();
        let ids: BTreeSet<_> = lines.iter().map(|line| line.id).collect();
        assert_eq!(ids.len(), lines.len(), "a record was acknowledged twice\n{}", log());
        let acknowledged: BTreeSet<_> = lines.iter().map(|line| line.of.clone()).collect();
        assert_eq!(acknowledged.len(), lines.len(), "a source was published twice\n{}", log());
        for Line { id, of, source_hash, output, output_hash } in &lines {
            assert_eq!(self.contents.get(of), Some(source_hash), "{of:?}\n{}", log());
            let found = fs::read(output).ok().map(|found| hash(&found));
            let expected = (!self.taken.contains(id)).then_some(output_hash);
            assert_eq!(found.as_ref(), expected, "{of:?}\n{}", log());
        }
        for (source, content) in &self.contents {
            let has = |path: &Path| fs::read(path).is_ok_and(|found| hash(&found) == *content);
            let is_there = has(&self.input(source)) || has(&self.quarantined(source));
            // Between the quarantine and the input a file has a private name.
            let is_private = || self.private(source.0).iter().any(|path| has(path));
            let is_safe = acknowledged.contains(source) || is_there || is_private();
            assert!(is_safe, "{source:?} is lost\n{}", log());
        }
        for source in &self.blocked {
            let found = fs::read_to_string(self.output(source)).expect("read");
            assert_eq!(found, FOREIGN, "{source:?} was replaced\n{}", log());
        }
    }

    /// The files of the input that have private names.
    fn private(&self, pipeline: &str) -> Vec<PathBuf> {
        let input = format!("in-{pipeline}");
        let files = self.tree.files(&input).into_iter();
        let is_ours = |path: &PathBuf| path.to_string_lossy().starts_with(".tidemill");
        files.filter(is_ours).map(|path| self.tree.path(&input).join(path)).collect()
    }

    /// Everything was done, once: what was blocked is requeued first.
    fn finish(&mut self) {
        for pipeline in &mut self.pipelines {
            pipeline.is_on = true;
        }
        self.configure();
        let code = self.start(&["--once"]).wait();
        assert!([0, QUARANTINED].contains(&code), "{code}\n{}", self.tree.log());
        while !self.blocked.is_empty() {
            self.requeue();
        }
        assert!(self.requeued("--all"), "{}", self.tree.log());
        assert_eq!(self.start(&["--once"]).wait(), 0, "{}", self.tree.log());
        self.assert_sound();
        let lines = self.lines();
        assert_eq!(lines.len(), self.contents.len(), "{}", self.tree.log());
        for Pipeline { name, on_success, .. } in self.pipelines {
            let of_it = self.contents.keys().filter(|(pipeline, _)| *pipeline == name);
            let mut sources: Vec<_> = of_it.map(|(_, source)| PathBuf::from(source)).collect();
            sources.sort();
            let (kept, archived) = match on_success {
                "keep" => (sources, Vec::new()),
                "archive" => (Vec::new(), sources),
                _ => (Vec::new(), Vec::new()),
            };
            for (dir, expected) in [("in", kept), ("archive", archived)] {
                let found = self.tree.files(&format!("{dir}-{name}"));
                assert_eq!(found, expected, "{dir} of {name}\n{}", self.tree.log());
            }
            let left = lines.iter().filter(|line| line.of.0 == name);
            let left = left.filter(|line| !self.taken.contains(&line.id)).count();
            assert_eq!(self.tree.files(&format!("out-{name}")).len(), left, "out-{name}");
        }
    }
}

/// 60 kills, or as many as are asked for; ten on each tree.
#[test]
fn a_kill_at_random_instants_alongside_reloads_requeues_and_consumers_loses_nothing() {
    let trees = prove::count(60).div_ceil(KILLS);
    let mut sum = Figures::default();
    for round in 0..trees {
        let seed = prove::seed() ^ 0x09e7 ^ (round as u64) << 32;
        let mut rig = Rig::new(seed);
        let neighbour = (round % 3 == 1).then(|| rig.tree.shared("state", seed));
        (0..KILLS).for_each(|number| rig.killed(number));
        drop(neighbour);
        rig.finish();
        let Figures { kills, reloads, requeued, taken } = rig.figures;
        sum.kills += kills;
        sum.reloads += reloads;
        sum.requeued += requeued;
        sum.taken += taken;
    }
    let Figures { kills, reloads, requeued, taken } = sum;
    prove::report(
        "kills at random instants alongside operators",
        &[
            ("kills", &kills),
            ("reloads", &reloads),
            ("requeued", &requeued),
            ("taken_by_consumers", &taken),
            ("violations", &0),
        ],
    );
    assert!(kills >= trees * 2, "only {kills} kills met a running service");
    assert!(reloads > 0 && requeued > 0 && taken > 0, "{reloads} {requeued} {taken}");
}
