//! A real process of the service on a tree of its own, and what must be true of that tree.

#![expect(clippy::unnecessary_debug_formatting, reason = "a name may hold anything")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tidemill::{policy::ExpansionLimits, transforms::Transformer};

use crate::neighbour::{Neighbour, own_lines};

/// What a test waits for at most: a hang is a failure, a slow machine is not.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// As on a file system whose renames cannot refuse to replace: files get their names by links.
pub const LINKS: &str = "gate::no_replace=return(out)";

/// An input, an output and an archive, and what was put into the input.
pub struct Tree {
    root: tempfile::TempDir,
    pub contents: BTreeMap<PathBuf, Vec<u8>>,
    /// Names in the archive that files of an earlier day have.
    archived: BTreeSet<PathBuf>,
    links: bool,
}

/// A running service. Dropping it kills it.
pub struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl From<Child> for Service {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Service {
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).expect("signal the service");
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits for the end: the exit code, or the negative signal that killed it.
    pub fn wait(self) -> i32 {
        self.ended().expect("the service ends")
    }

    /// As [`Self::wait`]; none where it does not end.
    pub fn ended(self) -> Option<i32> {
        self.ended_within(PATIENCE)
    }

    pub fn ended_within(mut self, patience: Duration) -> Option<i32> {
        let mut status = None;
        wait_within(patience, || {
            status = self.0.try_wait().expect("wait");
            status.is_some()
        });
        status.map(|status| status.code().unwrap_or_else(|| -status.signal().expect("a signal")))
    }
}

/// Polls until it is so, with [`PATIENCE`].
pub fn until(what: &str, is_so: impl FnMut() -> bool) {
    assert!(wait_for(is_so), "in vain: {what}");
}

/// Whether it comes to be so within [`PATIENCE`].
pub fn wait_for(is_so: impl FnMut() -> bool) -> bool {
    wait_within(PATIENCE, is_so)
}

fn wait_within(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() >= patience {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    true
}

/// What the files of an earlier day hold.
const EARLIER: &[u8] = b"of an earlier day";

impl Tree {
    pub fn new() -> Self {
        let root = tempfile::tempdir().expect("temporary directory");
        for dir in ["in", "out", "archive"] {
            fs::create_dir(root.path().join(dir)).expect("directory");
        }
        Self { root, contents: BTreeMap::new(), archived: BTreeSet::new(), links: false }
    }

    /// A tree whose files get their names by links, or not.
    #[must_use]
    pub fn by_links(self, links: bool) -> Self {
        Self { links, ..self }
    }

    /// This many small files in a few directories, and large ones that stream in chunks.
    pub fn with(small: usize, large: usize) -> Self {
        let mut tree = Self::new();
        for number in 0..small {
            let line = format!("line {number} of a small file\n");
            let path = format!("d{}/file-{number}.log", number % 3);
            tree.put(&path, line.repeat(number % 50 + 1).as_bytes());
        }
        for number in 0..large {
            let line = format!("{number} {:x}\n", number * 7_919);
            tree.put(&format!("large-{number}.bin"), line.repeat(60_000).as_bytes());
        }
        tree
    }

    /// The archive has another file of each second name, of an earlier day.
    #[must_use]
    pub fn with_archived(mut self) -> Self {
        self.archived = self.contents.keys().step_by(2).cloned().collect();
        for path in &self.archived {
            let whole = self.path("archive").join(path);
            fs::create_dir_all(whole.parent().expect("a parent")).expect("directory");
            fs::write(whole, EARLIER).expect("write");
        }
        self
    }

    /// The name that a source gets in the archive.
    fn archived_name(&self, path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        if self.archived.contains(path) {
            name.push(".1");
        }
        name.into()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Puts a file into the input, as a producer does.
    pub fn put(&mut self, path: &str, content: &[u8]) {
        let whole = self.path("in").join(path);
        fs::create_dir_all(whole.parent().expect("a parent")).expect("directory");
        fs::write(whole, content).expect("write");
        self.contents.insert(path.into(), content.to_vec());
    }

    pub fn command(&self, on_success: &str, more: &[&str]) -> Command {
        // Another build of it may be asked for, to measure the one that users run.
        let built = env!("CARGO_BIN_EXE_tidemill").into();
        let mut command = Command::new(std::env::var_os("PROVE_BIN").unwrap_or(built));
        let on_success = match on_success {
            "archive" => format!("archive:{}", self.path("archive").display()),
            other => other.to_owned(),
        };
        command
            .args(["run", "in", "out", "--http", "off", "--events", "events"])
            .args(["--on-success", &on_success])
            .args(more)
            .current_dir(self.root.path())
            .env("RUST_LOG", "info,tidemill=debug")
            .env("FAILPOINTS", if self.links { LINKS } else { "" })
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(
                fs::File::options().append(true).create(true).open(self.path("log")).expect("log"),
            );
        command
    }

    /// Runs by a configuration file of the tree.
    pub fn configured(&self, config: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        let log = fs::File::options().append(true).create(true).open(self.path("log"));
        command
            .args(["run", "--http", "off", "--config", config])
            .current_dir(self.root.path())
            .env("RUST_LOG", "info,tidemill=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("log"));
        command
    }

    pub fn start(&self, on_success: &str, more: &[&str]) -> Service {
        Service(self.command(on_success, more).spawn().expect("start"))
    }

    /// Starts it with these failpoints.
    pub fn start_with(&self, failpoints: &str, on_success: &str, more: &[&str]) -> Service {
        let mut command = self.command(on_success, more);
        Service(command.env("FAILPOINTS", failpoints).spawn().expect("start"))
    }

    /// Runs `--once` to its end.
    pub fn once(&self, on_success: &str) -> i32 {
        self.start(on_success, &["--once"]).wait()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Every file below a directory, with its path below it.
    pub fn files(&self, dir: &str) -> Vec<PathBuf> {
        let root = self.path(dir);
        let mut found = Vec::new();
        let mut pending = vec![root.clone()];
        while let Some(dir) = pending.pop() {
            for entry in fs::read_dir(&dir).expect("list").map(|entry| entry.expect("entry")) {
                if entry.file_name() == ".tidemill" {
                    continue;
                }
                if entry.file_type().expect("type").is_dir() {
                    pending.push(entry.path());
                } else {
                    found.push(entry.path().strip_prefix(&root).expect("below").to_path_buf());
                }
            }
        }
        found.sort();
        found
    }

    /// Another program that works on the events file and the ledger, until it is dropped.
    pub fn shared(&self, state: &str, seed: u64) -> Neighbour {
        Neighbour::start(self.path("events"), self.path(state).join("ledger.sqlite"), seed)
    }

    /// How many lines the events file has for each published source.
    pub fn acknowledged(&self) -> BTreeMap<PathBuf, usize> {
        let mut counts = BTreeMap::new();
        for event in own_lines(&self.path("events")) {
            if event["outcome"] == "published" {
                let source = event["source"].as_str().expect("a source");
                *counts.entry(PathBuf::from(source)).or_default() += 1;
            }
        }
        counts
    }

    /// Nothing of the service's own is left among the users' files.
    pub fn assert_no_leftovers(&self) {
        for dir in ["in", "out", "archive"] {
            let ours = |path: &&PathBuf| name(path).starts_with(".tidemill");
            let files = self.files(dir);
            let left: Vec<_> = files.iter().filter(ours).collect();
            assert!(left.is_empty(), "left in {dir}: {left:?}\n{}", self.log());
        }
    }

    /// Every output that is there is whole, and is the only one of its source.
    pub fn assert_outputs_whole(&self) {
        let mut unzstd = decoder();
        for output in self.files("out") {
            if name(&output).starts_with(".tidemill") {
                continue;
            }
            let source = output.with_extension("");
            let content = self.contents.get(&source);
            let content = content.unwrap_or_else(|| panic!("{output:?} is of no source"));
            let packed = fs::read(self.path("out").join(&output)).expect("read");
            assert!(decode(&mut unzstd, &packed) == *content, "{output:?} is not whole");
        }
    }

    /// No source is lost: it is in the input, or its output is there.
    pub fn assert_nothing_lost(&self, on_success: &str) {
        self.assert_outputs_whole();
        for (path, content) in &self.contents {
            let source = self.path("in").join(path).exists();
            let output = self.path("out").join(packed_name(path)).exists();
            assert!(source || output, "{path:?} is lost\n{}", self.log());
            assert!(source || on_success != "keep", "{path:?} was to be kept");
            let archived = self.path("archive").join(self.archived_name(path));
            if archived.exists() {
                assert!(fs::read(&archived).expect("read") == *content, "{path:?} in the archive");
                assert!(!source, "{path:?} is in the archive and in the input");
            }
        }
    }

    /// Everything was done, once: each source has its output, was acknowledged once and disposed of.
    pub fn assert_done(&self, on_success: &str) {
        self.assert_nothing_lost(on_success);
        self.assert_no_leftovers();
        let sources: Vec<_> = self.contents.keys().cloned().collect();
        let outputs: Vec<_> = sources.iter().map(|path| packed_name(path)).collect();
        let found = self.files("out");
        assert!(
            found == sorted(outputs),
            "outputs: {} of {}\n{}",
            found.len(),
            sources.len(),
            self.log()
        );
        let kept = if on_success == "keep" { sources.clone() } else { Vec::new() };
        let mut archived: Vec<_> = self.archived.iter().cloned().collect();
        if on_success == "archive" {
            archived.extend(sources.iter().map(|path| self.archived_name(path)));
        }
        assert_eq!(self.files("in"), kept, "{}", self.log());
        assert_eq!(self.files("archive"), sorted(archived), "{}", self.log());
        for path in &self.archived {
            let content = fs::read(self.path("archive").join(path)).expect("read");
            assert_eq!(content, EARLIER, "{path:?} was replaced in the archive\n{}", self.log());
        }
        let once: BTreeMap<_, _> = sources.into_iter().map(|path| (path, 1)).collect();
        assert_eq!(self.acknowledged(), once, "{}", self.log());
    }
}

fn sorted(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

fn packed_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".zst");
    name.into()
}

pub fn decoder() -> Transformer {
    let bounds =
        ExpansionLimits { output_bytes: u64::MAX, ratio: u64::MAX, decoder_bytes: 1 << 27 };
    Transformer::new(&"unzstd".parse().expect("transforms"), bounds, 0).expect("decoder")
}

pub fn decode(unzstd: &mut Transformer, packed: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    unzstd.start("a".as_ref());
    unzstd.feed(packed, &mut content).expect("a whole zstd file");
    unzstd.finish(&mut content).expect("a whole zstd file");
    content
}
