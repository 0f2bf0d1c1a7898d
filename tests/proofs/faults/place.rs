//! Few descriptors, a slow disk, a clock that jumps, an input that is unmounted.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    faults::trace,
    harness::{Service, Tree, until},
    mounts::Mount,
    prove,
};

/// The service as an argument of another program, which changes its circumstances.
fn under(program: &str, args: &[&str], tree: &Tree, on_success: &str, more: &[&str]) -> Command {
    let service = tree.command(on_success, more);
    let mut command = Command::new(program);
    command.args(args).arg(service.get_program()).args(service.get_args());
    let log = fs::File::options().append(true).create(true).open(tree.path("log")).expect("log");
    command.current_dir(tree.path("")).env("RUST_LOG", "info").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(log);
    command
}

#[test]
fn thirty_two_descriptors_are_enough_or_the_start_says_what_is_needed() {
    for on_success in ["keep", "delete", "archive"] {
        let tree = Tree::with(200, 3);
        let limit = ["--nofile=32:32"];
        let service = under("prlimit", &limit, &tree, on_success, &["--once"]).spawn();
        let code = Service::from(service.expect("start")).wait();
        if code == 78 {
            assert!(tree.log().contains("descriptors"), "{}", tree.log());
            tree.assert_nothing_lost(on_success);
        } else {
            assert_eq!(code, 0, "{}", tree.log());
        }
        assert_eq!(tree.once(on_success), 0, "{}", tree.log());
        tree.assert_done(on_success);
    }
}

#[test]
fn a_slow_disk_does_not_hold_up_the_stop_beyond_its_deadline() {
    let name = "a slow disk";
    if !trace::is_possible(name) {
        return;
    }
    let tree = Tree::with(120, 0);
    let slow = [
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fsync,fdatasync",
        "-e",
        "inject=fsync,fdatasync:delay_enter=300000",
    ];
    let more = ["--shutdown-deadline", "1s"];
    let tracer =
        Service::from(under("strace", &slow, &tree, "delete", &more).spawn().expect("start"));
    until("the service is ready", || tree.log().contains("phase=READY"));
    let children = format!("/proc/{0}/task/{0}/children", tracer.pid());
    let service = fs::read_to_string(children).expect("the tracer's child");
    let service = service.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
    let start = Instant::now();
    rustix::process::kill_process(service.expect("a process"), Signal::TERM).expect("signal");
    let code = tracer.wait();
    let took = start.elapsed();
    assert!([0, 75].contains(&code), "{code}\n{}", tree.log());
    assert!(took < Duration::from_secs(3), "{took:?}\n{}", tree.log());
    tree.assert_nothing_lost("delete");
    assert_eq!(tree.once("delete"), 0, "{}", tree.log());
    tree.assert_done("delete");
}

/// Where Debian has the library that shows a process another time.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// What the library shares between processes by the number of the first. Dropping it removes that:
/// the library would at the end of the process, but the sandbox does not let it.
struct Shared(u32);

impl Drop for Shared {
    #[expect(clippy::disallowed_methods, reason = "another program's files")]
    fn drop(&mut self) {
        for name in ["faketime_shm_", "sem.faketime_sem_"] {
            fs::remove_file(format!("/dev/shm/{name}{}", self.0)).ok();
        }
    }
}

#[test]
fn a_clock_that_jumps_loses_nothing_and_repeats_nothing() {
    if !Path::new(FAKETIME).exists() {
        return prove::skipped("clock jumps", "libfaketime is not there");
    }
    for on_success in ["keep", "delete", "archive"] {
        let mut tree = Tree::with(20, 1);
        let clock = tree.path("clock");
        let set = |offset: &str| fs::write(&clock, offset).expect("set the clock");
        set("+0");
        let mut command = tree.command(on_success, &["--settle", "100ms"]);
        command.env("LD_PRELOAD", FAKETIME).env("FAKETIME_TIMESTAMP_FILE", &clock);
        // The monotonic clock does not jump, whatever the other does.
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let service = Service::from(command.spawn().expect("start"));
        let _shared = Shared(service.pid());
        for (number, offset) in ["+0", "+400d", "-400d", "+1d", "-1h"].into_iter().enumerate() {
            set(offset);
            tree.put(&format!("jump/{number}.log"), offset.repeat(number + 1).as_bytes());
            let wanted = tree.contents.len();
            let acknowledged = || tree.acknowledged().len();
            let jumped = format!("{wanted} files are published after a jump to {offset}");
            until(&jumped, || acknowledged() == wanted);
        }
        service.signal(Signal::TERM);
        assert_eq!(service.wait(), 0, "{}", tree.log());
        assert_eq!(tree.once(on_success), 0, "{}", tree.log());
        tree.assert_done(on_success);
    }
}

/// Its sources are with it, and nothing is lost. What comes on the next mount is processed by this
/// process; in the sandbox by the next, for which this one makes way (`tests/proofs/hostile/sandbox.rs`).
#[test]
fn an_input_that_is_unmounted_is_waited_for() {
    let mut tree = Tree::new();
    let Some(first) = Mount::memory(&tree.path("in"), "64m") else { return };
    tree.put("first.log", b"on the first mount");
    let config = "http = \"off\"\nevents = \"events\"\nsandbox = \"off\"\n[[pipeline]]\n\
                  name = \"main\"\ninput = \"in\"\noutput = \"out\"\nrescan = \"1s\"\n";
    fs::write(tree.path("tidemill.toml"), config).expect("configuration");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(["run", "--config", "tidemill.toml"]).current_dir(tree.path(""));
    let service = Service::from(command.stderr(Stdio::null()).spawn().expect("start"));
    until("the first is published", || tree.acknowledged().len() == 1);
    drop(first);
    let second = Mount::memory(&tree.path("in"), "64m").expect("mount");
    tree.put("second.log", b"on the second mount");
    until("the second is published", || tree.acknowledged().len() == 2);
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0);
    assert!(tree.acknowledged().values().all(|times| *times == 1));
    tree.assert_outputs_whole();
    drop(second);
}
