//! A pipeline whose file system does not answer holds up nobody else.

use std::{
    fs,
    io::Write,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    harness::{PATIENCE, Service, Tree, until},
    manager::Manager,
    mounts::Mount,
    prove,
    stuck::{Mounted, Stuck},
};

/// A pipeline that works in these directories, and one that is well.
fn configure(tree: &Tree, directories: (&str, &str), transforms: &str) {
    let well = "[[pipeline]]\nname = \"well\"\ninput = \"in\"\noutput = \"out\"\n";
    let config = alone(directories, transforms) + well;
    fs::write(tree.path("config.toml"), config).expect("configuration");
}

/// The first of these pipelines alone.
fn alone((input, output): (&str, &str), transforms: &str) -> String {
    format!(
        "shutdown_deadline = \"4s\"\nstate_dir = \"state\"\n\
         [[pipeline]]\nname = \"stuck\"\ninput = \"{input}\"\noutput = \"{output}\"\n\
         transforms = \"{transforms}\"\n"
    )
}

/// A service with these directories, once it is stuck in one of them, and with `put` files in the other
/// pipeline's; where there is FUSE. What hangs comes last, to be dropped first, also where a test
/// fails: the kernel lets no process go whose call is with such a file system.
fn stuck(
    test: &str,
    directories: (&str, &str),
    put: usize,
    args: &[&str],
) -> Option<(Tree, Service, Mounted)> {
    let mut tree = Tree::new();
    let stuck = Stuck::mounted(&tree, test, false)?;
    if directories.0 != "stuck" {
        fs::create_dir(tree.path(directories.0)).expect("directory");
    }
    configure(&tree, directories, "zstd");
    for number in 0..put {
        tree.put(&format!("{number}.log"), b"a line\n");
    }
    let mut command = tree.configured("config.toml");
    let service = Service::from(command.args(args).spawn().expect("start"));
    // Declared after the service, so dropped before it.
    let stuck = stuck;
    until("it is stuck", || stuck.asked.load(Ordering::Relaxed));
    Some((tree, service, stuck))
}

/// The number of outputs: a probe and a job have temporary files there.
fn published(tree: &Tree, dir: &str) -> usize {
    tree.files(dir).iter().filter(|path| path.extension() == Some("zst".as_ref())).count()
}

/// How often a service of this tree was ready.
fn ready(tree: &Tree) -> usize {
    tree.log().matches("phase=READY").count()
}

fn put(tree: &mut Tree, numbers: std::ops::Range<usize>) {
    for number in numbers.clone() {
        tree.put(&format!("{number}.log"), b"a line\n");
    }
    until("the other pipeline publishes", || published(tree, "out") == numbers.end);
}

#[test]
fn a_file_system_that_hangs_holds_up_its_own_pipeline_and_no_other() {
    let started = stuck("a_file_system_that_hangs", ("stuck", "out-stuck"), 0, &[]);
    let Some((mut tree, service, stuck)) = started else { return };
    put(&mut tree, 0..200);
    let start = Instant::now();
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 75, "the stuck file was begun: {}", tree.log());
    let took = start.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}\n{}", tree.log());
    drop(stuck);
    tree.assert_outputs_whole();
}

/// Every pipeline looked at every other one's places, to know them below its own input.
#[test]
fn a_file_system_that_dies_later_holds_up_its_own_pipeline_and_no_other() {
    let started = stuck("a_file_system_that_dies_later", ("in-stuck", "stuck"), 0, &[]);
    let Some((mut tree, service, stuck)) = started else { return };
    put(&mut tree, 0..20);
    stuck.is_dead.store(true, Ordering::Relaxed);
    // Longer than two checks of an input are apart.
    let (start, mut count) = (Instant::now(), 20);
    while start.elapsed() < Duration::from_secs(12) {
        put(&mut tree, count..count + 1);
        count += 1;
    }
    service.signal(Signal::TERM);
    until("it ends", || tree.log().contains("stopped exit_code=0"));
    drop(stuck);
    assert_eq!(service.wait(), 0, "{}", tree.log());
    tree.assert_outputs_whole();
}

/// The watchdog was notified no more, so that the service manager killed all of it.
#[test]
fn an_input_that_dies_later_makes_its_own_pipeline_unready_and_starves_no_watchdog() {
    let mut tree = Tree::new();
    let test = "an_input_that_dies_later";
    let Some(stuck) = Stuck::mounted(&tree, test, false) else { return };
    configure(&tree, ("stuck", "out-stuck"), "zstd");
    let manager = Manager::new(&tree.path("notify"));
    let mut command = tree.configured("config.toml");
    command.env("NOTIFY_SOCKET", manager.path()).env("WATCHDOG_USEC", "300000");
    let service = Service::from(command.spawn().expect("start"));
    let stuck = stuck;
    manager.until("READY=1");
    stuck.is_dead.store(true, Ordering::Relaxed);
    let is_unready = || {
        // The kernel holds only few messages of the service.
        let notified = manager.messages().len();
        notified > 0 && answer(&tree, "/readyz").contains("pipeline stuck: ")
    };
    until("the probe names the pipeline", is_unready);
    let notified = manager.messages().len();
    until("the watchdog is notified", || manager.messages().len() >= notified + 30);
    assert!(answer(&tree, "/livez").starts_with("HTTP/1.1 200"), "{}", tree.log());
    assert!(!tree.log().contains("service.stalled"), "{}", tree.log());
    put(&mut tree, 0..20);
    stuck.release();
    service.signal(Signal::TERM);
    drop(stuck);
    assert_eq!(service.wait(), 0, "{}", tree.log());
}

/// Recovery walked it, for an hour, and then the start of all pipelines failed.
#[test]
fn a_sub_directory_that_hangs_holds_up_the_recovery_of_no_other_pipeline() {
    let mut tree = Tree::new();
    fs::create_dir(tree.path("in-stuck")).expect("directory");
    configure(&tree, ("in-stuck", "out-stuck"), "zstd");
    tree.put("0.log", b"a line\n");
    let run = |failpoints: &str| {
        let mut command = tree.configured("config.toml");
        Service::from(command.env("FAILPOINTS", failpoints).spawn().expect("start"))
    };
    assert_eq!(run("commit::intended=return(kill)").wait(), -9, "{}", tree.log());
    let test = "a_sub_directory_that_hangs";
    let at = tree.path("in-stuck/below");
    let Some(stuck) = Stuck::mounted_at(at, test, true) else { return };
    let before = ready(&tree);
    let service = run("");
    // Dropped first.
    let stuck = stuck;
    until("it is ready", || ready(&tree) > before);
    put(&mut tree, 1..2);
    assert!(tree.log().contains("event=recovery.deferred"), "{}", tree.log());
    stuck.release();
    drop(stuck);
    drop(service);
}

/// Recovery waited for the record's own directory.
#[test]
fn a_record_whose_directory_hangs_holds_up_the_recovery_of_no_other_pipeline() {
    for (kill_at, at) in
        [("commit::intended", "out-stuck/below"), ("commit::acknowledged", "in-stuck/below")]
    {
        let mut tree = Tree::new();
        fs::create_dir_all(tree.path("in-stuck/below")).expect("directory");
        configure(&tree, ("in-stuck", "out-stuck"), "zstd");
        let config = fs::read_to_string(tree.path("config.toml")).expect("configuration");
        let config =
            config.replace("name = \"stuck\"", "name = \"stuck\"\non_success = \"delete\"");
        fs::write(tree.path("config.toml"), config).expect("configuration");
        fs::write(tree.path("in-stuck/below/a.log"), "a line\n").expect("write");
        let run = |failpoints: &str| {
            let mut command = tree.configured("config.toml");
            Service::from(command.env("FAILPOINTS", failpoints).spawn().expect("start"))
        };
        assert_eq!(run(&format!("{kill_at}=return(kill)")).wait(), -9, "{}", tree.log());
        let test = "a_record_whose_directory_hangs";
        let Some(stuck) = Stuck::mounted_at(tree.path(at), test, true) else { return };
        let before = ready(&tree);
        let service = run("");
        // Dropped first.
        let stuck = stuck;
        until("it is ready", || ready(&tree) > before);
        put(&mut tree, 0..1);
        assert!(tree.log().contains("event=recovery.deferred"), "{}", tree.log());
        stuck.release();
        service.signal(Signal::TERM);
        drop(stuck);
        service.wait();
        let again = tree.configured("config.toml").arg("--once").spawn().expect("start");
        assert_eq!(Service::from(again).wait(), 0, "{}", tree.log());
        assert_eq!(tree.files("out-stuck"), [Path::new("below/a.log.zst")], "{}", tree.log());
        assert_eq!(tree.files("in-stuck"), [] as [&Path; 0], "{}", tree.log());
    }
}

/// The answer to a request at the service's Unix socket.
fn answer(tree: &Tree, path: &str) -> String {
    send(tree, &format!("GET {path} HTTP/1.1"), "")
}

/// The answer to a change of one pipeline.
fn post(tree: &Tree, call: &str, pipeline: &str) -> String {
    let body = format!("{{\"pipeline\": \"{pipeline}\"}}");
    send(tree, &format!("POST /api/v1/{call} HTTP/1.1"), &body)
}

fn send(tree: &Tree, request: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(tree.path("state/admin.sock")).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("set up");
    let length = body.len();
    let request = format!(
        "{request}\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("send");
    std::io::read_to_string(stream).expect("an answer")
}

/// The probe of the output hung, and with it the start of all pipelines.
#[test]
fn a_directory_that_hangs_at_the_start_holds_up_its_own_pipeline_and_no_other() {
    let started = stuck("a_directory_that_hangs", ("in-stuck", "stuck"), 0, &[]);
    let Some((mut tree, service, stuck)) = started else { return };
    put(&mut tree, 0..20);
    let message = "waiting for the directories of a pipeline";
    assert!(tree.log().contains(message), "{}", tree.log());
    stuck.release();
    until("it begins", || tree.log().contains("directories responding, pipeline started"));
    put(&mut tree, 20..40);
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", tree.log());
    drop(stuck);
    tree.assert_outputs_whole();
}

/// There was no such pipeline until it began, and then it took files.
#[test]
fn a_pipeline_that_waits_for_its_directories_begins_paused_if_the_operator_paused_it() {
    let test = "a_pipeline_that_waits_for_its_directories";
    let mut tree = Tree::new();
    let Some(stuck) = Stuck::mounted(&tree, test, true) else { return };
    configure(&tree, ("stuck", "out-stuck"), "zstd");
    let mut command = tree.configured("config.toml");
    let service = Service::from(command.args(["--sandbox", "off"]).spawn().expect("start"));
    let stuck = stuck;
    until("it is up", || tree.log().contains("phase=READY"));
    for call in ["pause", "rescan"] {
        let answer = post(&tree, call, "stuck");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    stuck.release();
    until("it is seen, and waits", || answer(&tree, "/api/v1/status").contains("\"pending\":1,"));
    put(&mut tree, 0..20);
    assert!(tree.files("out-stuck").is_empty(), "{}", tree.log());
    assert!(post(&tree, "resume", "stuck").starts_with("HTTP/1.1 200 "));
    until("it publishes", || published(&tree, "out-stuck") == 1);
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", tree.log());
    drop(stuck);
    tree.assert_outputs_whole();
}

#[test]
fn a_service_with_a_directory_that_hangs_drains_the_rest() {
    let started = stuck("a_service_that_drains", ("in-stuck", "stuck"), 20, &[]);
    let Some((tree, service, stuck)) = started else { return };
    until("the other pipeline publishes", || tree.files("out").len() == 20);
    service.signal(Signal::TERM);
    until("it ends", || tree.log().contains("stopped exit_code=0"));
    drop(stuck);
    assert_eq!(service.wait(), 0, "{}", tree.log());
    tree.assert_outputs_whole();
}

#[test]
fn once_gives_up_on_a_directory_that_hangs_and_does_the_rest() {
    let started = stuck("once_gives_up", ("in-stuck", "stuck"), 20, &["--once"]);
    let Some((tree, service, stuck)) = started else { return };
    until("it says so", || {
        tree.log().contains("some files or directories were skipped, run it again")
    });
    assert!(tree.log().contains("waiting for the directories of a pipeline"), "{}", tree.log());
    assert_eq!(tree.files("out").len(), 20);
    drop(stuck);
    assert_eq!(service.wait(), 75, "{}", tree.log());
    tree.assert_outputs_whole();
}

/// A service with no other pipeline was ended by the limit of its start.
#[test]
fn a_service_whose_only_directory_hangs_is_up_and_waits_for_it() {
    let test = "a_service_whose_only_directory_hangs";
    let tree = Tree::new();
    let Some(stuck) = Stuck::mounted(&tree, test, true) else { return };
    fs::write(tree.path("config.toml"), alone(("stuck", "out-stuck"), "zstd")).expect("a file");
    let mut command = tree.configured("config.toml");
    let service = Service::from(command.args(["--sandbox", "off"]).spawn().expect("start"));
    let stuck = stuck;
    until("it is up", || tree.log().contains("phase=READY"));
    assert!(tree.log().contains("waiting for the directories of a pipeline"), "{}", tree.log());
    stuck.release();
    until("it publishes", || published(&tree, "out-stuck") == 1);
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", tree.log());
    let mut command = tree.configured("config.toml");
    stuck.hold();
    let once = Service::from(command.args(["--once"]).spawn().expect("start"));
    until("it gives up", || {
        tree.log().contains("some files or directories were skipped, run it again")
    });
    drop(stuck);
    assert_eq!(once.wait(), 75, "{}", tree.log());
}

/// The configuration check ended the whole service with 78.
#[test]
fn a_file_system_in_error_at_the_start_holds_up_its_own_pipeline_and_no_other() {
    let test = "a_file_system_in_error_at_the_start";
    let mut tree = Tree::new();
    let Some(stuck) = Stuck::mounted(&tree, test, false) else { return };
    stuck.is_broken.store(true, Ordering::Relaxed);
    configure(&tree, ("stuck", "out-stuck"), "zstd");
    let mut command = tree.configured("config.toml");
    let service = Service::from(command.args(["--sandbox", "off"]).spawn().expect("start"));
    let stuck = stuck;
    put(&mut tree, 0..20);
    let message = "waiting for the directories of a pipeline";
    assert!(tree.log().contains(message), "{}", tree.log());
    stuck.is_broken.store(false, Ordering::Relaxed);
    stuck.release();
    until("it publishes", || published(&tree, "out-stuck") == 1);
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", tree.log());
    drop(stuck);
    tree.assert_outputs_whole();
}

/// The reason of a file in it was read while no other query had a turn.
#[test]
fn a_quarantine_that_hangs_holds_up_neither_its_list_nor_the_history() {
    let mut tree = Tree::new();
    let config = "state_dir = \"state\"\n[[pipeline]]\ninput = \"in\"\noutput = \"out\"\n\
                  transforms = \"unzstd\"\non_success = \"delete\"\nquarantine = \"stuck/quarantine\"\n";
    fs::write(tree.path("config.toml"), config).expect("configuration");
    tree.put("damaged.zst", b"this is no zstd");
    let service = Service::from(tree.configured("config.toml").spawn().expect("start"));
    let kept_at = tree.path("stuck/quarantine/damaged.zst");
    until("it is quarantined", || {
        kept_at.exists() && answer(&tree, "/api/v1/quarantine").contains("\"stage\":\"transform\"")
    });
    let test = "a_quarantine_that_hangs";
    let Some(stuck) = Stuck::mounted(&tree, test, true) else { return };
    for path in ["quarantine", "outcomes", "status", "quarantine"] {
        let answer = answer(&tree, &format!("/api/v1/{path}"));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        assert!(path == "status" || answer.contains("damaged.zst"), "{path}: {answer}");
    }
    drop(stuck);
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", tree.log());
}

/// Each request left a thread behind when its client went, until none was left for the service itself.
#[test]
fn requests_about_a_file_that_hangs_cost_one_thread_and_are_refused_in_time() {
    let started = stuck("requests_about_a_file_that_hangs", ("stuck", "out-stuck"), 0, &[]);
    let Some((mut tree, service, stuck)) = started else { return };
    stuck.is_dead.store(true, Ordering::Relaxed);
    let tasks = format!("/proc/{}/task", service.pid());
    let threads = || fs::read_dir(&tasks).expect("list").count();
    let path = tree.path("stuck/stuck.log");
    let explain = format!("/api/v1/explain?path={}", path.display());
    let before = threads();
    for _ in 0..40 {
        let mut stream = UnixStream::connect(tree.path("state/admin.sock")).expect("connect");
        let request = format!("GET {explain} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("send");
        drop(stream);
        // The service has read the request by the time it answers the next one.
        assert!(answer(&tree, "/livez").starts_with("HTTP/1.1 200"));
    }
    let refused = answer(&tree, &explain);
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("a file system may not respond"), "{refused}");
    assert!(threads() < before + 8, "{} threads, {before} before", threads());
    put(&mut tree, 0..5);
    stuck.release();
    service.signal(Signal::TERM);
    drop(stuck);
    assert_eq!(service.wait(), 0, "{}", tree.log());
}

/// The reload waited for the stopped pipeline without bound, and so did every later one.
#[test]
fn a_reload_does_not_wait_for_a_pipeline_that_hangs() {
    let started = stuck("a_reload_of_what_hangs", ("stuck", "out-stuck"), 0, &[]);
    let Some((mut tree, service, stuck)) = started else { return };
    let reloads = |tree: &Tree| tree.log().matches("event=config.reloaded").count();
    for (count, transforms) in ["zstd:5", "zstd:7"].into_iter().enumerate() {
        configure(&tree, ("stuck", "out-stuck"), transforms);
        service.signal(Signal::HUP);
        until("it is reloaded", || reloads(&tree) == count + 1);
        put(&mut tree, count * 10..(count + 1) * 10);
    }
    assert!(
        tree.log().contains("stopped pipeline still busy, its successor waits"),
        "{}",
        tree.log()
    );
    assert!(tree.files("out-stuck").is_empty(), "the file is still in flight");
    stuck.release();
    until("the files in flight are published", || published(&tree, "out-stuck") == 1);
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", tree.log());
    drop(stuck);
    tree.assert_outputs_whole();
    let published = tree.log().matches("msg=published pipeline=stuck ").count();
    assert_eq!(published, 1, "{}", tree.log());
}

/// A service with a pipeline whose `input` and `output` are below `stuck`, which answers nothing at all,
/// and with files in the other one's. `unfinished`: the last run left work in these directories.
fn dead(
    test: &str,
    (input, output): (&str, &str),
    args: &[&str],
    unfinished: bool,
) -> Option<(Tree, Service, Mounted)> {
    const PUT: usize = 20;
    let mut tree = Tree::new();
    fs::create_dir_all(tree.path(input)).expect("directory");
    configure(&tree, (input, output), "zstd");
    if unfinished {
        fs::write(tree.path("stuck/in/left.log"), "left").expect("a file");
        let mut command = tree.configured("config.toml");
        command.arg("--once").env("FAILPOINTS", "commit::renamed=return(kill)");
        Service::from(command.spawn().expect("start")).wait();
    }
    for number in 0..PUT {
        tree.put(&format!("{number}.log"), b"a line\n");
    }
    let stuck = Stuck::mounted(&tree, test, true)?;
    let mut command = tree.configured("config.toml");
    let service = Service::from(command.args(args).spawn().expect("start"));
    // Declared after the service, so dropped before it.
    let stuck = stuck;
    until("the other pipeline publishes", || tree.files("out").len() == PUT);
    Some((tree, service, stuck))
}

/// The check of the configuration hung, the making of the directories, and the sandbox.
#[test]
fn a_file_system_that_answers_nothing_at_the_start_holds_up_its_own_pipeline_and_no_other() {
    let (test, places) = ("a_file_system_that_answers_nothing", ("stuck/in", "stuck/out"));
    let started = dead(test, places, &["--sandbox", "off"], false);
    let Some((mut tree, service, stuck)) = started else { return };
    let message = "waiting for the directories of a pipeline";
    assert!(tree.log().contains(message), "{}", tree.log());
    put(&mut tree, 20..40);
    service.signal(Signal::TERM);
    until("it ends", || tree.log().contains("stopped exit_code=0"));
    drop(stuck);
    assert_eq!(service.wait(), 0, "{}", tree.log());
    tree.assert_outputs_whole();
}

/// The sandbox was closed without it, so that only the next start can begin it.
#[test]
fn a_file_system_that_answers_too_late_for_the_sandbox_ends_the_service_for_a_new_start() {
    let test = "a_file_system_that_answers_too_late_for_the_sandbox";
    let Some((tree, service, stuck)) = dead(test, ("stuck", "out-stuck"), &[], false) else {
        return;
    };
    if !tree.log().contains("sandbox active") {
        return prove::skipped(test, "no Landlock");
    }
    stuck.release();
    until("it ends", || tree.log().contains("stopped exit_code=75"));
    assert!(tree.log().contains("did not respond then"), "{}", tree.log());
    drop(stuck);
    assert_eq!(service.wait(), 75, "{}", tree.log());
    tree.assert_outputs_whole();
}

#[test]
fn recovery_leaves_what_does_not_answer_for_a_later_start() {
    let test = "recovery_leaves_what_does_not_answer";
    let started = dead(test, ("stuck/in", "stuck/out"), &["--sandbox", "off"], true);
    let Some((tree, service, stuck)) = started else { return };
    let message = "cannot open a directory, its unfinished work is deferred";
    assert!(tree.log().contains(message), "{}", tree.log());
    service.signal(Signal::TERM);
    until("it ends", || tree.log().contains("stopped exit_code=75"));
    drop(stuck);
    assert_eq!(service.wait(), 75, "{}", tree.log());
    // The end may cut the probe that waited for the answer: the next start removes its file.
    assert!(tree.files("stuck/out").contains(&PathBuf::from("left.log.zst")));
    let mut command = tree.configured("config.toml");
    let again = Service::from(command.arg("--once").spawn().expect("start"));
    assert_eq!(again.wait(), 0, "{}", tree.log());
    assert!(tree.log().contains("recovery finished"), "{}", tree.log());
    assert_eq!(tree.files("stuck/out"), [PathBuf::from("left.log.zst")]);
}

/// A service with a second pipeline whose output is a file system of its own.
fn second_disk(tree: &Tree) -> Option<Mount> {
    for dir in ["in-stuck", "out-stuck"] {
        fs::create_dir(tree.path(dir)).expect("directory");
    }
    configure(tree, ("in-stuck", "out-stuck"), "zstd");
    Mount::memory(&tree.path("out-stuck"), "1m")
}

/// It ended the whole service with 74, as ext4 makes it with `errors=remount-ro`.
#[test]
fn an_output_that_becomes_read_only_pauses_its_own_pipeline_and_no_other() {
    let mut tree = Tree::new();
    let Some(mount) = second_disk(&tree) else { return };
    let service = Service::from(tree.configured("config.toml").spawn().expect("start"));
    put(&mut tree, 0..10);
    mount.set_read_only();
    fs::write(tree.path("in-stuck/left.log"), "left").expect("a file");
    until("it pauses", || tree.log().contains("storage unavailable, intake paused"));
    put(&mut tree, 10..30);
    mount.set_writable();
    until("it publishes", || published(&tree, "out-stuck") == 1);
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", tree.log());
    tree.assert_outputs_whole();
}

/// The restart after that was refused with 78, which a service manager does not repeat.
#[test]
fn an_output_that_is_read_only_at_the_start_holds_up_its_own_pipeline_and_no_other() {
    let mut tree = Tree::new();
    let Some(mount) = second_disk(&tree) else { return };
    mount.set_read_only();
    fs::write(tree.path("in-stuck/left.log"), "left").expect("a file");
    let service = Service::from(tree.configured("config.toml").spawn().expect("start"));
    put(&mut tree, 0..20);
    assert!(tree.log().contains("waiting for the directories of a pipeline"), "{}", tree.log());
    assert!(tree.log().contains("its file system is read-only"), "{}", tree.log());
    mount.set_writable();
    until("it publishes", || published(&tree, "out-stuck") == 1);
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", tree.log());
    tree.assert_outputs_whole();
}

#[test]
fn a_service_whose_outputs_are_all_read_only_is_refused() {
    let tree = Tree::new();
    let Some(mount) = second_disk(&tree) else { return };
    let Some(other) = Mount::memory(&tree.path("out"), "1m") else { return };
    mount.set_read_only();
    other.set_read_only();
    let service = Service::from(tree.configured("config.toml").spawn().expect("start"));
    assert_eq!(service.wait(), 78, "{}", tree.log());
    assert!(tree.log().contains("its file system is read-only"), "{}", tree.log());
}
