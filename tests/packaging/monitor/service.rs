//! A running service with its metrics, and other programs that are stopped when they are let go.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The most that is waited for one condition.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A process. Dropping it kills it.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only where it has ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The service that runs in a directory that has `in` and `out`.
pub struct Service {
    _process: Process,
    pub address: SocketAddr,
}

impl Service {
    /// Starts it on `in` and `out` of this directory, and waits until it is ready.
    pub fn start(dir: &Path, more: &[&str]) -> Self {
        let log = dir.join("log");
        let process = Command::new(env!("CARGO_BIN_EXE_tidemill"))
            .args(["run", "in", "out", "--http", "127.0.0.1:0"])
            .args(more)
            .current_dir(dir)
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::options().append(true).create(true).open(&log).expect("log"))
            .spawn()
            .expect("start");
        let process = Process(process);
        let logged = || fs::read_to_string(&log).expect("log");
        until("the service is ready", || logged().contains("phase=READY"));
        let address = logged();
        let address = address.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        Self { _process: process, address: address.expect("an address").parse().expect("address") }
    }

    pub fn metrics(&self) -> String {
        get(self.address, "/metrics").expect("metrics")
    }
}

/// Polls until it is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// The body of the answer to a GET, where it is 200.
pub fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    // Of 1.0, so that no answer comes in chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).is_some_and(|status| status == "200").then(|| body.to_owned())
}

/// Runs a program with this input: whether it was content, and what it printed.
pub fn run(program: &str, args: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("write");
    let output = child.wait_with_output().expect("wait");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), printed)
}

/// Whether a program is there.
pub fn has(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// A directory with `in` and `out`.
pub fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    for name in ["in", "out"] {
        fs::create_dir(dir.path().join(name)).expect("directory");
    }
    dir
}

/// A file of the project.
pub fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root(path)).expect("read")
}
