//! One guest: a user-mode Linux on the host's root, which it cannot write to, and its console.

use std::{
    io::{Read, Write},
    os::{
        fd::AsRawFd,
        unix::{net::UnixDatagram, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpgid};

/// The most that one command, or the boot, may take: a client may remember for a minute that a name was
/// not there, and unavailable storage is probed each minute.
const PATIENCE: Duration = Duration::from_secs(150);
/// What is preloaded into it, made from `xstate.c`.
pub const XSTATE: &str = "xstate.so";
const LINUX: &str = "linux.uml";

/// What makes one guest different from another.
pub struct Machine<'a> {
    pub name: &'a str,
    /// For each network device: its address, and the end of its cable.
    pub network: &'a [(&'a str, &'a UnixDatagram)],
    /// A file that is its disk, `/dev/ubda`.
    pub disk: Option<&'a Path>,
    /// Where it keeps its memory and its socket.
    pub scratch: &'a Path,
}

/// A guest that runs. Dropping it takes its power away.
pub struct Guest {
    name: String,
    child: Child,
    /// What it wrote to its console so far, and how much of it was read.
    console: Arc<Mutex<Vec<u8>>>,
    read: usize,
}

/// How a command in a guest ended, and what it wrote.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub text: String,
}

impl Guest {
    /// Gives it power; [`Self::until_up`] waits for its boot.
    pub fn start(machine: &Machine<'_>) -> Self {
        let init = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proofs/network/guest.sh");
        let binaries = Path::new(env!("CARGO_BIN_EXE_tidemill")).parent().unwrap();
        let addresses: Vec<_> = machine.network.iter().map(|(address, _)| *address).collect();
        let mut command = Command::new(LINUX);
        command
            .args(["mem=256M", "quiet", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro"])
            .args(["con=null", "con0=fd:0,fd:1", "ssl=null"])
            .arg(format!("init={}", init.display()))
            .arg(format!("uml_dir={}/", machine.scratch.display()))
            .arg(format!("umid={}", machine.name))
            .arg(format!("guest={}", machine.name))
            .arg(format!("addresses={}", addresses.join(",")))
            .arg(format!("binaries={}", binaries.display()));
        for (device, (address, cable)) in machine.network.iter().enumerate() {
            // The guest inherits its end of the cable.
            rustix::io::fcntl_setfd(cable, rustix::io::FdFlags::empty()).unwrap();
            let last = address.rsplit('.').collect::<Vec<_>>();
            // The same card after a power loss: its neighbours remember its hardware address.
            let mac = format!("02:00:00:00:{:0>2}:{:0>2}", last[1], last[0]);
            let cable = cable.as_raw_fd();
            command.arg(format!("vec{device}:transport=fd,fd={cable},depth=64,gro=0,mac={mac}"));
        }
        command.args(machine.disk.map(|disk| format!("ubd0={}", disk.display())));
        command.env("TMPDIR", machine.scratch);
        command.env("LD_PRELOAD", machine.scratch.join(XSTATE));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.process_group(0).spawn().unwrap();
        let console = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&console);
        let mut output = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                written.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { name: machine.name.to_owned(), child, console, read: 0 }
    }

    pub fn until_up(&mut self) {
        self.answer(":up", "its boot").unwrap_or_else(|reason| panic!("{reason}"));
    }

    /// Runs a line of shell, to its end.
    pub fn run(&mut self, line: &str) -> Ended {
        self.try_run(line).unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// As [`Self::run`]; why not, where the guest ended or hangs.
    pub fn try_run(&mut self, line: &str) -> Result<Ended, String> {
        assert!(!line.contains('\n'), "a command is one line: {line:?}");
        let mut console = self.child.stdin.as_ref().unwrap();
        console.write_all(format!("{line}\n").as_bytes()).map_err(|error| error.to_string())?;
        let (text, code) = self.answer(":end ", line)?;
        Ok(Ended { code: code.parse().unwrap(), text: text.trim().to_owned() })
    }

    /// As [`Self::run`]; what it wrote, where it succeeded.
    pub fn succeed(&mut self, line: &str) -> String {
        let ended = self.run(line);
        assert_eq!(ended.code, 0, "{}: {line}\n{}\n{}", self.name, ended.text, self.history());
        ended.text
    }

    /// Runs a line of shell again and again, until it succeeds.
    pub fn until(&mut self, line: &str) {
        let began = Instant::now();
        while self.run(line).code != 0 {
            let history = self.history();
            assert!(began.elapsed() < PATIENCE, "{}: in vain: {line}\n{history}", self.name);
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// What comes before a line that begins with `mark`, and the rest of that line.
    fn answer(&mut self, mark: &str, what: &str) -> Result<(String, String), String> {
        let began = Instant::now();
        let mark = format!("\n{mark}");
        loop {
            let console = self.console.lock().unwrap().clone();
            let new = String::from_utf8_lossy(console.get(self.read..).unwrap_or_default());
            if let Some((before, after)) = new.split_once(&mark)
                && let Some((rest, _)) = after.split_once('\n')
            {
                self.read = console.len();
                return Ok((before.to_owned(), rest.trim().to_owned()));
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                return Err(format!("{} ended in {what}: {status}\n{}", self.name, self.history()));
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("{} hangs in {what}\n{}", self.name, self.history()));
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// All that came on its console.
    fn history(&self) -> String {
        let console = self.console.lock().unwrap();
        format!("--- console of {}:\n{}", self.name, String::from_utf8_lossy(&console))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // A guest's processes are processes here, of its group.
        let group = Pid::from_child(&self.child);
        kill_process_group(group, Signal::KILL).ok();
        self.child.wait().ok();
        // The test is the reaper of its descendants.
        while let Ok(Some(_)) = waitpgid(group, WaitOptions::empty()) {}
    }
}
