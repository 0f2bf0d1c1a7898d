//! What the children are: this test binary again, and an environment variable names the one to run.

use std::{
    ffi::OsString,
    fs::File,
    io,
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev, mknodat, renameat_with};

use landlock::{ABI, Access, Ruleset, RulesetAttr, RulesetCreatedAttr, Scope};
use tidemill::sandbox::{SandboxRules, drop_privileges, restrict};

pub const PROGRAM: &str = "TIDEMILL_TEST_PROGRAM";
/// The directory that [`confined`] works in, and two ports: one it must not reach, one it may.
pub const ROOT: &str = "TIDEMILL_TEST_ROOT";
pub const PORTS: &str = "TIDEMILL_TEST_PORTS";
/// The program that [`many_layers`] becomes, and its arguments, a line each.
pub const NEXT: &str = "TIDEMILL_TEST_NEXT";

/// Below the root: once it is there, [`swaps`] ends.
pub const STOP: &str = "staging/stop";

/// This binary, to be run as one of them.
pub fn child(program: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "hostile::child", "--ignored", "--nocapture"]).env(PROGRAM, program);
    command
}

fn print<T>(what: &str, result: io::Result<T>) {
    let error = result.err().and_then(|error| error.raw_os_error());
    println!("{what}: {}", error.map_or("done".to_owned(), |errno| format!("errno {errno}")));
}

/// Confines itself as the service does, starts a thread, and prints what that one can do.
pub fn confined() {
    let root = PathBuf::from(std::env::var_os(ROOT).unwrap());
    let ports = std::env::var(PORTS).unwrap();
    let ports = ports.split_once(' ').unwrap();
    let [refused, allowed] = [ports.0, ports.1].map(|port| port.parse().unwrap());
    drop_privileges(false).unwrap();
    let held = restrict(&SandboxRules {
        work: vec![root.join("one"), root.join("two")],
        append: vec![root.join("log")],
        read: vec![root.join("read")],
        read_files: vec![root.join("read_files")],
        listen: vec![0],
        connect: vec![allowed],
        sockets: Vec::new(),
        abstract_sockets: false,
        ..SandboxRules::default()
    });
    println!("extent: {}", held.as_ref().unwrap().extent);
    std::thread::spawn(move || try_all(&root, refused, allowed)).join().unwrap();
}

fn try_all(root: &Path, refused: u16, allowed: u16) {
    let at = |path: &str| root.join(path);
    print("read inside", std::fs::read(at("one/file")));
    print("rename inside", std::fs::rename(at("one/file"), at("two/file")));
    print("remove inside", std::fs::remove_file(at("two/file")));
    print("directory inside", std::fs::create_dir(at("two/directory")));
    print("append", std::fs::write(at("log/file"), "line"));
    print("remove from the log", std::fs::remove_file(at("log/file")));
    print("read what is read", std::fs::read(at("read/file")));
    print("write what is read", File::options().write(true).open(at("read/file")));
    print("truncate what is read", rustix_truncate(&at("read/file")));
    print("read below a file's directory", std::fs::read(at("read_files/file")));
    print("list a file's directory", std::fs::read_dir(at("read_files")));
    print("read outside", std::fs::read(at("secret")));
    print("read outside by a link inside", std::fs::read(at("one/link")));
    print("write outside", std::fs::write(at("new"), ""));
    print("remove outside", std::fs::remove_file(at("secret")));
    print("rename out", std::fs::rename(at("one/other"), at("other")));
    print("rename in", std::fs::rename(at("secret"), at("one/secret")));
    print("link inside", std::os::unix::fs::symlink("/", at("one/made")));
    print("list outside", std::fs::read_dir(root));
    print("run a program", Command::new("/bin/true").status());
    print("listen", TcpListener::bind("127.0.0.1:0"));
    print("listen elsewhere", TcpListener::bind(("127.0.0.1", 9999)));
    print("connect", TcpStream::connect(("127.0.0.1", allowed)));
    print("connect elsewhere", TcpStream::connect(("127.0.0.1", refused)));
    let parent = rustix::process::getppid().unwrap();
    print("signal", rustix::process::test_kill_process(parent).map_err(io::Error::from));
}

fn rustix_truncate(path: &Path) -> io::Result<()> {
    // By its name: no descriptor that could have been opened before.
    let status = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    let open = rustix::fs::open(status, rustix::fs::OFlags::TRUNC, 0.into());
    open.map(drop).map_err(io::Error::from)
}

/// Restricts itself as often as the kernel allows, and becomes another program, which then cannot
/// restrict itself again.
pub fn many_layers() {
    loop {
        let rules = Ruleset::default().scope(Scope::from_all(ABI::V6)).unwrap();
        let rules = rules.create().unwrap().no_new_privs(true);
        if rules.restrict_self().is_err() {
            break;
        }
    }
    let next: Vec<OsString> = std::env::var(NEXT).unwrap().lines().map(OsString::from).collect();
    let error = Command::new(&next[0]).args(&next[1..]).exec();
    panic!("{}: {error}", next[0].display());
}

/// A producer that swaps what has a name, as fast as it can, until [`STOP`] is there: files of its
/// own for links to what it may not read, FIFOs, sockets, and for devices where it is root; and a
/// directory for a link to another.
pub fn swaps() {
    let root = PathBuf::from(std::env::var_os(ROOT).unwrap());
    let at = |path: &str| root.join(path);
    let mut count = 0_u64;
    while !at(STOP).exists() {
        count += 1;
        let name = at("in").join(format!("file{count}"));
        let made = at("staging/made");
        std::fs::write(&made, "mine").unwrap();
        std::fs::rename(&made, &name).unwrap();
        // The directory's file, by whichever of the two names the directory has now.
        for dir in ["in/dir", "staging/dir"].map(at) {
            if dir.symlink_metadata().unwrap().is_dir() {
                std::fs::write(dir.join("file"), "mine").unwrap();
            }
        }
        // From "at once" to "when it may be published already": every step is met.
        std::thread::park_timeout(Duration::from_micros(20 * (count % 100)));
        match count % 8 {
            0..4 => std::os::unix::fs::symlink(at("outside/secret"), &made).unwrap(),
            4 => mknodat(CWD, &made, FileType::Fifo, Mode::RWXU, 0).unwrap(),
            5 => drop(std::os::unix::net::UnixListener::bind(&made).unwrap()),
            _ if crate::hostile::is_root() => {
                // The device of endless zeros.
                mknodat(CWD, &made, FileType::CharacterDevice, Mode::RWXU, makedev(1, 5)).unwrap();
            }
            _ => std::os::unix::fs::symlink("/dev/zero", &made).unwrap(),
        }
        std::fs::rename(&made, &name).unwrap();
        renameat_with(CWD, at("in/dir"), CWD, at("staging/dir"), RenameFlags::EXCHANGE).unwrap();
    }
    println!("swaps: {count}");
}
