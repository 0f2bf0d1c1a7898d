//! Unfinished records that a start cannot finish, or finds in each other's way.

use std::{fs, process::Command};

use rustix::process::Signal;

use crate::harness::{Service, Tree, until};

const KILLED: i32 = -9;

/// A service with this configuration, in the tree's directory.
fn configured(tree: &Tree, pipelines: &str, failpoints: &str) -> Service {
    let config = format!("http = \"off\"\nevents = \"events\"\nstate_dir = \"state\"\n{pipelines}");
    fs::write(tree.path("tidemill.toml"), config).expect("configuration");
    let log = fs::File::options().append(true).create(true).open(tree.path("log")).expect("log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(["run", "--config", "tidemill.toml", "--once"]).current_dir(tree.path(""));
    command.env("FAILPOINTS", failpoints).env("RUST_LOG", "info").stderr(log);
    Service::from(command.spawn().expect("start"))
}

fn pipeline(name: &str, input: &str, output: &str, more: &str) -> String {
    format!("[[pipeline]]\nname = \"{name}\"\ninput = \"{input}\"\noutput = \"{output}\"\n{more}\n")
}

#[expect(clippy::disallowed_methods, reason = "the operator moves it")]
fn moved(tree: &Tree, from: &str, to: &str) {
    fs::rename(tree.path(from), tree.path(to)).expect("rename");
}

/// Its temporary file was removed by the sweep of another pipeline's output, which was the same.
#[test]
fn a_temp_with_an_intent_stays_while_its_pipelines_input_is_away() {
    let mut tree = Tree::new();
    fs::create_dir(tree.path("other")).expect("directory");
    tree.put("a.log", b"the only copy");
    let state = tree.path("state");
    let state = ["--once", "--state-dir", state.to_str().expect("UTF-8")];
    let killed = tree.start_with("commit::intended=return(kill)", "delete", &state);
    assert_eq!(killed.wait(), KILLED);
    moved(&tree, "in", "away");
    let other = configured(&tree, &pipeline("other", "other", "out", ""), "");
    assert_eq!(other.wait(), 75, "work is left\n{}", tree.log());
    moved(&tree, "away", "in");
    assert_eq!(tree.start("delete", &state).wait(), 0, "{}", tree.log());
    tree.assert_done("delete");
}

/// The start ended with 74, and every later one too, for all pipelines.
#[test]
fn a_directory_that_is_renamed_around_a_private_name_keeps_no_pipeline_from_starting() {
    let mut tree = Tree::new();
    tree.put("batch/a.log", b"content");
    let killed = tree.start_with("dispose::taken=return(kill)", "delete", &["--once"]);
    assert_eq!(killed.wait(), KILLED);
    moved(&tree, "in/batch", "in/old");
    for _ in 0..2 {
        assert_eq!(tree.once("delete"), 0, "{}", tree.log());
    }
    assert_eq!(tree.files("in"), Vec::<std::path::PathBuf>::new(), "{}", tree.log());
    assert_eq!(tree.files("out"), [std::path::Path::new("batch/a.log.zst")]);
}

/// The intents of one durability were durable, those of the other met a full disk, and the temps of
/// both were removed.
#[test]
fn a_batch_of_two_durabilities_has_its_intents_in_one_transaction() {
    let tree = Tree::new();
    for name in ["in1", "in2", "out1", "out2"] {
        fs::create_dir(tree.path(name)).expect("directory");
    }
    let pipelines = pipeline("one", "in1", "out1", "durability = \"none\"")
        + &pipeline("two", "in2", "out2", "");
    for number in 0..20 {
        for input in ["in1", "in2"] {
            fs::write(tree.path(input).join(format!("{number}.log")), "content").expect("write");
        }
    }
    for full in
        ["commit::intent=1*return(enospc)->off", "commit::intent=1*off->2*return(ebusy)->off"]
    {
        let code = configured(&tree, &pipelines, full).wait();
        assert_eq!(code, 0, "{full}\n{}", tree.log());
    }
    for output in ["out1", "out2"] {
        assert_eq!(tree.files(output).len(), 20, "{}", tree.log());
    }
    assert!(tree.acknowledged().values().all(|lines| *lines == 2), "once for each of the two");
}

/// An unmounted input is an empty directory: its source was taken for disposed of, and stayed under its
/// private name, which no intake looks at, for good.
#[test]
fn a_source_whose_input_is_not_mounted_is_disposed_of_when_it_is_there_again() {
    for on_success in ["delete", "archive"] {
        let mut tree = Tree::new();
        tree.put("a.log", b"content");
        let killed = tree.start_with("dispose::taken=return(kill)", on_success, &["--once"]);
        assert_eq!(killed.wait(), KILLED);
        moved(&tree, "in", "away");
        fs::create_dir(tree.path("in")).expect("the mount's place");
        for _ in 0..2 {
            assert_eq!(tree.once(on_success), 75, "{}", tree.log());
        }
        fs::remove_dir(tree.path("in")).expect("remove");
        moved(&tree, "away", "in");
        assert_eq!(tree.once(on_success), 0, "{}", tree.log());
        tree.assert_done(on_success);
    }
}

/// An output that is not mounted is an empty directory: the outputs of durable intents counted as taken by
/// a consumer, their sources were in quarantine, and new outputs were written below the mount.
#[test]
fn an_output_that_is_not_mounted_is_finished_when_it_is_there_again() {
    for (on_success, killed_at) in [
        ("delete", "commit::intended"),
        ("archive", "commit::renamed"),
        ("keep", "commit::renamed"),
    ] {
        let mut tree = Tree::new();
        tree.put("a.log", b"content");
        let state = tree.path("state");
        let more = ["--once", "--state-dir", state.to_str().expect("UTF-8")];
        let killed = tree.start_with(&format!("{killed_at}=return(kill)"), on_success, &more);
        assert_eq!(killed.wait(), KILLED);
        moved(&tree, "out", "away");
        // The service makes a directory that is missing, as for an operator who removed it.
        for _ in 0..2 {
            assert_eq!(tree.start(on_success, &more).wait(), 75, "{}", tree.log());
        }
        assert!(tree.files("out").is_empty(), "{}", tree.log());
        fs::remove_dir(tree.path("out")).expect("remove");
        moved(&tree, "away", "out");
        assert_eq!(tree.start(on_success, &more).wait(), 0, "{}", tree.log());
        tree.assert_done(on_success);
    }
}

/// Nested outputs are allowed, and two records may intend one name: the start ended with 74.
#[test]
fn two_intents_of_one_name_recover_and_the_second_is_withdrawn() {
    let tree = Tree::new();
    for name in ["in1/sub", "in2", "out/sub"] {
        fs::create_dir_all(tree.path(name)).expect("directory");
    }
    let pipelines = pipeline("one", "in1", "out", "")
        + &pipeline("two", "in2", "out/sub", "on_exists = \"suffix\"");
    fs::write(tree.path("gate"), "").expect("gate");
    fs::write(tree.path("in1/sub/same.log"), "of the one").expect("write");
    fs::write(tree.path("in2/same.log"), "of the other").expect("write");
    let gate = format!(
        "commit::sync=1*return(while:{})->off;commit::intended=return(kill)",
        tree.path("gate").display()
    );
    let killed = configured(&tree, &pipelines, &gate);
    until("both are staged, or one is committed alone", || tree.files("out").len() == 2);
    #[expect(clippy::disallowed_methods, reason = "the gate of a failpoint")]
    fs::remove_file(tree.path("gate")).expect("gate");
    assert_eq!(killed.wait(), KILLED);
    let code = configured(&tree, &pipelines, "").wait();
    // The first may keep its name, and the policy decides about the second.
    assert!([0, 65].contains(&code), "{code}\n{}", tree.log());
    assert!(tree.path("out/sub/same.log.zst").exists(), "{}", tree.log());
    assert!(!tree.log().contains("File exists"), "{}", tree.log());
}

/// It was in quarantine, and nobody heard of it: no line, no metric, and exit code 0.
#[test]
fn what_recovery_puts_into_quarantine_is_reported() {
    let mut tree = Tree::new();
    tree.put("a.log", b"taken by a consumer before it was acknowledged");
    let killed = tree.start_with("commit::renamed=return(kill)", "keep", &["--once"]);
    assert_eq!(killed.wait(), KILLED);
    #[expect(clippy::disallowed_methods, reason = "a consumer takes it")]
    fs::remove_file(tree.path("out/a.log.zst")).expect("take");
    assert_eq!(tree.once("keep"), 65, "{}", tree.log());
    let events = fs::read_to_string(tree.path("events")).expect("events");
    let line: serde_json::Value = serde_json::from_str(events.trim()).expect("one line");
    assert_eq!(line["outcome"], "quarantined");
    assert_eq!(line["source"], "a.log");
}

/// The start ended with 74, and every later one too, for all pipelines.
#[test]
fn an_error_at_one_output_keeps_no_other_pipeline_from_starting_and_acknowledges_nothing() {
    for (killed_at, failing, step) in [
        ("commit::intended", "recovery::rename", "cannot publish"),
        ("commit::renamed", "recovery::directory", "cannot make durable"),
        // Between the two names of a link.
        ("gate::no_replace=return(out);commit::unlink", "recovery::unlink", "cannot remove"),
    ] {
        let tree = Tree::new();
        for name in ["in1", "in2", "out1", "out2"] {
            fs::create_dir(tree.path(name)).expect("directory");
        }
        let pipelines = pipeline("one", "in1", "out1", "") + &pipeline("two", "in2", "out2", "");
        fs::write(tree.path("in1/a.log"), "content").expect("write");
        let killed = configured(&tree, &pipelines, &format!("{killed_at}=return(kill)"));
        assert_eq!(killed.wait(), KILLED);
        fs::write(tree.path("in2/b.log"), "content").expect("write");
        let code = configured(&tree, &pipelines, &format!("{failing}=return(eio)")).wait();
        assert_eq!(code, 75, "{failing}\n{}", tree.log());
        assert!(
            tree.log().contains("recovery cannot finish an output, deferred to the next start"),
            "{}",
            tree.log()
        );
        assert!(tree.log().contains(step), "{}", tree.log());
        assert!(tree.path("out2/b.log.zst").exists(), "{}", tree.log());
        let events = fs::read_to_string(tree.path("events")).expect("events");
        assert!(events.contains("b.log") && !events.contains("a.log"), "{events}");
        assert_eq!(configured(&tree, &pipelines, "").wait(), 0, "{}", tree.log());
        let events = fs::read_to_string(tree.path("events")).expect("events");
        assert_eq!(events.matches("a.log.zst").count(), 1, "{events}");
        assert!(tree.path("out1/a.log.zst").exists(), "{}", tree.log());
    }
}

/// A marker that stayed would make the next file of that name count as finished while it is written.
#[test]
fn a_marker_goes_with_the_source_that_recovery_disposes_of() {
    for (policy, transforms, kept) in [
        ("delete", "zstd", None),
        ("archive:archive", "zstd", Some("archive")),
        ("delete", "unzstd", Some("quarantine")),
    ] {
        let tree = Tree::new();
        let more = format!(
            "on_success = \"{policy}\"\ntransforms = \"{transforms}\"\nmarker = \".done\"\nquarantine = \"quarantine\""
        );
        let pipelines = pipeline("one", "in", "out", &more);
        fs::write(tree.path("in/a.zst"), "no archive").expect("write");
        fs::write(tree.path("in/a.zst.done"), "").expect("write");
        let killed = configured(&tree, &pipelines, "dispose::taken=return(kill)");
        assert_eq!(killed.wait(), KILLED);
        assert!(tree.path("in/a.zst.done").exists(), "it was killed before that");
        let code = configured(&tree, &pipelines, "").wait();
        assert_eq!(
            code,
            if transforms == "zstd" { 0 } else { 65 },
            "{policy} {transforms}\n{}",
            tree.log()
        );
        assert!(tree.files("in").is_empty(), "{policy} {transforms}: {:?}", tree.files("in"));
        if let Some(kept) = kept {
            for name in ["a.zst", "a.zst.done"] {
                assert!(tree.path(kept).join(name).exists(), "{kept} {name}\n{}", tree.log());
            }
        }
    }
}

/// Only the archives of the configuration were searched.
#[test]
fn what_a_killed_copy_left_in_an_archive_that_is_no_longer_configured_is_removed() {
    let tree = Tree::new();
    let to = |archive: &str| {
        pipeline("one", "in", "out", &format!("on_success = \"archive:{archive}\""))
    };
    fs::write(tree.path("in/a.log"), "content").expect("write");
    let killed = configured(&tree, &to("old"), "dispose::taken=return(kill)");
    assert_eq!(killed.wait(), KILLED);
    let temp = tree.path("old").join(format!(".tidemill-{}-AbCdEfGh.tmp", instance(&tree)));
    fs::write(&temp, "half").expect("write");
    assert_eq!(configured(&tree, &to("new"), "").wait(), 0, "{}", tree.log());
    assert!(!temp.exists(), "{}", tree.log());
    assert_eq!(tree.files("old"), [std::path::Path::new("a.log")], "{}", tree.log());
}

/// The instance of the tree's ledger, a part of every temporary name.
fn instance(tree: &Tree) -> String {
    use tidemill::ledger::{Ledger, sqlite::Sqlite};
    let ledger = Sqlite::open_read_only(&tree.path("state/ledger.sqlite")).expect("ledger");
    ledger.instance().to_owned()
}

/// The start tries what a quarantine's file system can do in the directory in which it would be made.
#[test]
fn what_a_killed_probe_left_above_a_quarantine_that_is_not_made_is_removed() {
    let tree = Tree::new();
    let pipelines = pipeline("one", "in", "out", "on_success = \"delete\"");
    fs::write(tree.path("in/a.log"), "content").expect("write");
    let killed = configured(&tree, &pipelines, "commit::intended=return(kill)");
    assert_eq!(killed.wait(), KILLED);
    let probe = tree.path("state").join(format!(".tidemill-{}-AbCdEfGh.tmp", instance(&tree)));
    let deeper = tree.path("state/control").join(probe.file_name().expect("a name"));
    for path in [&probe, &deeper] {
        fs::write(path, "").expect("write");
    }
    assert_eq!(configured(&tree, &pipelines, "").wait(), 0, "{}", tree.log());
    assert!(!probe.exists(), "{}", tree.log());
    assert!(deeper.exists(), "nothing else is searched");
}

/// The service ended with 74.
#[test]
fn a_withdrawal_waits_for_space_in_the_ledger() {
    let mut tree = Tree::new();
    tree.put("a.log", b"content");
    let full = "commit::rename=1*return(eio)->off;commit::withdraw=2*return(enospc)->off";
    let code = tree.start_with(full, "delete", &["--once"]).wait();
    assert_eq!(code, 0, "{}", tree.log());
    assert!(tree.log().contains("the ledger's disk is full"), "{}", tree.log());
    tree.assert_done("delete");
}

/// It was tried twelve times, and then the service ended with 74.
#[test]
fn a_withdrawal_waits_for_another_program_that_writes_to_the_ledger() {
    let mut tree = Tree::new();
    tree.put("a.log", b"content");
    let busy = "commit::rename=1*return(eio)->off;commit::withdraw=13*return(ebusy)->off";
    let service = tree.start_with(busy, "delete", &[]);
    until("it is published", || tree.files("in").is_empty());
    assert!(tree.log().contains("another program writes to the ledger"), "{}", tree.log());
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", tree.log());
    tree.assert_done("delete");
}

#[test]
fn a_stop_ends_the_wait_of_a_withdrawal() {
    let mut tree = Tree::new();
    tree.put("a.log", b"content");
    let busy = "commit::rename=1*return(eio)->off;commit::withdraw=return(ebusy)";
    let service = tree.start_with(busy, "delete", &[]);
    until("it pauses", || tree.log().contains("storage unavailable, intake paused"));
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 75, "{}", tree.log());
    assert_eq!(tree.once("delete"), 0, "{}", tree.log());
    tree.assert_done("delete");
}
