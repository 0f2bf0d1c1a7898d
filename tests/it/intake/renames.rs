//! Producers that rename what they have written, and directories that are renamed while their
//! files are in flight.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tidemill::limits;

use crate::{
    files::{Running, TestDir, tree, until},
    intake::ends_well,
};

/// The files below the output, without their extension.
pub(super) fn published(place: &TestDir) -> Vec<String> {
    let out = place.output();
    let mut paths = tree(&out);
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "zst"));
    let names = paths.iter().map(|path| path.strip_prefix(&out).unwrap().with_extension(""));
    names.map(|path| path.to_str().unwrap().to_owned()).collect()
}

/// A service whose files wait, whole and without a name, for as long as there is the gate.
pub(super) fn held(place: &TestDir, args: &[&str]) -> Running {
    fs::write(place.root().join("gate"), "").unwrap();
    let gate = format!("commit::sync=return(while:{})", place.root().join("gate").display());
    place.watch_with(args, &gate)
}

pub(super) fn open(place: &TestDir) {
    fs::remove_file(place.root().join("gate")).unwrap();
}

/// Waits until this many temporary files are in the output.
pub(super) fn until_staged(place: &TestDir, count: usize) {
    until("they are staged", || {
        let staged = |path: &&std::path::PathBuf| {
            path.extension().is_some_and(|extension| extension == "tmp")
        };
        tree(&place.output()).iter().filter(staged).count() >= count
    });
}

#[test]
fn a_producer_that_closes_and_renames_is_never_disturbed_and_each_file_is_published_once() {
    for on_success in ["keep", "delete"] {
        let place = TestDir::new();
        let running = place.watch(&["--on-success", on_success]);
        // Those that a busy machine kept between the close and the rename for longer than the quiet time.
        let mut late = Vec::new();
        for number in 0..200 {
            let began = Instant::now();
            // No conventional name: only the quiet time and the last look can help.
            let unfinished = place.put(format!("{number}.log.t"), format!("file {number}"));
            let finished = place.input().join(format!("{number}.log"));
            fs::rename(unfinished, finished).expect("the producer's own rename");
            if began.elapsed() > limits::CLOSED_QUIET_TIME / 2 {
                late.push(format!("{number}.log.t"));
            }
        }
        assert!(late.len() < 100, "{} renames were late", late.len());
        let is_finished = |name: &String| Path::new(name).extension() == Some("log".as_ref());
        let finished = || published(&place).into_iter().filter(is_finished).count();
        until("all are published", || finished() >= 200);
        ends_well(&place, running);
        let wrong = |name: &String| !is_finished(name) && !late.contains(name);
        let wrong: Vec<_> = published(&place).into_iter().filter(wrong).collect();
        assert_eq!(wrong, Vec::<String>::new(), "{on_success}");
        assert_eq!(finished(), 200, "{on_success}");
    }
}

/// With the default `settle`. On a busy machine one file may come late: the fastest shows what is waited for.
#[test]
fn a_file_that_is_moved_in_is_published_at_once_and_one_written_in_place_after_its_quiet_time() {
    let place = TestDir::new();
    let running = place.watch(&["--durability", "none"]);
    // From before the close or the rename to the output.
    let waits = |deliver: &dyn Fn(&str), kind: &str| -> Vec<Duration> {
        let wait = |number| {
            let name = format!("{kind}{number}");
            let (output, began) = (place.output().join(format!("{name}.zst")), Instant::now());
            deliver(&name);
            until(&name, || output.exists());
            began.elapsed()
        };
        (0..10).map(wait).collect()
    };
    let move_in = |name: &str| {
        let outside = place.root().join("outside");
        fs::write(&outside, name).unwrap();
        fs::rename(outside, place.input().join(name)).unwrap();
    };
    let moved_in = waits(&move_in, "moved");
    let written = waits(&|name| drop(place.put(name, name)), "written");
    ends_well(&place, running);
    let fastest = |waits: &[Duration]| waits.iter().min().copied().unwrap();
    assert!(fastest(&moved_in) < limits::CLOSED_QUIET_TIME, "{moved_in:?}");
    assert!(fastest(&written) >= limits::CLOSED_QUIET_TIME, "{written:?}");
}

#[test]
fn a_producer_that_renames_after_the_publication_gets_more_time_for_its_next_file() {
    let place = TestDir::new();
    let running = place.watch(&[]);
    // The first scan is over then, and events report the close of each file.
    place.put("before", "before");
    running.until_logged("source=before output");
    let first = place.put("first", "first");
    running.until_logged("source=first output");
    fs::rename(first, place.input().join("renamed")).unwrap();
    let began = Instant::now();
    place.put("second", "second");
    until("the second file", || place.output().join("second.zst").exists());
    let waited = began.elapsed();
    ends_well(&place, running);
    // The first rename came after the quiet time, and the next wait is twice its delay.
    assert!(waited >= 2 * limits::CLOSED_QUIET_TIME, "{waited:?}");
}

#[test]
fn a_source_that_is_renamed_before_its_output_is_published_is_published_under_its_new_name() {
    for on_success in ["keep", "delete"] {
        let place = TestDir::new();
        let running = held(&place, &["--settle", "0s", "--on-success", on_success]);
        place.put("before", "content");
        until_staged(&place, 1);
        fs::rename(place.input().join("before"), place.input().join("after")).unwrap();
        open(&place);
        until("the new name", || place.output().join("after.zst").exists());
        ends_well(&place, running);
        assert_eq!(published(&place), ["after"], "{on_success}");
        assert!(place.history("before").is_empty(), "{on_success}: nothing is recorded of it");
    }
}

#[test]
fn a_source_that_is_replaced_before_its_output_is_published_is_published_as_it_is_then() {
    let place = TestDir::new();
    let running = held(&place, &["--settle", "0s", "--on-success", "delete"]);
    place.put("file", "old");
    until_staged(&place, 1);
    let new = place.root().join("new");
    fs::write(&new, "the new content").unwrap();
    fs::rename(new, place.input().join("file")).unwrap();
    open(&place);
    until("the new content", || place.output().join("file.zst").exists());
    ends_well(&place, running);
    assert_eq!(place.published("file.zst"), b"the new content");
    assert_eq!(place.history("file").len(), 1);
}

#[test]
fn a_directory_that_is_renamed_while_its_files_are_in_flight_is_published_once() {
    const FILES: usize = 300;
    for on_success in ["keep", "delete"] {
        let place = TestDir::new();
        let running = held(&place, &["--settle", "0s", "--on-success", on_success]);
        for number in 0..FILES {
            place.put(format!("batch/{number}"), format!("file {number}"));
        }
        until_staged(&place, FILES / 2);
        fs::rename(place.input().join("batch"), place.input().join("batch-ready")).unwrap();
        open(&place);
        until("all are published", || published(&place).len() >= FILES);
        ends_well(&place, running);
        let all = published(&place);
        let elsewhere: Vec<_> =
            all.iter().filter(|name| !name.starts_with("batch-ready/")).collect();
        assert_eq!((all.len(), elsewhere), (FILES, Vec::new()), "{on_success}");
    }
}

#[test]
fn a_directory_that_is_renamed_before_its_sources_are_removed_is_not_published_again() {
    const FILES: usize = 100;
    let place = TestDir::new();
    fs::write(place.root().join("gate"), "").unwrap();
    let gate = format!("dispose=return(while:{})", place.root().join("gate").display());
    let running = place.watch_with(&["--settle", "0s", "--on-success", "delete"], &gate);
    for number in 0..FILES {
        place.put(format!("batch/{number}"), format!("file {number}"));
    }
    until("all are published", || published(&place).len() == FILES);
    fs::rename(place.input().join("batch"), place.input().join("batch-ready")).unwrap();
    // What comes after them is through the intake's looks at them.
    place.put("later", "later");
    until("a later file", || published(&place).len() > FILES);
    open(&place);
    until("all sources are removed", || tree(&place.input()).is_empty());
    ends_well(&place, running);
    let all = published(&place);
    let again: Vec<_> = all.iter().filter(|name| name.starts_with("batch-ready/")).collect();
    assert_eq!((all.len(), again), (FILES + 1, Vec::new()));
}

/// A rename moves a file's change time, so that it was taken for another one.
#[test]
fn a_source_that_is_renamed_before_it_is_removed_is_not_published_again() {
    for on_success in ["delete", "archive"] {
        let place = TestDir::new();
        let (log, rotated) = (place.input().join("app.log"), place.input().join("app.log.1"));
        fs::write(place.root().join("gate"), "").unwrap();
        let gate = format!("dispose=return(while:{})", place.root().join("gate").display());
        let archive = place.root().join("archive");
        let policy = if on_success == "archive" {
            format!("archive:{}", archive.display())
        } else {
            on_success.to_owned()
        };
        let running = place.watch_with(&["--settle", "0s", "--on-success", &policy], &gate);
        for name in ["app.log", "alone"] {
            place.put(name, "old");
        }
        until("both are published", || published(&place).len() == 2);
        fs::rename(&log, rotated).unwrap();
        fs::rename(place.input().join("alone"), place.input().join("elsewhere")).unwrap();
        place.put("app.log", "new");
        // What comes after them is through the intake's looks at them.
        place.put("later", "later");
        until("a later file", || published(&place).len() == 3);
        open(&place);
        until("all sources are disposed of", || tree(&place.input()).is_empty());
        ends_well(&place, running);
        let mut all = published(&place);
        all.sort();
        assert_eq!(all, ["alone", "app.log", "app.log.1", "later"], "{on_success}");
        assert_eq!(place.published("app.log.1.zst"), b"new", "{on_success}");
        if on_success == "archive" {
            let archived = ["app.log", "app.log.1", "elsewhere", "later"];
            let names: Vec<_> =
                tree(&archive).iter().map(|it| it.file_name().unwrap().to_owned()).collect();
            assert!(names.iter().map(|name| name.to_str().unwrap()).eq(archived), "{names:?}");
        }
    }
}

/// The next attempt looks for the old name: the new one was published too.
#[test]
fn a_source_that_is_renamed_while_its_removal_waits_is_not_published_again() {
    for policy in ["delete", "archive:done"] {
        let place = TestDir::new();
        let config = place.root().join("tidemill.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("10ms", "5s")).unwrap();
        let args = ["--settle", "0s", "--on-success", policy];
        let running = place.watch_with(&args, "dispose=1*return(ebusy)->off");
        place.put("before", "content");
        running.until_logged("event=file.retried");
        fs::rename(place.input().join("before"), place.input().join("after")).unwrap();
        until("the source is disposed of", || tree(&place.input()).is_empty());
        // The next attempt, which looks for the old name, may still be waiting.
        let ended = running.stop();
        assert!(ended.code == 0 || ended.code == 75, "{ended:?}");
        place.assert_clean();
        assert_eq!(published(&place), ["before"], "{policy}");
        assert_eq!(place.root().join("done/after").exists(), policy != "delete");
    }
}

#[test]
fn a_source_that_is_renamed_while_a_process_has_it_open_is_published_again_only_if_it_changed() {
    use std::io::Write;
    for (more, names) in [("", &["before"][..]), (" and more", &["after", "before"])] {
        let place = TestDir::new();
        fs::write(place.root().join("gate"), "").unwrap();
        let gate = format!("dispose=return(while:{})", place.root().join("gate").display());
        let running = place.watch_with(&["--settle", "0s", "--on-success", "delete"], &gate);
        let path = place.put("before", "content");
        until("it is published", || published(&place).len() == 1);
        let mut writer = fs::File::options().append(true).open(&path).unwrap();
        open(&place);
        running.until_logged("source open for writing, disposal postponed");
        fs::rename(path, place.input().join("after")).unwrap();
        writer.write_all(more.as_bytes()).unwrap();
        drop(writer);
        until("the source is removed", || tree(&place.input()).is_empty());
        ends_well(&place, running);
        let mut all = published(&place);
        all.sort();
        assert_eq!(all, names);
        assert_eq!(place.published("before.zst"), b"content");
    }
}

/// What an operator asks for is done, whatever was renamed before.
#[test]
fn a_renamed_source_is_processed_again_by_request() {
    let place = TestDir::new();
    let gate = place.root().join("gate");
    fs::write(&gate, "").unwrap();
    let points = format!("commit::renamed=return(while:{})", gate.display());
    let running = place.watch_with(&["--settle", "0s"], &points);
    place.put("before", "content");
    until("it has its name", || published(&place).len() == 1);
    let after = place.input().join("after");
    fs::rename(place.input().join("before"), &after).unwrap();
    open(&place);
    until("the new name is recorded", || place.state_of("after") == "done");
    assert_eq!(published(&place), ["before"]);
    let again = place.run(&["reprocess", "--config", "tidemill.toml", after.to_str().unwrap()]);
    assert_eq!(again.code, 0, "{again:?}");
    until("it is published", || published(&place).len() == 2);
    ends_well(&place, running);
    assert_eq!(place.published("after.zst"), b"content");
}

/// Kept sources had no entry among those in commit.
#[test]
fn a_kept_source_that_is_renamed_while_it_is_published_is_published_once() {
    const FILES: usize = 20;
    let place = TestDir::new();
    let gate = place.root().join("gate");
    fs::write(&gate, "").unwrap();
    let points = format!("commit::renamed=return(while:{})", gate.display());
    for number in 0..FILES {
        place.put(format!("batch/{number}"), format!("file {number}"));
    }
    place.put("before", "content");
    let running = place.watch_with(&["--settle", "0s"], &points);
    until("the first have their names", || !published(&place).is_empty());
    fs::rename(place.input().join("before"), place.input().join("after")).unwrap();
    fs::rename(place.input().join("batch"), place.input().join("ready")).unwrap();
    open(&place);
    // Under which of its names depends on how far each one was.
    let is_done = |number: usize| place.state_of(&format!("ready/{number}")) == "done";
    until("all are recorded under their new names", || (0..FILES).all(is_done));
    until("the renamed one too", || place.state_of("after") == "done");
    ends_well(&place, running);
    assert_eq!(published(&place).len(), FILES + 1, "{:?}", published(&place));
    // A rename after that is another source.
    let again = place.once(&[]);
    assert_eq!((again.code, published(&place).len()), (0, FILES + 1), "{again:?}");
}

/// Removing one link moves the change time of the file that all of them are.
#[test]
fn each_link_to_one_file_is_a_delivery_of_its_own() {
    for on_success in ["delete", "keep"] {
        let place = TestDir::new();
        fs::write(place.root().join("gate"), "").unwrap();
        let gate = format!("dispose=return(while:{})", place.root().join("gate").display());
        let running = place.watch_with(&["--settle", "0s", "--on-success", on_success], &gate);
        let first = place.put("0", "content");
        until("the first is published", || published(&place).len() == 1);
        for number in 1..6 {
            fs::hard_link(&first, place.input().join(number.to_string())).unwrap();
        }
        // What comes after them is through the intake's looks at them.
        place.put("later", "later");
        until("a later file", || published(&place).contains(&"later".to_owned()));
        open(&place);
        until("all are published", || published(&place).len() == 7);
        let left = if on_success == "keep" { 7 } else { 0 };
        until("all are disposed of", || tree(&place.input()).len() == left);
        ends_well(&place, running);
        assert_eq!(published(&place).len(), 7, "{on_success}: once each");
    }
}

#[test]
fn editors_that_save_by_a_rename_leave_one_output_of_each_file() {
    let place = TestDir::new();
    let running = place.watch(&[]);
    for number in 0..20 {
        place.put(format!("conf{number}"), "before\n");
    }
    until("the first versions", || published(&place).len() == 20);
    for number in 0..20 {
        let file = place.input().join(format!("conf{number}"));
        // sed writes `sedXXXXXX`, vim tries `4913` and keeps the old file as `conf~`, GIO writes
        // `.goutputstream-XXXXXX`.
        match number % 3 {
            0 => run("sed", &["-i", "s/before/after/"], &file),
            1 => run(
                "vim",
                &[
                    "-es",
                    "-u",
                    "NONE",
                    "-c",
                    "set nocompatible backup backupcopy=no backupskip=",
                    "-c",
                    "%s/before/after/",
                    "-c",
                    "wq",
                ],
                &file,
            ),
            _ => run("ex", &["-s", "-u", "NONE", "-c", "%s/before/after/", "-c", "wq"], &file),
        }
    }
    until("the second versions", || {
        (0..20).all(|number| place.published(format!("conf{number}.zst")) == b"after\n")
    });
    let is_installed = std::process::Command::new("vim").arg("--version").output().is_ok();
    let backups =
        tree(&place.input()).iter().filter(|path| path.to_string_lossy().ends_with('~')).count();
    assert!(backups > 0 || !is_installed, "vim kept no old file");
    ends_well(&place, running);
    let strange: Vec<_> =
        published(&place).into_iter().filter(|name| !name.starts_with("conf")).collect();
    assert_eq!((strange, published(&place).len()), (Vec::new(), 20));
}

/// Runs an editor on a file, if it is installed; another producer's way otherwise.
fn run(program: &str, args: &[&str], file: &Path) {
    let status = std::process::Command::new(program).args(args).arg(file).status();
    if !status.is_ok_and(|status| status.success()) {
        let new = file.with_extension("new~");
        fs::write(&new, "after\n").unwrap();
        fs::rename(new, file).unwrap();
    }
}

/// A single scan had passed the new name, and the run ended with 0 and without the file.
#[test]
fn once_publishes_a_file_that_is_renamed_in_flight() {
    for on_success in ["keep", "delete"] {
        let place = TestDir::new();
        place.put("before", "content");
        let running = held(&place, &["--once", "--on-success", on_success]);
        until_staged(&place, 1);
        fs::rename(place.input().join("before"), place.input().join("after")).unwrap();
        open(&place);
        let ended = running.end();
        assert_eq!(ended.code, 0, "{on_success}: {ended:?}");
        assert_eq!(published(&place), ["after"], "{on_success}");
    }
}

/// The exit code was 0, though a file of the input had no output.
#[test]
fn once_that_is_stopped_while_a_source_is_renamed_says_that_work_is_left() {
    let place = TestDir::new();
    place.put("before", "content");
    let running = held(&place, &["--once"]);
    until_staged(&place, 1);
    running.signal(Signal::TERM);
    running.until_logged("phase=DRAINING");
    fs::rename(place.input().join("before"), place.input().join("after")).unwrap();
    open(&place);
    let ended = running.end();
    assert_eq!(ended.code, 75, "{ended:?}");
    assert!(ended.stderr.contains("event=pipeline.not_scanned"), "{ended:?}");
}

/// The next run published it again, under its new name.
#[test]
fn once_disposes_of_a_source_that_is_renamed_after_its_publication() {
    let place = TestDir::new();
    place.put("before", "content");
    fs::write(place.root().join("gate"), "").unwrap();
    let gate = format!("commit::acknowledge=return(while:{})", place.root().join("gate").display());
    let running = place.watch_with(&["--once", "--on-success", "delete"], &gate);
    until("it is published", || place.output().join("before.zst").exists());
    fs::rename(place.input().join("before"), place.input().join("after")).unwrap();
    open(&place);
    let ended = running.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(published(&place), ["before"]);
    assert!(tree(&place.input()).is_empty(), "{:?}", tree(&place.input()));
}

/// What a scan finds again is counted once, and what is no file of the pipeline leads to no other scan.
#[test]
fn another_scan_of_once_counts_no_file_again() {
    let place = TestDir::new();
    place.configure("exclude = [\"*.log\"]");
    for number in 0..5 {
        place.put(number.to_string(), "content");
    }
    assert_eq!(place.once(&[]).code, 0);
    place.put("before", "content");
    let running = held(&place, &["--once"]);
    until_staged(&place, 1);
    fs::rename(place.input().join("before"), place.input().join("after")).unwrap();
    open(&place);
    let ended = running.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    let summary = "1 file published into out/";
    assert!(ended.stderr.contains(summary), "{ended:?}");
    assert!(ended.stderr.contains(", 6 skipped: nothing to do"), "{ended:?}");
}

/// The scan had passed the name that log rotation gave the old file.
#[test]
fn once_publishes_a_file_whose_name_another_one_took_in_flight() {
    for on_success in ["keep", "delete"] {
        let place = TestDir::new();
        place.put("log", "the old one");
        let running = held(&place, &["--once", "--on-success", on_success]);
        until_staged(&place, 1);
        fs::rename(place.input().join("log"), place.input().join("log.1")).unwrap();
        place.put("log", "the new one");
        open(&place);
        let ended = running.end();
        assert_eq!(ended.code, 0, "{on_success}: {ended:?}");
        let mut names = published(&place);
        names.sort_unstable();
        assert_eq!(names, ["log", "log.1"], "{on_success}");
        assert_eq!(place.published("log.1.zst"), b"the old one");
    }
}
