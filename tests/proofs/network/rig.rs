//! An NFSv4.2 server and its clients, each with a kernel and a cache of its own, on cables that nobody
//! else is on.

use std::{os::unix::net::UnixDatagram, path::PathBuf, process::Command};

use tempfile::TempDir;

use crate::network::guest::{Guest, Machine, XSTATE};

const CLIENTS: [(&str, &str, &str); 2] =
    [("worker", "10.0.1.1", "10.0.1.2"), ("neighbour", "10.0.2.1", "10.0.2.2")];
const DISK_BYTES: u64 = 256 << 20;
/// What a machine needs to be one of this rig.
const PROGRAMS: [&str; 7] =
    ["linux.uml", "rpc.nfsd", "exportfs", "mount.nfs4", "modprobe", "mkfs.ext4", "cc"];

pub struct Rig {
    /// Runs the service.
    pub worker: Guest,
    /// Puts files into the input, and takes outputs.
    pub neighbour: Guest,
    server: Option<Guest>,
    /// Both ends of each client's cable.
    cables: [(UnixDatagram, UnixDatagram); 2],
    scratch: TempDir,
}

/// What of the rig this machine lacks.
pub fn missing() -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut missing = PROGRAMS.to_vec();
    missing.retain(|name| !std::env::split_paths(&path).any(|dir| dir.join(name).exists()));
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root".to_owned());
    }
    (!missing.is_empty()).then(|| format!("it needs {}", missing.join(", ")))
}

impl Rig {
    pub fn new() -> Self {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let cables = [UnixDatagram::pair().unwrap(), UnixDatagram::pair().unwrap()];
        let disk = scratch.path().join("disk");
        std::fs::File::create_new(&disk).unwrap().set_len(DISK_BYTES).unwrap();
        assert!(Command::new("mkfs.ext4").arg("-q").arg(&disk).status().unwrap().success());
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proofs/network/xstate.c");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", source, "-o"]).arg(scratch.path().join(XSTATE));
        assert!(compile.status().unwrap().success());
        let client = |number: usize| {
            let (name, _, address) = CLIENTS[number];
            let network = [(address, &cables[number].1)];
            Guest::start(&Machine { name, network: &network, disk: None, scratch: scratch.path() })
        };
        let (worker, neighbour) = (client(0), client(1));
        let mut rig = Self { worker, neighbour, server: None, cables, scratch };
        rig.power_server();
        rig.server().succeed("serve first");
        for (client, (_, server, _)) in
            [&mut rig.worker, &mut rig.neighbour].into_iter().zip(CLIENTS)
        {
            client.until_up();
            client.succeed(&format!("join {server}"));
        }
        rig
    }

    pub fn server(&mut self) -> &mut Guest {
        self.server.as_mut().unwrap()
    }

    /// Takes the server's power away, and gives it back.
    pub fn lose_server(&mut self) {
        self.server = None;
        self.power_server();
        self.server().succeed("serve again");
    }

    fn power_server(&mut self) {
        let network = [(CLIENTS[0].1, &self.cables[0].0), (CLIENTS[1].1, &self.cables[1].0)];
        let disk: PathBuf = self.scratch.path().join("disk");
        let scratch = self.scratch.path();
        let machine = Machine { name: "server", network: &network, disk: Some(&disk), scratch };
        self.server.insert(Guest::start(&machine)).until_up();
    }

    /// Waits until this many outputs have their names, as the neighbour sees it.
    pub fn until_published(&mut self, outputs: usize) {
        self.neighbour.until(&format!("[ $(ls /mnt/nfs/out | grep -c 'zst$') -ge {outputs} ]"));
    }

    /// Sources must have been quiet for 2 s, by the clock of the worker, before they are removed.
    pub fn until_removed(&mut self) {
        self.neighbour.until("[ -z \"$(find /mnt/nfs/in -type f)\" ]");
    }

    /// Ends the service, which must be done with everything.
    pub fn stop(&mut self) {
        self.worker.succeed("kill -TERM $(</tmp/work/pid)");
        self.worker.until("[ -e /tmp/work/code ]");
        self.worker.succeed("cat /tmp/work/log; exit $(</tmp/work/code)");
    }

    /// Each file that the neighbour made has one output, whole, of its name; nothing else is there.
    pub fn assert_published(&mut self) {
        let made = self.neighbour.succeed("sort /tmp/made");
        let outputs = self.neighbour.succeed("outputs | sort");
        assert_eq!(outputs, made);
        let left = self.neighbour.succeed("find /mnt/nfs -name '.tidemill-*'");
        assert_eq!(left, "", "temporary files and private names are left");
    }

    pub fn assert_no_sources(&mut self) {
        assert_eq!(self.neighbour.succeed("find /mnt/nfs/in /mnt/nfs/stage -type f"), "");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.worker.try_run("tail -n 60 /tmp/work/log");
            println!(
                "--- the service's log:\n{}",
                log.map_or_else(|reason| reason, |log| log.text)
            );
        }
    }
}
