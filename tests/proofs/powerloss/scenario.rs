//! What is varied, and what producers and consumers do.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{
    powerloss::{
        hands::{self, Rename},
        system::Kind,
    },
    prove::{self, Random},
};

/// Which directories are on which disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    One,
    /// Sources on the first disk, outputs and the ledger on the second.
    LedgerWithOutput,
    /// Sources and the ledger on the first disk, outputs on the second.
    LedgerWithInput,
    /// The same, with the archive and the quarantine on the second disk, which get copies.
    ArchiveWithOutput,
}

impl Layout {
    pub const ALL: [Self; 4] =
        [Self::One, Self::LedgerWithOutput, Self::LedgerWithInput, Self::ArchiveWithOutput];

    pub const fn disks(self) -> usize {
        match self {
            Self::One => 1,
            Self::LedgerWithOutput | Self::LedgerWithInput | Self::ArchiveWithOutput => 2,
        }
    }
}

/// What happens to the service half-way through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    None,
    /// A drain and a new start.
    Term,
    /// SIGKILL and a new start.
    Kill,
}

/// What an operator asks for while the service is down half-way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    None,
    /// Everything in quarantine is to be processed again.
    Requeue,
    /// Sources whose outputs are there are to be processed again.
    Reprocess,
}

#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is varied for itself")]
pub struct Scenario {
    pub kind: Kind,
    pub layout: Layout,
    pub on_success: &'static str,
    pub on_exists: &'static str,
    pub durability: &'static str,
    /// Producers make their files durable.
    pub producers_sync: bool,
    /// A consumer takes half of the outputs as soon as they are acknowledged.
    pub consumer_takes: bool,
    pub interruption: Interruption,
    /// Kept sources get other modes and times after their outputs were acknowledged.
    pub touched: bool,
    /// Another program writes into the events file: lines of another ledger, and lines of its own.
    pub foreign_lines: bool,
    /// Producers rename sources before and after their publication.
    pub renamed: bool,
    /// Sources are kept until the service is interrupted, and its next start has another policy.
    pub kept_first: bool,
    /// A file is a source once its producer has made a marker for it.
    pub marked: bool,
    /// The operator reloads the service with another level while files are in flight.
    pub reloaded: bool,
    /// Each file goes through a program first.
    pub by_program: bool,
    /// The consumer moves what it takes into the input of a second pipeline.
    pub fed: bool,
    /// Outputs have checksum files.
    pub checksums: bool,
    pub request: Request,
    pub seed: u64,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, layout, on_success, on_exists, durability, .. } = self;
        let producers = if self.producers_sync { "synced" } else { "unsynced" };
        let consumer = if self.consumer_takes { "taken" } else { "left" };
        write!(
            f,
            "{} {layout:?} {on_success} {on_exists} {durability} {producers} {consumer} ",
            kind.name()
        )?;
        let options = [
            (self.touched, "touched"),
            (self.foreign_lines, "foreign-lines"),
            (self.renamed, "renamed"),
            (self.kept_first, "kept-first"),
            (self.marked, "marked"),
            (self.reloaded, "reloaded"),
            (self.by_program, "by-program"),
            (self.fed, "fed"),
            (self.checksums, "checksums"),
        ];
        for (_, option) in options.iter().filter(|(is_on, _)| *is_on) {
            write!(f, "{option} ")?;
        }
        write!(f, "request={:?} {:?} seed={}", self.request, self.interruption, self.seed)
    }
}

fn one_of<T: Copy>(random: &mut Random, all: &[T]) -> T {
    all[usize::try_from(random.below(all.len() as u64)).expect("an index")]
}

impl Scenario {
    /// One disk, producers that sync, and nothing that interrupts or takes.
    pub fn plain(kind: Kind, on_success: &'static str) -> Self {
        Self {
            kind,
            layout: Layout::One,
            on_success,
            on_exists: "update",
            durability: "fsync",
            producers_sync: true,
            consumer_takes: false,
            interruption: Interruption::None,
            touched: false,
            foreign_lines: false,
            renamed: false,
            kept_first: false,
            marked: false,
            reloaded: false,
            by_program: false,
            fed: false,
            checksums: false,
            request: Request::None,
            seed: prove::seed(),
        }
    }

    /// One of all that can be combined.
    pub fn random(kind: Kind, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let half = [true, false];
        let mut scenario = Self {
            kind,
            layout: one_of(&mut random, &Layout::ALL),
            on_success: one_of(&mut random, &["keep", "delete", "archive"]),
            on_exists: one_of(&mut random, &["update", "fail", "replace", "suffix", "skip"]),
            durability: one_of(&mut random, &["fsync", "fsync", "syncfs"]),
            producers_sync: one_of(&mut random, &half),
            consumer_takes: one_of(&mut random, &half),
            interruption: one_of(
                &mut random,
                &[Interruption::None, Interruption::Term, Interruption::Kill],
            ),
            touched: false,
            foreign_lines: false,
            renamed: false,
            kept_first: false,
            marked: false,
            reloaded: false,
            by_program: false,
            fed: false,
            checksums: false,
            request: Request::None,
            seed,
        };
        // With `suffix` and `skip` a new time is a delivery whose output is another one, or none.
        let output_follows = ["update", "fail", "replace"].contains(&scenario.on_exists);
        let is_kept = scenario.on_success == "keep";
        scenario.touched = is_kept && output_follows && one_of(&mut random, &half);
        scenario.foreign_lines = one_of(&mut random, &half);
        scenario.renamed = one_of(&mut random, &half);
        let may_change = !is_kept && scenario.interruption != Interruption::None;
        scenario.kept_first = may_change && one_of(&mut random, &half);
        scenario.marked = !scenario.renamed && one_of(&mut random, &half);
        scenario.reloaded = one_of(&mut random, &half);
        scenario.by_program = one_of(&mut random, &[true, false, false, false]);
        scenario.fed = scenario.consumer_takes && one_of(&mut random, &half);
        if scenario.interruption != Interruption::None {
            let second = if is_kept { Request::Reprocess } else { Request::Requeue };
            let requests = [Request::None, Request::Requeue, second];
            scenario.request = one_of(&mut random, &requests);
        }
        scenario.checksums = one_of(&mut random, &half);
        scenario
    }

    /// The configuration for disks that are mounted below `root`.
    pub fn configuration(&self, root: &Path) -> String {
        let places = Places::new(self.layout, root);
        let Places { input, output, archive, state, quarantine, next, last } = &places;
        let on_success = match self.on_success {
            "archive" => format!("archive:{}", archive.display()),
            other => other.to_owned(),
        };
        let marker = if self.marked { format!("marker = {MARKER:?}\n") } else { String::new() };
        let (program, transforms) = if self.by_program {
            (PROGRAM, format!("\"exec:same,{FIRST_LEVEL}\""))
        } else {
            ("", format!("\"{FIRST_LEVEL}\""))
        };
        let fed = if self.fed {
            format!(
                "[[pipeline]]\nname = \"next\"\ninput = {next:?}\noutput = {last:?}\n\
                 transforms = \"copy\"\non_success = \"delete\"\ndurability = {:?}\n",
                self.durability
            )
        } else {
            String::new()
        };
        let checksums = if self.checksums { "checksum = \"sha256\"\n" } else { "" };
        format!(
            "state_dir = {state:?}\nhttp = \"off\"\n[[pipeline]]\nname = \"main\"\n\
             input = {input:?}\noutput = {output:?}\nquarantine = {quarantine:?}\n\
             on_success = {on_success:?}\non_exists = {:?}\ndurability = {:?}\n\
             exclude = [\"*.part\"]\nattempts = 2\nbackoff = \"1ms\"\n\
             transforms = {transforms}\n{marker}{checksums}{fed}{program}",
            self.on_exists, self.durability
        )
    }

    /// The scenario of the starts before the interruption.
    pub fn at_first(&self) -> Self {
        let on_success = if self.kept_first { "keep" } else { self.on_success };
        Self { on_success, ..*self }
    }
}

/// The level of the outputs, and that after a reload.
pub const FIRST_LEVEL: &str = "zstd:3";
pub const SECOND_LEVEL: &str = "zstd:6";

/// A program that changes nothing.
const PROGRAM: &str = "[exec.same]\ncommand = [\"/bin/cat\"]\nmemory = \"64MiB\"\n";

/// What is appended to the name of a finished file for the name of its marker.
pub const MARKER: &str = ".done";

/// Where everything is while the disks are mounted.
#[derive(Clone, Debug)]
pub struct Places {
    pub input: PathBuf,
    pub output: PathBuf,
    pub archive: PathBuf,
    pub state: PathBuf,
    pub quarantine: PathBuf,
    /// Where the consumer moves what it takes, and the output of the pipeline that it feeds so.
    pub next: PathBuf,
    pub last: PathBuf,
}

impl Places {
    pub fn new(layout: Layout, root: &Path) -> Self {
        let first = root.join("disk0");
        let second = root.join("disk1");
        let (of_output, of_state, of_moved) = match layout {
            Layout::One => (&first, &first, &first),
            Layout::LedgerWithOutput => (&second, &second, &first),
            Layout::LedgerWithInput => (&second, &first, &first),
            Layout::ArchiveWithOutput => (&second, &first, &second),
        };
        Self {
            output: of_output.join("out"),
            next: of_output.join("next"),
            last: of_output.join("last"),
            state: of_state.join("state"),
            input: first.join("in"),
            archive: of_moved.join("archive"),
            quarantine: of_moved.join("quarantine"),
        }
    }
}

/// The directories that every disk has from the start.
pub const DIRECTORIES: [&str; 7] = ["in", "out", "archive", "state", "quarantine", "next", "last"];

/// How a producer delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Under another name first, then renamed.
    Renamed,
    /// Written under its name.
    Direct,
}

/// One file that a producer delivers.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Below the input.
    pub source: PathBuf,
    /// From 0; a later one has other content under the same name.
    pub version: usize,
    pub how: How,
}

/// All that is delivered, and the contents by source and version.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Each comes when the one before it has had its outcomes.
    pub waves: [Vec<Delivery>; 3],
    pub contents: BTreeMap<PathBuf, Vec<Vec<u8>>>,
    /// Outputs that another program made before: path below the output, and content.
    pub foreign: BTreeMap<PathBuf, Vec<u8>>,
    /// The sources that get another name meanwhile; the contents are there under both.
    pub renames: BTreeMap<PathBuf, Rename>,
}

const FILES: usize = 18;
/// The file of the last wave.
const LAST: usize = FILES - 1;

impl Plan {
    /// The second wave brings new versions of some of the first; the last is one file whose output's
    /// name is taken, so that what is undone for it is the last that happens.
    pub fn new(scenario: &Scenario) -> Self {
        let mut random = Random::new(scenario.seed ^ 0x7157);
        let mut contents: BTreeMap<PathBuf, Vec<Vec<u8>>> = BTreeMap::new();
        let mut waves = [const { Vec::new() }; 3];
        for number in 0..FILES {
            let source = PathBuf::from(format!("d{}/f{number}.log", number % 3));
            let versions = if number % 5 == 0 { 2 } else { 1 };
            for version in 0..versions {
                let how = if random.below(3) == 0 { How::Direct } else { How::Renamed };
                let delivery = Delivery { source: source.clone(), version, how };
                // A new version comes when the one before it has had its outcome.
                let is_first = version == 0 && (versions > 1 || number < FILES / 2);
                let wave = if number == LAST { 2 } else { usize::from(!is_first) };
                waves[wave].push(delivery);
                let content = content(number, version, &mut random);
                contents.entry(source.clone()).or_default().push(content);
            }
        }
        let foreign = [3, 12, LAST]
            .map(|number| PathBuf::from(format!("d{}/f{number}.log.zst", number % 3)))
            .map(|path| {
                (path.clone(), format!("of another program: {}", path.display()).into_bytes())
            });
        let foreign = foreign.into();
        let mut renames = BTreeMap::new();
        if scenario.renamed {
            renames = hands::renames(&contents, &foreign, scenario.seed);
        }
        for (from, Rename { to, .. }) in &renames {
            contents.insert(to.clone(), contents[from].clone());
        }
        Self { waves, contents, foreign, renames }
    }

    /// All names of the source with this name.
    pub fn names<'a>(&'a self, source: &'a Path) -> impl Iterator<Item = &'a Path> {
        let to = self.renames.get(source).map(|rename| rename.to.as_path());
        let mut renames = self.renames.iter();
        let from = renames.find(|(_, rename)| rename.to == source).map(|(from, _)| from.as_path());
        [Some(source), to, from].into_iter().flatten()
    }

    pub fn content(&self, delivery: &Delivery) -> &[u8] {
        &self.contents[&delivery.source][delivery.version]
    }
}

/// Of mixed sizes: empty, small, some pages, and one that streams in chunks.
fn content(number: usize, version: usize, random: &mut Random) -> Vec<u8> {
    let lines = match number % 6 {
        0 if version == 0 && number == 6 => 0,
        0 | 1 => 1,
        2 | 3 => 40,
        4 => 900,
        _ if number == 11 => 14_000,
        _ => 200,
    };
    let mut content = Vec::new();
    for line in 0..lines {
        let noise = random.below(1 << 30);
        content.extend(format!("{number} v{version} line {line} {noise:x}\n").bytes());
    }
    content
}

/// Delivers one file, durably where this is asked for. `begun` is called before it can be seen
/// under its name.
pub fn deliver(
    input: &Path,
    delivery: &Delivery,
    content: &[u8],
    (sync, marked): (bool, bool),
    begun: impl FnOnce(),
) -> io::Result<()> {
    let path = input.join(&delivery.source);
    let parent = path.parent().expect("a parent");
    let is_new = !parent.exists();
    fs::create_dir_all(parent)?;
    if sync && is_new {
        File::open(input)?.sync_all()?;
    }
    let marker = input.join(marker_of(&delivery.source));
    if marked && marker.exists() {
        fs::remove_file(&marker)?;
        if sync {
            File::open(parent)?.sync_all()?;
        }
    }
    match delivery.how {
        How::Direct => {
            begun();
            write(&path, content, sync)?;
        }
        How::Renamed => {
            let part = path.with_extension("part");
            write(&part, content, sync)?;
            begun();
            fs::rename(&part, &path)?;
        }
    }
    if marked {
        // The content first: a marker vouches for it.
        if sync {
            File::open(parent)?.sync_all()?;
        }
        write(&marker, b"", sync)?;
    }
    if sync {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

pub fn marker_of(source: &Path) -> PathBuf {
    let mut name = source.as_os_str().to_owned();
    name.push(MARKER);
    name.into()
}

fn write(path: &Path, content: &[u8], sync: bool) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    if sync {
        file.sync_all()?;
    }
    Ok(())
}
