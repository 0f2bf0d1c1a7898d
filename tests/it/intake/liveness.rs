//! Nothing stalls: not for a lease, a short interval, unavailable storage or an operator's pause,
//! and none of them costs memory without a bound.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    files::{Running, TestDir, until},
    intake::{ends_well, is_published},
    prove,
};

/// A write lease, which another process has on a file. The kernel takes it away after 45 s
/// (`/proc/sys/fs/lease-break-time`).
struct Lease(Child);

impl Lease {
    /// Takes it; `None` after a report where that cannot be done.
    fn take(file: &Path, test: &str) -> Option<Self> {
        let script = "import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
sys.stdin.read()";
        let holder = Command::new("python3")
            .args(["-c", script])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut holder) = holder else {
            prove::skipped(test, "there is no python3");
            return None;
        };
        let is_held = holder.stdout.as_mut().unwrap().read_exact(&mut [0; 4]).is_ok();
        if !is_held {
            holder.wait().unwrap();
            prove::skipped(test, "no lease can be had here");
            return None;
        }
        Some(Self(holder))
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[test]
fn a_write_lease_on_one_file_holds_up_no_other() {
    let place = TestDir::new();
    let leased = place.root().join("leased");
    fs::write(&leased, "content").unwrap();
    let Some(lease) = Lease::take(&leased, "a_write_lease_on_one_file_holds_up_no_other") else {
        return;
    };
    let running = place.watch(&["--settle", "0s"]);
    fs::rename(&leased, place.input().join("leased")).unwrap();
    let began = Instant::now();
    for number in 0..3 {
        place.put(format!("other-{number}"), "content");
    }
    until("the others", || {
        (0..3).all(|number| is_published(&place, &format!("other-{number}.zst")))
    });
    assert!(began.elapsed() < Duration::from_secs(20), "they waited for the lease");
    assert!(!is_published(&place, "leased.zst"));
    lease.end();
    until("the one that was leased", || is_published(&place, "leased.zst"));
    ends_well(&place, running);
}

/// It blamed the file, which went to quarantine.
#[test]
fn a_write_lease_at_the_disposal_postpones_it() {
    let place = TestDir::new();
    let gate = place.root().join("gate");
    fs::write(&gate, "").unwrap();
    let failpoints = format!("dispose=1*return(while:{})->off", gate.display());
    let running = place.watch_with(&["--on-success", "delete", "--settle", "0s"], &failpoints);
    let path = place.put("leased", "content");
    until("it is published", || is_published(&place, "leased.zst"));
    let Some(lease) = Lease::take(&path, "a_write_lease_at_the_disposal_postpones_it") else {
        return;
    };
    fs::remove_file(gate).unwrap();
    running.until_logged("source open for writing, disposal postponed");
    assert!(path.exists());
    lease.end();
    until("the source is gone", || !path.exists());
    assert!(!running.log().contains("event=file.retried"), "{}", running.log());
    ends_well(&place, running);
}

#[test]
fn a_rescan_that_is_due_all_the_time_ends_and_finds_what_is_new() {
    let place = TestDir::new();
    for number in 0..2000 {
        place.put(format!("{}/{number}", number % 10), "content");
    }
    place.configure("rescan = \"1ms\"\ntransforms = \"copy\"\ndurability = \"none\"");
    let ended = place.once(&[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let running = place.watch(&[]);
    place.put("9/new", "new");
    until("the new one", || is_published(&place, "9/new"));
    ends_well(&place, running);
}

#[test]
fn a_place_that_is_well_again_is_found_so_without_a_file_to_try_it_with() {
    let place = TestDir::new();
    let running = place.watch_with(&["--settle", "0s"], "write=2*return(enospc)->off");
    let path = place.put("gives-up", "content");
    running.until_logged("storage unavailable, intake paused");
    fs::remove_file(path).unwrap();
    running.until_logged("storage available, intake resumed");
    ends_well(&place, running);
}

#[test]
fn an_output_that_failed_together_with_its_input_recovers_with_it() {
    let place = TestDir::new();
    let base = place.root().join("base");
    fs::create_dir_all(base.join("in")).unwrap();
    fs::create_dir_all(base.join("out")).unwrap();
    let args = ["run", "base/in", "base/out", "--state-dir", "state", "--sandbox", "off"];
    let mut command = place.tidemill(&args);
    command.args(["--http", "off", "--settle", "0s"]);
    command.env("FAILPOINTS", "write=1*return(enospc)->off");
    let running = Running::start(&mut command);
    running.until_logged("event=pipeline.ready");
    for number in 0..20 {
        fs::write(base.join(format!("in/{number}")), "content").unwrap();
    }
    running.until_logged("storage unavailable, intake paused");
    let away = place.root().join("away");
    fs::rename(&base, &away).unwrap();
    running.until_logged("input unavailable, intake paused");
    fs::rename(&away, &base).unwrap();
    let all = || (0..20).all(|number| base.join(format!("out/{number}.zst")).exists());
    until("all are published", all);
    ends_well(&place, running);
}

/// A request to the service's socket.
pub(super) fn ask(place: &TestDir, what: &str) {
    let mut stream =
        std::os::unix::net::UnixStream::connect(place.state().join("admin.sock")).unwrap();
    write!(stream, "POST /api/v1/{what} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

pub(super) fn peak_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn what_waits_while_the_intake_is_paused_takes_bounded_memory_and_nothing_is_lost() {
    const MOST_MIB: u64 = 64;
    /// More than the hints that are kept, and few enough to be processed here.
    const SHORT: usize = 70_000;
    let name = "what_waits_while_the_intake_is_paused_takes_bounded_memory_and_nothing_is_lost";
    let count = prove::count(SHORT);
    let place = TestDir::new();
    place.configure(
        "transforms = \"copy\"\ndurability = \"none\"\nsettle = \"0s\"\non_success = \"delete\"",
    );
    let running = place.watch(&[]);
    ask(&place, "pause");
    for number in 0..count {
        // All in the directory that is watched from the start: what comes before its watch is scanned for.
        fs::write(place.input().join(number.to_string()), "").unwrap();
    }
    let paused_mib = peak_mib(running.pid());
    ask(&place, "resume");
    running.until_logged("event queue overflowed, running a full scan");
    until("the first", || is_published(&place, "0"));
    let last = if count > SHORT { 0 } else { count - 1 };
    until("the last", || is_published(&place, &last.to_string()));
    let peak_mib = peak_mib(running.pid());
    prove::report(name, &[("files", &count), ("paused_mib", &paused_mib), ("peak_mib", &peak_mib)]);
    assert!(paused_mib < MOST_MIB, "{paused_mib} MiB");
    drop(running);
}
