//! The directories of one service: an input, an output, a state directory, and the real binary on them.

use std::{
    ffi::OsStr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The most that is waited for one condition.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Directories of one service. Dropping it removes them.
pub struct TestDir {
    root: TempDir,
}

/// How a process ended, and what it printed.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A process that runs. Dropping it kills it.
pub struct Running {
    child: Child,
    stdout: Captured,
    stderr: Captured,
}

/// What a process wrote to one of its outputs, and the thread that reads it.
struct Captured {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl TestDir {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let place = Self { root };
        std::fs::create_dir(place.input()).unwrap();
        std::fs::create_dir(place.output()).unwrap();
        place.configure("");
        place
    }

    pub fn root(&self) -> PathBuf {
        self.root.path().canonicalize().unwrap()
    }

    pub fn input(&self) -> PathBuf {
        self.root().join("in")
    }

    pub fn output(&self) -> PathBuf {
        self.root().join("out")
    }

    pub fn state(&self) -> PathBuf {
        self.root().join("state")
    }

    pub fn quarantine(&self) -> PathBuf {
        self.state().join("quarantine/main")
    }

    /// Writes the configuration: quick to give up, and with these lines of the pipeline.
    pub fn configure(&self, lines: &str) {
        let text = format!(
            "state_dir = \"state\"\nhttp = \"off\"\n[[pipeline]]\ninput = \"in\"\noutput = \"out\"\nattempts = 2\nbackoff = \"10ms\"\n{lines}\n"
        );
        std::fs::write(self.root().join("tidemill.toml"), text).unwrap();
    }

    /// Puts a file into the input, whole.
    pub fn put(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.input().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// `tidemill`, in this root, with no settings of the one who runs the tests.
    pub fn tidemill(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command
            .current_dir(self.root())
            .args(args)
            .env("RUST_LOG", "info,tidemill=debug")
            .env_remove("FAILPOINTS");
        command
    }

    /// A command, to its end.
    pub fn run(&self, args: &[&str]) -> Ended {
        Running::start(&mut self.tidemill(args)).end()
    }

    /// What is there, processed.
    pub fn once(&self, args: &[&str]) -> Ended {
        self.run(&[&["run", "--config", "tidemill.toml", "--once"], args].concat())
    }

    /// The service, watching, once it is ready.
    pub fn watch(&self, args: &[&str]) -> Running {
        self.watch_with(args, "")
    }

    /// As [`Self::watch`], with failpoints.
    pub fn watch_with(&self, args: &[&str], failpoints: &str) -> Running {
        let has = cfg!(feature = "failpoints") || failpoints.is_empty();
        assert!(has, "this test needs `--features failpoints`");
        let args = [&["run", "--config", "tidemill.toml"], args].concat();
        let running = Running::start(self.tidemill(&args).env("FAILPOINTS", failpoints));
        running.until_logged("phase=READY");
        running
    }

    /// This failpoint once stalls, until [`Self::open_gate`].
    pub fn gate(&self, failpoint: &str) -> String {
        let gate = self.root().join("gate");
        std::fs::write(&gate, "").unwrap();
        format!("{failpoint}=1*return(while:{})->off", gate.display())
    }

    pub fn open_gate(&self) {
        rustix::fs::unlink(self.root().join("gate")).unwrap();
    }

    /// The ledger's records of one source, the newest first.
    pub fn history(&self, source: &str) -> Vec<serde_json::Value> {
        let history = self.run(&["history", "--json"]);
        assert_eq!(history.code, 0, "{history:?}");
        let records = history.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
        records.filter(|record: &serde_json::Value| record["source"] == source).collect()
    }

    /// The state of the newest record of a source; empty where there is none.
    pub fn state_of(&self, source: &str) -> String {
        let history = self.history(source);
        history.first().map_or("", |record| record["state"].as_str().unwrap()).to_owned()
    }

    /// The reason of the newest record of a source.
    pub fn reason_of(&self, source: &str) -> String {
        let history = self.history(source);
        let record = history.first().unwrap_or_else(|| panic!("no record of {source}"));
        record["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// What an output decompresses to.
    pub fn published(&self, name: impl AsRef<Path>) -> Vec<u8> {
        decompressed(&self.output().join(name))
    }

    /// Every path below the root that the service must have removed by its end.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let mut found = tree(&self.root());
        found.retain(|path| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            name.starts_with(b".tidemill-")
        });
        found
    }

    /// No temporary file and no private name is left anywhere.
    pub fn assert_clean(&self) {
        assert_eq!(self.leftovers(), Vec::<PathBuf>::new());
    }
}

/// Every file below a directory, links not followed.
pub fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// The content of a zstd file, by its library and not by the program under test.
pub fn decompressed(path: &Path) -> Vec<u8> {
    use tokio::io::AsyncReadExt;
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut content = Vec::new();
    let mut decoder = async_compression::tokio::bufread::ZstdDecoder::new(bytes.as_slice());
    runtime.block_on(decoder.read_to_end(&mut content)).unwrap();
    content
}

/// Waits until the condition holds.
pub fn until(what: impl AsRef<OsStr>, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {}", what.as_ref().display());
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).spawn().unwrap();
        let stdout = Captured::by(child.stdout.take().unwrap());
        let stderr = Captured::by(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.stderr.text()
    }

    pub fn until_logged(&self, text: &str) {
        let began = Instant::now();
        while !self.log().contains(text) {
            assert!(began.elapsed() < PATIENCE, "it never logged {text:?}:\n{}", self.log());
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGTERM, and its end.
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.end()
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end:\n{}", self.log());
            std::thread::park_timeout(Duration::from_millis(2));
        };
        let code = status.code().unwrap_or_else(|| panic!("{status}:\n{}", self.log()));
        Ended { code, stdout: self.stdout.whole(), stderr: self.stderr.whole() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It ended already, or is made to.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Captured {
    fn by(mut output: impl std::io::Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                written.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    fn whole(&mut self) -> String {
        self.reader.take().unwrap().join().unwrap();
        self.text()
    }
}
