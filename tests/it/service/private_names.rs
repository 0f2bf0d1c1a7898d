//! Sources that stay under their private names: a later start finds each of them.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Service, Tree, until};

const KILLED: i32 = -9;

#[expect(clippy::disallowed_methods, reason = "the operator moves it")]
fn moved(tree: &Tree, from: &str, to: &str) {
    fs::rename(tree.path(from), tree.path(to)).expect("rename");
}

#[expect(clippy::disallowed_methods, reason = "the producer or the operator removes it")]
fn removed(tree: &Tree, path: &str) {
    fs::remove_file(tree.path(path)).expect("remove");
}

fn is_held(tree: &Tree) -> bool {
    tree.files("in").iter().any(|path| path.to_string_lossy().ends_with(".del"))
}

/// A service with a quarantine of its own, in which everything ends.
fn quarantining(tree: &Tree, failpoints: &str, more: &[&str]) -> Service {
    let config = "events = \"events\"\nstate_dir = \"state\"\n[[pipeline]]\ninput = \"in\"\n\
                  output = \"out\"\ntransforms = \"unzstd\"\non_success = \"delete\"\n\
                  quarantine = \"quarantine\"\n";
    fs::write(tree.path("tidemill.toml"), config).expect("configuration");
    let mut command = tree.configured("tidemill.toml");
    Service::from(command.args(more).env("FAILPOINTS", failpoints).spawn().expect("start"))
}

/// Its quarantine was away, and its producer delivered the name meanwhile. The stop was clean, and no
/// later start looked for it.
#[test]
fn a_source_that_could_not_get_its_name_back_is_found_after_a_stop_in_good_order() {
    let mut tree = Tree::new();
    tree.put("a.zst", b"no archive");
    fs::write(tree.path("gate"), "").expect("gate");
    let gate = format!("dispose::taken=1*return(while:{})->off", tree.path("gate").display());
    let service = quarantining(&tree, &gate, &[]);
    until("it is taken", || is_held(&tree));
    moved(&tree, "quarantine", "away");
    fs::write(tree.path("quarantine"), "another file").expect("write");
    tree.put("a.zst", b"a second delivery");
    removed(&tree, "gate");
    until("it cannot be moved", || tree.log().contains("event=file.not_moved"));
    removed(&tree, "quarantine");
    moved(&tree, "away", "quarantine");
    until("the second is in quarantine", || !tree.path("in/a.zst").exists());
    service.signal(Signal::TERM);
    let code = service.wait();
    assert!([0, 75].contains(&code), "{code}\n{}", tree.log());
    assert!(is_held(&tree), "{}", tree.log());
    assert_eq!(quarantining(&tree, "", &["--once"]).wait(), 65, "{}", tree.log());
    assert!(tree.files("in").is_empty(), "{:?}\n{}", tree.files("in"), tree.log());
    let kept = tree.files("quarantine").into_iter();
    let kept = kept.map(|path| fs::read(tree.path("quarantine").join(path)).expect("read"));
    let kept: Vec<_> = kept.collect();
    for content in [&b"no archive"[..], b"a second delivery"] {
        assert!(kept.iter().any(|found| found == content), "{}", tree.log());
    }
}

/// Recovery could not dispose of it, and another file had its name: the next stop was clean.
#[test]
fn a_source_that_recovery_leaves_under_its_private_name_is_found_after_a_stop_in_good_order() {
    let mut tree = Tree::new();
    tree.put("a", b"first");
    let run = |tree: &Tree, failpoints: &str| {
        tree.start_with(failpoints, "delete", &["--once", "--on-exists", "suffix"]).wait()
    };
    assert_eq!(run(&tree, "dispose::taken=return(kill)"), KILLED, "{}", tree.log());
    tree.put("a", b"second");
    let code = run(&tree, "dispose::unlink=1*return(eio)->off");
    assert!([0, 75].contains(&code), "{code}\n{}", tree.log());
    assert!(is_held(&tree), "{}", tree.log());
    assert_eq!(run(&tree, ""), 0, "{}", tree.log());
    assert!(tree.files("in").is_empty(), "{:?}\n{}", tree.files("in"), tree.log());
    assert_eq!(tree.files("out").len(), 2, "{}", tree.log());
}

/// Two pipelines, or only the second.
fn configure(tree: &Tree, with_first: bool) {
    let pipeline = |name: &str| {
        format!(
            "[[pipeline]]\nname = \"{name}\"\ninput = \"{name}-in\"\noutput = \"{name}-out\"\n\
             on_success = \"delete\"\n"
        )
    };
    let mut config = "events = \"events\"\nstate_dir = \"state\"\n".to_owned();
    config += &if with_first { pipeline("first") } else { String::new() };
    config += &pipeline("second");
    fs::write(tree.path("tidemill.toml"), config).expect("configuration");
}

/// Its record counted as disposed of before its input was searched, and no later start searched there.
#[test]
fn a_held_source_of_a_pipeline_that_is_removed_is_found_after_a_kill_in_recovery() {
    let tree = Tree::new();
    for name in ["first", "second"] {
        for end in ["in", "out"] {
            fs::create_dir(tree.path(&format!("{name}-{end}"))).expect("directory");
        }
    }
    fs::write(tree.path("first-in/a"), "content").expect("write");
    let run = |failpoints: &str| {
        let mut command = tree.configured("tidemill.toml");
        let command = command.arg("--once").env("FAILPOINTS", failpoints);
        Service::from(command.spawn().expect("start")).wait()
    };
    configure(&tree, true);
    assert_eq!(run("dispose::taken=return(kill)"), KILLED, "{}", tree.log());
    configure(&tree, false);
    assert_eq!(run("recovery::disposed=return(kill)"), KILLED, "{}", tree.log());
    assert_eq!(run(""), 0, "{}", tree.log());
    assert_eq!(tree.files("first-in"), Vec::<std::path::PathBuf>::new(), "{}", tree.log());
    assert!(tree.path("first-out/a.zst").exists(), "{}", tree.log());
}

/// The mount point was searched, and counted as the input from then on.
#[test]
fn a_held_source_whose_input_is_not_mounted_is_found_when_it_is_there_again() {
    let mut tree = Tree::new();
    tree.put("a.zst", b"no archive");
    let killed = quarantining(&tree, "dispose::taken=return(kill)", &["--once"]);
    assert_eq!(killed.wait(), KILLED, "{}", tree.log());
    moved(&tree, "in", "away");
    fs::create_dir(tree.path("in")).expect("the mount's place");
    for _ in 0..2 {
        assert_eq!(quarantining(&tree, "", &["--once"]).wait(), 75, "{}", tree.log());
    }
    fs::remove_dir(tree.path("in")).expect("remove");
    moved(&tree, "away", "in");
    assert_eq!(quarantining(&tree, "", &["--once"]).wait(), 65, "{}", tree.log());
    assert!(tree.files("in").is_empty(), "{:?}\n{}", tree.files("in"), tree.log());
    assert!(tree.path("quarantine/a.zst").exists(), "{}", tree.log());
}

/// Both ends were replaced while the service ran. They counted as not mounted, at each start until they
/// had a file.
#[test]
fn a_directory_that_replaced_another_at_run_time_counts_as_mounted_at_the_next_start() {
    let tree = Tree::new();
    let config = "events = \"events\"\nstate_dir = \"state\"\nsandbox = \"off\"\n\
                  [[pipeline]]\ninput = \"in\"\noutput = \"out\"\non_success = \"delete\"\n";
    fs::write(tree.path("tidemill.toml"), config).expect("configuration");
    let service = Service::from(tree.configured("tidemill.toml").spawn().expect("start"));
    until("it is ready", || tree.log().contains("phase=READY"));
    let published = |name: &str| {
        let events = fs::read_to_string(tree.path("events")).unwrap_or_default();
        events.lines().any(|line| line.contains(name))
    };
    for dir in ["in", "out"] {
        moved(&tree, dir, &format!("{dir}-before"));
        fs::create_dir(tree.path(dir)).expect("directory");
    }
    fs::write(tree.path("in/a"), "content").expect("write");
    until("the file is published", || published("a.zst") && tree.files("in").is_empty());
    service.signal(Signal::KILL);
    assert_eq!(service.wait(), KILLED);
    removed(&tree, "out/a.zst");
    let again = tree.configured("tidemill.toml").arg("--once").spawn().expect("start");
    assert_eq!(Service::from(again).wait(), 0, "{}", tree.log());
    assert!(!tree.log().contains("empty directory"), "{}", tree.log());
}
