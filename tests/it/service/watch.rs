//! Files that land while the service watches: however they come, each is published once.

use std::{fs, io::Write, path::Path};

use crate::harness::{Service, Tree, decode, decoder, until};
use rustix::process::Signal;

fn watching(tree: &Tree, on_success: &str, more: &[&str]) -> Service {
    let service = tree.start(on_success, more);
    until("the service is ready", || tree.log().contains("phase=READY"));
    service
}

fn published(tree: &Tree, path: &str) -> bool {
    tree.acknowledged().contains_key(Path::new(path))
}

fn ends_well(tree: &Tree, service: Service) {
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", tree.log());
}

#[test]
fn files_that_are_written_renamed_and_linked_in_are_published_once() {
    let mut tree = Tree::new();
    let service = watching(&tree, "keep", &[]);
    tree.put("written", b"written");
    fs::write(tree.path("elsewhere"), "renamed").expect("write");
    tree.contents.insert("renamed".into(), b"renamed".to_vec());
    rename(&tree.path("elsewhere"), &tree.path("in/renamed"));
    fs::write(tree.path("other"), "linked").expect("write");
    tree.contents.insert("linked".into(), b"linked".to_vec());
    fs::hard_link(tree.path("other"), tree.path("in/linked")).expect("link");
    tree.put("a/new/directory/file", b"below");
    until("all are published", || tree.acknowledged().len() == 4);
    ends_well(&tree, service);
    tree.assert_done("keep");
}

#[expect(clippy::disallowed_methods, reason = "the test is the producer")]
fn rename(from: &Path, to: &Path) {
    fs::rename(from, to).expect("rename");
}

#[test]
fn a_directory_that_is_moved_in_with_its_files_is_found() {
    let mut tree = Tree::new();
    let service = watching(&tree, "delete", &[]);
    fs::create_dir_all(tree.path("moved/deep")).expect("directory");
    for number in 0..20 {
        let path = format!("moved/deep/{number}");
        fs::write(tree.path(&path), &path).expect("write");
        tree.contents.insert(path.clone().into(), path.into());
    }
    rename(&tree.path("moved"), &tree.path("in/moved"));
    until("all are published", || tree.acknowledged().len() == 20);
    ends_well(&tree, service);
    tree.assert_done("delete");
}

#[test]
fn a_file_is_not_taken_while_its_producer_has_it_open() {
    let mut tree = Tree::new();
    let service = watching(&tree, "delete", &[]);
    let mut growing = fs::File::create_new(tree.path("in/growing")).expect("create");
    for number in 0..20 {
        growing.write_all(b"a part of it\n").expect("write");
        let probe = format!("probe-{number}");
        tree.put(&probe, b"x");
        until("the probe is published", || published(&tree, &probe));
        assert!(!published(&tree, "growing"));
    }
    drop(growing);
    tree.contents.insert("growing".into(), b"a part of it\n".repeat(20));
    until("it is published", || published(&tree, "growing"));
    ends_well(&tree, service);
    tree.assert_done("delete");
}

#[test]
fn a_source_that_changes_is_published_again_in_the_place_of_the_old_output() {
    let mut tree = Tree::new();
    let service = watching(&tree, "keep", &[]);
    for version in ["one", "two, longer", "three"] {
        tree.put("a", version.as_bytes());
        let packed = tree.path("out/a.zst");
        let mut unzstd = decoder();
        until(version, || {
            let packed = fs::read(&packed);
            packed.is_ok_and(|packed| decode(&mut unzstd, &packed) == version.as_bytes())
        });
    }
    until("three lines", || tree.acknowledged()[Path::new("a")] == 3);
    ends_well(&tree, service);
    tree.assert_no_leftovers();
    assert_eq!(tree.once("keep"), 0);
    assert_eq!(tree.acknowledged()[Path::new("a")], 3, "a restart publishes nothing again");
}

#[test]
fn quiet_time_marker_and_globs_hold_files_back() {
    let mut tree = Tree::new();
    fs::write(
        tree.path("config.toml"),
        "http = \"off\"\nevents = \"events\"\n[[pipeline]]\ninput = \"in\"\noutput = \"out\"\nmarker = \".done\"\nexclude = [\"*.part\"]\n",
    )
    .expect("write");
    let mut command = tree.command("keep", &[]);
    command = {
        let mut plain = std::process::Command::new(command.get_program());
        plain.args(["run", "--config", "config.toml"]).current_dir(tree.path(""));
        plain.stderr(
            fs::File::options().append(true).create(true).open(tree.path("log")).expect("log"),
        );
        plain
    };
    let service = Service::from(command.spawn().expect("start"));
    until("the service is ready", || tree.log().contains("phase=READY"));
    tree.put("a.csv", b"a");
    tree.put("b.part", b"b");
    fs::write(tree.path("in/b.part.done"), "").expect("marker");
    tree.put("c.csv", b"c");
    fs::write(tree.path("in/c.csv.done"), "").expect("marker");
    until("the marked one is published", || published(&tree, "c.csv"));
    assert_eq!(tree.files("out"), [Path::new("c.csv.zst")]);
    fs::write(tree.path("in/a.csv.done"), "").expect("marker");
    until("the other is published", || published(&tree, "a.csv"));
    ends_well(&tree, service);
    assert_eq!(tree.files("out"), [Path::new("a.csv.zst"), Path::new("c.csv.zst")]);
}

#[test]
fn a_queue_that_overflows_is_made_good_by_a_full_scan() {
    let mut tree = Tree::new();
    // The watch's thread stalls while more happens than the kernel's queue holds.
    let gate = tree.path("gate");
    fs::write(&gate, "").expect("a closed gate");
    let held = format!("discover::event=1*return(while:{})->off", gate.display());
    let service = tree.start_with(&held, "delete", &[]);
    until("the service is ready", || tree.log().contains("phase=READY"));
    let queued: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .expect("proc")
        .trim()
        .parse()
        .expect("a number");
    // Each name that comes and goes is two events at least.
    for number in 0..=queued {
        let passing = tree.path("in").join(format!("passing-{number}"));
        fs::create_dir(&passing).expect("directory");
        fs::remove_dir(&passing).expect("directory");
    }
    for number in 0..50 {
        tree.put(&format!("file-{number}"), b"content");
    }
    #[expect(clippy::disallowed_methods, reason = "the test opens its gate")]
    fs::remove_file(&gate).expect("open the gate");
    until("all are published", || tree.acknowledged().len() == 50);
    assert!(tree.log().contains("event queue overflowed, running a full scan"), "{}", tree.log());
    ends_well(&tree, service);
    tree.assert_done("delete");
}
