//! The system calls of a run, and how to tamper with one of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::process::CommandExt,
    process::Command,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::{
    harness::{PATIENCE, Service, Tree},
    prove::{self, Random},
};

/// One call of one name: the first thread that makes its `number`-th.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub call: String,
    pub number: usize,
    /// Whether files get their names by links in this run.
    pub links: bool,
}

/// A traced service, with its tracer. Dropping it kills both.
pub struct Traced {
    service: Option<Service>,
    group: Pid,
}

impl Traced {
    /// Waits for the end; a signal that ended the service is the negative code. None where it does
    /// not end within [`PATIENCE`].
    pub fn ended(self) -> Option<i32> {
        self.ended_within(PATIENCE)
    }

    pub fn ended_within(mut self, patience: Duration) -> Option<i32> {
        self.service.take().expect("it was started").ended_within(patience)
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // Where it ended there is nobody to kill.
        kill_process_group(self.group, Signal::KILL).ok();
    }
}

/// Whether calls can be traced here; printed where they cannot.
pub fn is_possible(name: &str) -> bool {
    let possible = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).status();
    let possible = possible.is_ok_and(|status| status.success());
    if !possible {
        prove::skipped(name, "strace is not there, or may not trace");
    }
    possible
}

fn traced(tree: &Tree, on_success: &str, options: &[&str]) -> Traced {
    let service = tree.command(on_success, &["--once"]);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq"]).args(options).arg(service.get_program()).args(service.get_args());
    let failpoints = service.get_envs().filter(|(name, _)| *name == "FAILPOINTS");
    command.envs(failpoints.filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(tree.path("")).env("RUST_LOG", "info").process_group(0);
    let log = fs::File::options().append(true).create(true).open(tree.path("log")).expect("log");
    command.stdout(log.try_clone().expect("log")).stderr(log);
    let child = command.spawn().expect("start strace");
    let group = Pid::from_child(&child);
    Traced { service: Some(child.into()), group }
}

/// Starts the service and does this to one of its calls: `signal=KILL`, `error=EIO`.
pub fn tampered(tree: &Tree, on_success: &str, point: &Point, how: &str) -> Traced {
    let Point { call, number, .. } = point;
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:{how}:when={number}");
    let options = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
    // strace stops at the traced calls alone, which is faster, but then delivers no signal.
    let filter: &[_] = if how.starts_with("error") { &["--seccomp-bpf"] } else { &[] };
    traced(tree, on_success, &[filter, &options].concat())
}

/// Every point of a run by renames and of one by links.
pub fn points(on_success: &str) -> Vec<Point> {
    [false, true].into_iter().flat_map(|links| points_of(links, on_success)).collect()
}

fn points_of(links: bool, on_success: &str) -> BTreeSet<Point> {
    let tree = tree(links);
    let trace = tree.path("trace");
    let to = trace.to_str().expect("a plain path");
    let code = traced(&tree, on_success, &["-o", to, "-e", "trace=%file,%desc"]).ended();
    assert_eq!(code, Some(0), "an untouched run\n{}", tree.log());
    let text = fs::read_to_string(trace).expect("the trace");
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        if !call.is_empty() && call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            *counts.entry((thread, call)).or_default() += 1;
        }
    }
    let mut points = BTreeSet::new();
    for ((_, call), count) in counts {
        points.extend((1..=count).map(|number| Point { call: call.to_owned(), number, links }));
    }
    points
}

/// `count` points, spread over all by the seed; each once where that many are asked for.
pub fn sample(points: &[Point], count: usize, random: &mut Random) -> Vec<Point> {
    let mut chosen = points.to_vec();
    for place in 0..chosen.len() {
        let other = random.below((chosen.len() - place) as u64);
        chosen.swap(place, place + usize::try_from(other).expect("an index"));
    }
    chosen.truncate(count);
    chosen
}

/// A few small files in directories, and one that streams in chunks.
pub fn tree(links: bool) -> Tree {
    let seed = prove::seed();
    let mut random = Random::new(seed);
    let small = 4 + usize::try_from(random.below(6)).expect("small");
    let mut tree = Tree::new().by_links(links);
    for number in 0..small {
        let line = format!("line {number} of {seed}\n");
        tree.put(
            &format!("d{}/f{number}.log", number % 2),
            line.repeat(1 + number * 20).as_bytes(),
        );
    }
    let line = format!("{seed:x} is a line of a large file\n");
    tree.put("large.bin", line.repeat(12_000).as_bytes());
    tree.with_archived()
}
