//! Names of unfinished files, excluded directories, markers, and the service's own directories
//! seen through another mount.

use std::{fs, path::Path};

use crate::{
    files::{Running, TestDir, tree, until},
    intake::{ends_well, is_published},
    mounts::own_mounts,
    prove,
};

/// Names that producers use for a file until it is finished.
const TEMPORARY: [&str; 12] = [
    ".hidden",
    ".r1077.csv.wb6gbi",
    ".~tmp~/f",
    ".git/HEAD",
    "sub/.a.csv.swp",
    "a.csv.part",
    "a.csv.filepart",
    "b.tmp",
    "notes~",
    "movie.crdownload",
    "page.download/index.html",
    ".goutputstream-AB12CD",
];

/// The outputs that are there, by their path below the output.
fn outputs(place: &TestDir) -> Vec<String> {
    let out = place.output();
    let paths = tree(&out);
    let names = paths.iter().map(|path| path.strip_prefix(&out).unwrap());
    names.map(|path| path.to_str().unwrap().to_owned()).collect()
}

#[test]
fn files_of_other_sizes_and_cases_are_ignore_reason_until_they_fit() {
    let place = TestDir::new();
    place.put("A.CSV", "fits");
    place.put("empty.csv", "");
    place.put("large.csv", "far too large");
    place.put("B.TXT", "text");
    let options = ["--include", "*.csv", "--ignore-case", "--min-size", "1", "--max-size", "10"];
    let running = place.watch(&options);
    until("the file that fits", || is_published(&place, "A.CSV.zst"));
    // It was a placeholder.
    place.put("empty.csv", "grown");
    until("the grown file", || is_published(&place, "empty.csv.zst"));
    ends_well(&place, running);
    assert_eq!(outputs(&place), ["A.CSV.zst", "empty.csv.zst"]);
    let config = place.root().join("tidemill.toml");
    let text = fs::read_to_string(&config).unwrap();
    let rules = "[[pipeline]]\nignore_case = true\ninclude = [\"*.csv\"]\nmin_size = \"1\"\nmax_size = \"10\"";
    fs::write(&config, text.replace("[[pipeline]]", rules)).unwrap();
    assert_eq!(place.run(&["run", "--config", "tidemill.toml", "--once"]).code, 0);
    let explained = place.run(&["explain", "in/large.csv"]);
    assert!(explained.stdout.contains("it has 13 bytes, and `max_size` is 10"), "{explained:?}");
    let explained = place.run(&["explain", "in/B.TXT"]);
    assert!(explained.stdout.contains("`include` and `exclude` leave it out"), "{explained:?}");
}

#[test]
fn temporary_names_are_ignore_reason_by_the_first_scan_and_by_events() {
    let place = TestDir::new();
    for name in TEMPORARY {
        place.put(name, "unfinished");
    }
    place.put("first.csv", "first");
    let running = place.watch(&[]);
    until("the first", || is_published(&place, "first.csv.zst"));
    for name in TEMPORARY {
        place.put(Path::new("later").join(name), "unfinished");
    }
    place.put("later/second.csv", "second");
    until("the second", || is_published(&place, "later/second.csv.zst"));
    // A file gets its final name.
    fs::rename(place.input().join("a.csv.part"), place.input().join("a.csv")).unwrap();
    until("the renamed one", || is_published(&place, "a.csv.zst"));
    ends_well(&place, running);
    assert_eq!(outputs(&place), ["a.csv.zst", "first.csv.zst", "later/second.csv.zst"]);
    let ended = place.once(&[]);
    assert_eq!((ended.code, outputs(&place).len()), (0, 3), "{ended:?}");
}

#[test]
fn temporary_names_are_files_like_any_other_where_that_is_asked_for() {
    let place = TestDir::new();
    for name in TEMPORARY {
        place.put(name, "a file like any other");
    }
    let ended = place.once(&["--temporary-names", "take"]);
    assert_eq!((ended.code, outputs(&place).len()), (0, TEMPORARY.len()), "{ended:?}");
}

#[test]
fn check_shows_which_names_are_temporary_and_explain_says_that_one_is() {
    let place = TestDir::new();
    let name = place.put("a.csv.part", "unfinished");
    assert_eq!(place.once(&[]).code, 0);
    let checked = place.run(&["check", "--all", "--config", "tidemill.toml"]);
    assert!(checked.stdout.contains("temporary_names = \"ignore\""), "{checked:?}");
    assert!(checked.stdout.contains(".* *~") && checked.stdout.contains("*.part"), "{checked:?}");
    let explained = place.run(&["explain", name.to_str().unwrap()]).stdout;
    assert!(explained.contains("temporary name: a.csv.part matches `*.part`"), "{explained}");
    let asked = place.run(&["check", "in", "out", "--include", "*.part"]);
    assert!(asked.stderr.contains("`temporary_names = \"take\"`"), "{asked:?}");
}

#[test]
fn an_excluded_directory_is_left_out_as_git_and_rsync_do() {
    let place = TestDir::new();
    place.configure(
        "exclude = [\"node_modules\", \".snapshot/**\", \"cache/\"]\ntemporary_names = \"take\"",
    );
    let excluded = ["node_modules/a", "x/node_modules/y/b", ".snapshot/hourly/c", "x/cache/d"];
    for name in excluded {
        place.put(name, "left out");
    }
    let running = place.watch(&[]);
    for name in excluded {
        place.put(Path::new("later").join(name), "left out");
    }
    place.put("x/kept", "kept");
    place.put("cache2/kept", "kept");
    until("those that are kept", || {
        is_published(&place, "x/kept.zst") && is_published(&place, "cache2/kept.zst")
    });
    // `.snapshot/**` has a `/`: it is the one in the input itself.
    until("the other snapshot", || is_published(&place, "later/.snapshot/hourly/c.zst"));
    ends_well(&place, running);
    let all = ["cache2/kept.zst", "later/.snapshot/hourly/c.zst", "x/kept.zst"];
    assert_eq!(outputs(&place), all);
}

/// Its ledger was compressed and, with `delete`, removed under the service that used it.
#[test]
fn the_state_directory_of_another_service_is_ignore_reason_and_explained() {
    let (place, other) = (TestDir::new(), TestDir::new());
    let state = place.input().join("published/state");
    let state = state.to_str().unwrap();
    let before = place.watch(&["--on-success", "delete"]);
    other.put("x", "content");
    assert_eq!(other.once(&["--state-dir", state]).code, 0);
    place.put("published/a", "content");
    until("a file next to it", || is_published(&place, "published/a.zst"));
    before.until_logged("state directory of a service below the input, ignored");
    ends_well(&place, before);
    place.put("b", "content");
    let ended = place.once(&["--on-success", "delete"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(outputs(&place), ["b.zst", "published/a.zst"]);
    let explained = place.run(&["explain", "in/published/state/ledger.sqlite"]).stdout;
    assert!(explained.contains("is in the state directory of a service"), "{explained}");
    other.put("y", "content");
    assert_eq!(other.once(&["--state-dir", state]).code, 0);
    assert_eq!(other.published("y.zst"), b"content");
}

#[test]
fn a_marker_that_is_older_than_its_file_was_another_files() {
    let place = TestDir::new();
    place.configure("marker = \".done\"");
    place.put("a.csv", "the first delivery");
    place.put("a.csv.done", "");
    let running = place.watch(&[]);
    until("the first delivery", || is_published(&place, "a.csv.zst"));
    // The second delivery breaks off in its middle. A later file shows that it was looked at.
    place.put("a.csv", "the first half of the second del");
    place.put("b.csv", "b");
    place.put("b.csv.done", "");
    until("another file", || is_published(&place, "b.csv.zst"));
    assert_eq!(place.published("a.csv.zst"), b"the first delivery");
    let explained = place.run(&["explain", "in/a.csv"]).stdout;
    assert!(explained.contains("is older than the file"), "{explained}");
    place.put("a.csv", "the second delivery");
    place.put("a.csv.done", "");
    until("the second delivery", || place.published("a.csv.zst") == b"the second delivery");
    ends_well(&place, running);
    assert_eq!(place.history("a.csv").len(), 2, "nothing in between");
}

/// Each `--once` waited for it, and ended with 75.
#[test]
fn a_file_whose_marker_would_have_too_long_a_name_waits_for_none() {
    let place = TestDir::new();
    place.configure("marker = \".done\"");
    place.put("a".repeat(252), "content");
    place.put("b", "content");
    place.put("b.done", "");
    let ended = place.once(&[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(outputs(&place), ["b.zst"]);
}

#[test]
fn explain_says_that_a_files_time_lies_in_the_future_and_min_age_passes_all_the_same() {
    let place = TestDir::new();
    place.configure("min_age = \"300ms\"");
    let path = place.put("future", "content");
    let file = fs::File::options().append(true).open(&path).unwrap();
    let ahead = std::time::SystemTime::now() + std::time::Duration::from_secs(1_000_000);
    file.set_modified(ahead).unwrap();
    drop(file);
    assert_eq!(place.once(&["--exclude", "future"]).code, 0);
    place.once(&["--exclude", "*"]);
    let running = place.watch(&[]);
    until("it is published", || is_published(&place, "future.zst"));
    ends_well(&place, running);
    let path = place.put("also", "content");
    fs::File::options().append(true).open(&path).unwrap().set_modified(ahead).unwrap();
    let explained = place.run(&["explain", "in/also"]).stdout;
    assert!(explained.contains("its time lies in the future"), "{explained}");
}

#[test]
fn the_output_that_is_mounted_below_the_input_is_ignore_reason() {
    let name = "the_output_that_is_mounted_below_the_input_is_ignore_reason";
    let place = TestDir::new();
    for dir in ["published", "deep/er"] {
        fs::create_dir_all(place.input().join(dir)).unwrap();
    }
    place.put("a", "content");
    let script = "mount --bind out in/published && mount --bind . in/deep/er && exec \"$@\"";
    let binary = env!("CARGO_BIN_EXE_tidemill");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, "sh", binary, "run", "--config", "tidemill.toml"]);
    command.args(["--sandbox", "off"]).current_dir(place.root()).env("RUST_LOG", "info");
    // Only the service sees these mounts: its thread ends here.
    let start = move || own_mounts().map(|()| Running::start(&mut command));
    let Ok(running) = std::thread::spawn(start).join().unwrap() else {
        return prove::skipped(name, "a process gets no mounts of its own");
    };
    until("the service is ready, or cannot be", || {
        let log = running.log();
        log.contains("event=pipeline.ready") || log.contains("mount: ")
    });
    if !running.log().contains("event=pipeline.ready") {
        return prove::skipped(name, "no mounts can be made");
    }
    until("a", || is_published(&place, "a.zst"));
    place.put("b", "content");
    until("b", || is_published(&place, "b.zst"));
    place.put("c", "content");
    until("c", || is_published(&place, "c.zst"));
    let log = running.log();
    ends_well(&place, running);
    // The configuration file is below the input, too, and is not what the service writes.
    let all = ["a.zst", "b.zst", "c.zst", "deep/er/tidemill.toml.zst"];
    assert_eq!(outputs(&place), all, "{log}");
    assert!(log.contains("own directory mounted below the input, ignored"), "{log}");
    assert_eq!(log.matches("path=published").count(), 1, "logged once: {log}");
}
