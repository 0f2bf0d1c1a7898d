//! A user's hooks: each gets the right data at the right time, and nothing that one of them does
//! has an effect on files, on the stop, or on the machine.

#![cfg(feature = "failpoints")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod webhook;

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::files::{Running, TestDir, tree, until};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

/// A place whose service has these hooks, as the lines of `[hooks]`; `ROOT` stands for its root.
struct HookedService(TestDir);

impl HookedService {
    fn new(hooks: &str) -> Self {
        Self::with("", hooks)
    }

    fn with(head: &str, hooks: &str) -> Self {
        let place = TestDir::new();
        let root = place.root();
        let text = format!(
            "state_dir = \"state\"\nhttp = \"127.0.0.1:0\"\nevents = \"log/events\"\n{head}\n[hooks]\n{hooks}\n[[pipeline]]\ninput = \"in\"\noutput = \"out\"\nattempts = 1\n"
        );
        fs::create_dir(root.join("log")).unwrap();
        let text = text.replace("ROOT", root.to_str().unwrap());
        fs::write(root.join("tidemill.toml"), text).unwrap();
        Self(place)
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.0.root().join(file)).unwrap_or_default();
        // A reader may see the begin of a line.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }

    /// The lines that a hook received.
    fn received(&self, file: &str) -> Vec<Value> {
        self.lines(file).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The processes that a hook noted in `pids`.
    fn noted(&self, count: usize) -> Vec<u32> {
        until("it notes its processes", || self.lines("pids").len() >= count);
        self.lines("pids").iter().map(|pid| pid.parse().unwrap()).collect()
    }

    fn sources(&self) -> BTreeSet<String> {
        let events = self.received("log/events");
        events.iter().map(|event| event["source"].as_str().unwrap().to_owned()).collect()
    }

    fn put(&self, count: usize) {
        for number in 0..count {
            self.0.put(number.to_string(), format!("content {number}"));
        }
    }
}

/// The command of a shell, as TOML.
fn shell(script: &str) -> String {
    format!("[\"/bin/sh\", \"-c\", '{script}']")
}

/// Keeps its input in ROOT/received-HOOK.
fn keep() -> String {
    shell("cat >> ROOT/received-$TIDEMILL_HOOK; echo $TIDEMILL_FILES >> ROOT/runs-$TIDEMILL_HOOK")
}

fn is_alive(pid: u32) -> bool {
    // A zombie is nobody any more, but nobody may leave one.
    PathBuf::from(format!("/proc/{pid}")).exists()
}

fn children(of: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{of}/task")).unwrap();
    let of_thread = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
    };
    threads.flat_map(|thread| of_thread(thread.unwrap())).collect()
}

/// The one child of the service.
fn runner(running: &Running) -> u32 {
    let children = children(running.pid());
    assert_eq!(children.len(), 1, "{children:?}");
    children[0]
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
}

fn all_gone(pids: &[u32]) {
    until("no process is left", || !pids.iter().any(|pid| is_alive(*pid)));
}

fn metrics(running: &Running) -> String {
    let log = running.log();
    let address = log.split("HTTP server listening\" url=http://").nth(1).unwrap();
    webhook::get(address.split('/').next().unwrap(), "/metrics")
}

#[test]
fn each_hook_fires_with_the_right_content() {
    let environment = shell("env > ROOT/environment; cat >> ROOT/received-on_start");
    let hooks = format!(
        "on_start = {environment}\non_published = {0}\non_failed = {0}\non_drained = {0}\nbatch_delay = \"50ms\"",
        keep()
    );
    let hooked = HookedService::new(&hooks);
    let config = hooked.0.root().join("tidemill.toml");
    let text = fs::read_to_string(&config).unwrap() + "transforms = \"gunzip\"\n";
    fs::write(config, text).unwrap();
    let running = hooked.0.watch(&[]);
    hooked.0.put("bad.gz", "no archive");
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b, 4, 0, 0x43, 0xbe, 0xb7, 0xe8, 1, 0, 0, 0];
    hooked.0.put("a.gz", gzip);
    until("both", || {
        !hooked.received("received-on_published").is_empty()
            && !hooked.received("received-on_failed").is_empty()
    });
    until("on_start", || !hooked.received("received-on_start").is_empty());
    assert!(!hooked.0.root().join("received-on_drained").exists());
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");

    let events = hooked.received("log/events");
    let of = |outcome: &str| -> Vec<Value> {
        events.iter().filter(|event| event["outcome"] == outcome).cloned().collect()
    };
    assert_eq!(hooked.received("received-on_published"), of("published"));
    assert_eq!(hooked.received("received-on_failed"), of("quarantined"));
    assert_eq!(of("published")[0]["source"], "a.gz");
    assert!(of("quarantined")[0]["reason"].as_str().unwrap().contains("cannot transform"));
    assert_eq!(hooked.lines("runs-on_published"), ["1"]);
    let start = &hooked.received("received-on_start")[0];
    assert_eq!(
        (&start["hook"], &start["pipelines"][0]["name"]),
        (&"on_start".into(), &"main".into())
    );
    let drained = hooked.received("received-on_drained");
    assert_eq!(drained.len(), 1);
    assert_eq!((&drained[0]["published"], &drained[0]["quarantined"]), (&1.into(), &1.into()));

    let keys: BTreeSet<String> = hooked
        .lines("environment")
        .iter()
        .filter_map(|line| Some(line.split_once('=')?.0.to_owned()))
        .filter(|key| {
            !["PWD", "SHLVL", "_", "OLDPWD", "HOME", "LANG", "TZ", "USER"].contains(&key.as_str())
        })
        .collect();
    let expected =
        ["PATH", "TIDEMILL_FILES", "TIDEMILL_HOOK", "TIDEMILL_STATE_DIR", "TIDEMILL_VERSION"];
    assert_eq!(keys, expected.map(str::to_owned).into());
}

#[test]
fn a_flood_is_sent_in_batches_one_at_a_time_and_whole() {
    const FILES: usize = 5000;
    let script = "mkdir ROOT/lock || echo overlap >> ROOT/overlaps; cat >> ROOT/received; echo $TIDEMILL_FILES >> ROOT/runs; rmdir ROOT/lock";
    let hooked = HookedService::with(
        "[limits]\nfiles = 128\n",
        &format!("on_published = {}", shell(script)),
    );
    hooked.put(FILES);
    let running = hooked.0.watch(&["--durability", "none"]);
    until("all are published", || hooked.lines("log/events").len() == FILES);
    until("the hook has received all", || hooked.lines("received").len() == FILES);
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(hooked.lines("overlaps"), Vec::<String>::new());
    assert_eq!(hooked.lines("received"), hooked.lines("log/events"), "in order, each once");
    let runs: Vec<usize> = hooked.lines("runs").iter().map(|run| run.parse().unwrap()).collect();
    assert!(runs.iter().all(|files| *files <= 100), "{runs:?}");
    assert_eq!(runs.iter().sum::<usize>(), FILES);
    assert!(runs.contains(&100), "{runs:?}");
}

/// Notes itself and a child of its own, and hangs; it has closed none of its standard files.
fn hang() -> String {
    shell("sleep 1000 & echo $! >> ROOT/pids; echo $$ >> ROOT/pids; sleep 1000")
}

#[test]
fn a_hanging_hook_is_killed_with_its_children_and_delays_nothing() {
    let hooked = HookedService::new(&format!(
        "on_published = {}\ntimeout = \"8s\"\nbatch_delay = \"0s\"",
        hang()
    ));
    let running = hooked.0.watch(&[]);
    hooked.0.put("first", "content");
    let pids = hooked.noted(2);
    hooked.put(50);
    until("all are published", || hooked.sources().len() == 51);
    assert!(pids.iter().all(|pid| is_alive(*pid)), "the hook hangs while files are processed");
    running.until_logged("hook timed out, its processes killed");
    all_gone(&pids);
    let counted = "tidemill_hook_runs_total{hook=\"on_published\",outcome=\"timed_out\"} 1";
    until(counted, || metrics(&running).contains(counted));
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    all_gone(&hooked.noted(2));
}

#[test]
fn a_failing_hook_is_logged_and_counted() {
    let script = shell("echo \"first words\" >&2; echo \"no such index\" >&2; exit 3");
    let hooked = HookedService::new(&format!("on_published = {script}\nbatch_delay = \"0s\""));
    let running = hooked.0.watch(&[]);
    hooked.0.put("a", "content");
    running.until_logged("hook failed");
    assert!(
        running.log().contains("reason=\"exit status: 3: no such index\""),
        "{}",
        running.log()
    );
    let counted = "tidemill_hook_runs_total{hook=\"on_published\",outcome=\"failed\"} 1";
    until(counted, || metrics(&running).contains(counted));
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(hooked.0.published("a.zst"), b"content");
}

#[test]
fn a_hook_that_reads_nothing_and_leaves_a_child_behind_is_through() {
    let script = shell("sleep 1000 & echo $! >> ROOT/pids; exec 0<&-; exit 0");
    let hooked = HookedService::new(&format!("on_published = {script}\nbatch_delay = \"0s\""));
    let running = hooked.0.watch(&[]);
    hooked.0.put("a", "content");
    let counted = "tidemill_hook_runs_total{hook=\"on_published\",outcome=\"done\"} 1";
    until(counted, || metrics(&running).contains(counted));
    all_gone(&hooked.noted(1));
    assert_eq!(running.stop().code, 0);
}

#[test]
fn a_runner_that_is_killed_is_reported_and_files_go_on() {
    let hooked = HookedService::new(&format!("on_published = {}\nbatch_delay = \"0s\"", hang()));
    let running = hooked.0.watch(&[]);
    hooked.0.put("first", "content");
    let pids = hooked.noted(2);
    kill(runner(&running));
    running.until_logged("hook runner exited, hooks disabled until restart");
    // The hook itself dies with the runner.
    until("the hook is gone", || !is_alive(pids[1]));
    until("no zombie", || children(running.pid()).is_empty());
    hooked.put(20);
    until("all are published", || hooked.sources().len() == 21);
    let counted = "tidemill_hook_dropped_total{hook=\"on_published\"} 20";
    until(counted, || metrics(&running).contains(counted));
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    kill(pids[0]);
}

#[test]
fn a_stop_with_a_hanging_hook_ends_within_its_deadline() {
    let hooks = format!(
        "on_published = {0}\non_drained = {0}\ntimeout = \"5m\"\nbatch_delay = \"0s\"",
        hang()
    );
    let hooked = HookedService::with("shutdown_deadline = \"4s\"", &hooks);
    let running = hooked.0.watch(&[]);
    let runner = runner(&running);
    hooked.0.put("first", "content");
    hooked.noted(2);
    hooked.put(20);
    until("all are published", || hooked.sources().len() == 21);
    let began = Instant::now();
    let ended = running.stop();
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("shutdown deadline reached, hook abandoned"), "{ended:?}");
    assert!(ended.stderr.contains("tasks_alive=0"), "{ended:?}");
    let pids = hooked.noted(4);
    all_gone(&[&pids[..], &[runner]].concat());
}

#[test]
fn a_drain_that_is_cut_is_sent_with_the_number_of_files_that_it_left() {
    let hooks = format!("on_drained = {}", keep());
    let hooked = HookedService::with("shutdown_deadline = \"4s\"", &hooks);
    let running = hooked.0.watch_with(&[], "write=sleep(50)");
    hooked.put(240);
    until("work has begun", || !hooked.lines("log/events").is_empty());
    let ended = running.stop();
    assert_eq!(ended.code, 75, "{ended:?}");
    let drained = &hooked.received("received-on_drained")[0];
    let left = drained["unfinished"].as_u64().unwrap();
    assert!(left > 0, "{drained}");
    assert!(ended.stderr.contains(&format!("unfinished={left} ")), "{ended:?}");
    assert_eq!(drained["published"], hooked.lines("log/events").len(), "{ended:?}");
}

#[test]
fn what_was_acknowledged_before_the_stop_is_sent_before_the_end() {
    let hooked = HookedService::new(&format!(
        "on_published = {0}\non_drained = {0}\nbatch_delay = \"1h\"",
        keep()
    ));
    let running = hooked.0.watch(&[]);
    let runner = runner(&running);
    hooked.put(30);
    until("all are published", || hooked.sources().len() == 30);
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(hooked.lines("received-on_published").len(), 30);
    assert_eq!(hooked.received("received-on_drained")[0]["published"], 30);
    all_gone(&[runner]);
}

#[test]
fn a_signal_to_the_whole_group_is_followed_by_the_service_alone() {
    let hooked = HookedService::new(&format!("on_published = {0}\non_drained = {0}", keep()));
    let running = hooked.0.watch(&[]);
    hooked.put(5);
    until("all are published", || hooked.sources().len() == 5);
    let group = Pid::from_raw(running.pid().try_into().unwrap()).unwrap();
    kill_process_group(group, Signal::TERM).unwrap();
    let ended = running.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(hooked.lines("received-on_published").len(), 5);
    assert_eq!(hooked.received("received-on_drained").len(), 1);
}

#[test]
fn a_service_that_is_killed_leaves_no_runner_and_no_hook() {
    let hooked = HookedService::new(&format!("on_published = {}\nbatch_delay = \"0s\"", hang()));
    let running = hooked.0.watch(&[]);
    let runner = runner(&running);
    hooked.0.put("a", "content");
    let pids = hooked.noted(2);
    drop(running);
    all_gone(&[&pids[..], &[runner]].concat());
}

#[test]
fn what_recovery_acknowledges_is_sent_too() {
    let hooked = HookedService::new(&format!("on_published = {}", keep()));
    hooked.0.put("a", "content");
    let mut killed = hooked.0.tidemill(&["run", "--config", "tidemill.toml", "--once"]);
    killed.env("FAILPOINTS", "commit::renamed=return(kill)").stderr(std::process::Stdio::null());
    assert!(!killed.status().unwrap().success());
    assert_eq!(hooked.lines("received-on_published"), Vec::<String>::new());
    let next = hooked.0.once(&[]);
    assert_eq!(next.code, 0, "{next:?}");
    assert_eq!(hooked.lines("received-on_published"), hooked.lines("log/events"));
    assert_eq!(hooked.lines("received-on_published").len(), 1);
}

#[test]
fn the_service_itself_runs_nothing_and_the_sandbox_is_whole() {
    let hooked = HookedService::new(&format!("on_published = {}\nbatch_delay = \"0s\"", hang()));
    let running = hooked.0.watch(&[]);
    let runner = runner(&running);
    hooked.0.put("a", "content");
    let pids = hooked.noted(2);
    assert_eq!(children(running.pid()), [runner], "hooks are the runner's children");
    assert_eq!(children(runner), [pids[1]]);
    let status = fs::read_to_string(format!("/proc/{}/status", pids[1])).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let environment = fs::read_to_string(format!("/proc/{}/environ", pids[1])).unwrap();
    assert!(!environment.contains("RUST_LOG"), "{environment}");
    let open = |pid: &str| -> BTreeSet<PathBuf> {
        let handles = tree(&PathBuf::from(format!("/proc/{pid}/fd")));
        handles.iter().filter_map(|handle| fs::read_link(handle).ok()).collect()
    };
    // But for what the tests were started with, three files of its own: no ledger and no line.
    let own: Vec<_> = open(&pids[1].to_string()).difference(&open("self")).cloned().collect();
    let is_harmless = |file: &PathBuf| file.to_string_lossy().starts_with("pipe:");
    assert!(own.len() <= 3 && own.iter().all(is_harmless), "{own:?}");
    assert_eq!(running.stop().code, 0);
    all_gone(&pids);
}

#[test]
fn without_hooks_there_is_no_runner() {
    let place = TestDir::new();
    let running = place.watch(&[]);
    assert_eq!(children(running.pid()), Vec::<u32>::new());
    assert_eq!(running.stop().code, 0);
}
