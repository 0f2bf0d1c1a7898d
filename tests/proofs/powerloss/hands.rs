//! What others do meanwhile: a program that writes lines of its own into the events file, and producers
//! that rename their sources while these are in flight.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use tidemill::{policy::ExpansionLimits, transforms::Transformer};

use crate::{
    powerloss::{
        known::{Line, OTHER_LEDGER, lines},
        scenario::{Delivery, Plan, Scenario},
    },
    prove::Random,
};

/// Lines that are not of this program, some of which begin or are built as its own.
pub const STRANGE_LINES: [&[u8]; 6] = [
    b"# rotated by hand",
    b"\xff\x00 not text",
    br#"{"level":"info","msg":"of another program"}"#,
    br#"{"time":"2026-01-01T00:00:00Z","level":"info"}"#,
    br#"{"time":"2026-01-01T00:00:00Z","id":1,"ledger":"#,
    br#"["published"]"#,
];

/// The most records that a recording makes, about.
const NUMBERS_MAX: usize = 30;

/// A program that appends to the events file, past the service's lock.
pub struct Scribe {
    file: File,
    random: Random,
}

impl Scribe {
    pub fn open(events: &Path, scenario: &Scenario) -> io::Result<Self> {
        let file = File::options().append(true).open(events)?;
        Ok(Self { file, random: Random::new(scenario.seed ^ 0x5c1b) })
    }

    fn write(&mut self, line: &[u8]) {
        self.file.write_all(line).expect("append to the events file");
    }

    /// A line that is none of ours.
    pub fn write_strange(&mut self) {
        let line = STRANGE_LINES[self.below(STRANGE_LINES.len())];
        self.write(&[line, b"\n"].concat());
    }

    /// The begin of such a line: the program died, while the service is down.
    pub fn write_half(&mut self) {
        let line = STRANGE_LINES[self.below(STRANGE_LINES.len())];
        let half = 1 + self.below(line.len() - 1);
        self.write(&line[..half]);
    }

    /// Acknowledgements of every second source by another ledger: with the right names and contents, under
    /// each number that the source's record may get.
    pub fn write_of_another_ledger(&mut self, plan: &Plan) {
        let mut encoder = encoder();
        let mut all = String::new();
        for (source, versions) in plan.contents.iter().step_by(2) {
            for content in versions {
                let (begin, end) = line_of_another_ledger(source, content, &mut encoder);
                all.extend((1..=NUMBERS_MAX).map(|id| format!("{begin}{id}{end}")));
            }
        }
        self.write(all.as_bytes());
    }

    fn below(&mut self, below: usize) -> usize {
        usize::try_from(self.random.below(below as u64)).expect("small")
    }
}

fn encoder() -> Transformer {
    let bounds =
        ExpansionLimits { output_bytes: u64::MAX, ratio: u64::MAX, decoder_bytes: 1 << 27 };
    Transformer::new(&"zstd".parse().expect("transforms"), bounds, 1).expect("encoder")
}

/// What is before the number and after it.
fn line_of_another_ledger(
    source: &Path,
    content: &[u8],
    encoder: &mut Transformer,
) -> (&'static str, String) {
    let mut packed = Vec::new();
    encoder.start("a".as_ref());
    encoder.feed(content, &mut packed).and_then(|()| encoder.finish(&mut packed)).expect("packed");
    let (source, bytes, packed_bytes) = (source.display(), content.len(), packed.len());
    let [hash, packed_hash] = [content, &packed].map(|content| blake3::hash(content).to_hex());
    let end = format!(
        ",\"ledger\":\"{OTHER_LEDGER}\",\"pipeline\":\"main\",\"outcome\":\"published\",\
         \"source\":\"{source}\",\"source_bytes\":{bytes},\"output\":\"{source}.zst\",\
         \"output_bytes\":{packed_bytes},\"source_hash\":\"{hash}\",\
         \"output_hash\":\"{packed_hash}\",\"seconds\":0.1}}\n"
    );
    ("{\"time\":\"2026-01-01T00:00:00.000Z\",\"id\":", end)
}

/// When a producer renames a source that it has delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before it is published, as far as the service is that slow.
    AtOnce,
    /// After the other deliveries of its wave: it may be anywhere.
    Later,
    /// As soon as its line is there: it is about to be disposed of.
    Acknowledged,
}

impl When {
    pub const ALL: [Self; 3] = [Self::AtOnce, Self::Later, Self::Acknowledged];
}

/// Where the service takes its time, so that the renames meet sources in flight: before an output is
/// published, and before its source is disposed of.
pub const TIME_TO_RENAME: &str = "commit::sync=sleep(20);dispose=sleep(20)";

/// What a source is renamed to.
#[derive(Clone, Debug)]
pub struct Rename {
    pub to: PathBuf,
    pub when: When,
}

/// Chooses some sources to rename: those that come once and whose outputs' names are free.
pub fn renames(
    contents: &BTreeMap<PathBuf, Vec<Vec<u8>>>,
    foreign: &BTreeMap<PathBuf, Vec<u8>>,
    seed: u64,
) -> BTreeMap<PathBuf, Rename> {
    let mut random = Random::new(seed ^ 0x4e4a);
    let mut chosen = BTreeMap::new();
    for (source, versions) in contents {
        let is_taken = foreign.contains_key(&source.with_extension("log.zst"));
        if versions.len() > 1 || is_taken || random.below(2) == 0 {
            continue;
        }
        let name = source.file_stem().expect("a name").to_string_lossy();
        let to = source.with_file_name(format!("{name}-renamed.log"));
        let when = When::ALL[usize::try_from(random.below(3)).expect("small")];
        chosen.insert(source.clone(), Rename { to, when });
    }
    chosen
}

/// Renames a source, if it still is there.
pub fn rename(input: &Path, from: &Path, to: &Path, sync: bool) -> io::Result<bool> {
    let (from, to) = (input.join(from), input.join(to));
    match fs::rename(&from, &to) {
        // It was removed or archived before.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        renamed => renamed?,
    }
    if sync {
        File::open(to.parent().expect("a parent"))?.sync_all()?;
    }
    Ok(true)
}

/// Whether there is an outcome of each of these deliveries, under one of its names.
pub fn have_outcomes<'a>(
    events: &[u8],
    plan: &Plan,
    mut deliveries: impl Iterator<Item = &'a Delivery>,
) -> bool {
    let lines = lines(events);
    deliveries.all(|Delivery { source, version, .. }| {
        let of_it = |line: &&Line| plan.names(source).any(|name| name == line.source);
        lines.iter().filter(of_it).count() > *version
    })
}

/// How often each renamed source was published, under both names, where it was not to be published once.
/// While the service lives, a source that goes is published once; one that is kept once for each name,
/// and with `replace` again for a new time.
pub fn published_too_often(scenario: &Scenario, plan: &Plan, events: &[u8]) -> Vec<String> {
    let lines = lines(events);
    let allowed = match scenario.on_success {
        "keep" if scenario.touched && scenario.on_exists == "replace" => 3,
        "keep" => 2,
        _ => 1,
    };
    let times = |from: &Path| {
        let is_of_it = |line: &&Line| {
            line.outcome == "published" && plan.names(from).any(|name| name == line.source)
        };
        lines.iter().filter(is_of_it).count()
    };
    let all = plan.renames.keys().map(|from| (from, times(from)));
    let wrong = all.filter(|(_, times)| !(1..=allowed).contains(times));
    wrong.map(|(from, times)| format!("{} was published {times} times", from.display())).collect()
}
