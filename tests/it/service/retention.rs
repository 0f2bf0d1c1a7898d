//! What a retention removes, and what it leaves.

#![expect(clippy::disallowed_methods, reason = "operators and consumers remove and rename files")]

use std::{
    collections::BTreeSet,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::files::{Running, TestDir, tree, until};

/// Rounds follow one another at once.
const ROUNDS: &str = "gate::retention_interval=return(out)";
const DAY_NS: i64 = 24 * 3_600_000_000_000;

fn configured(pipeline: &str, retention: &str) -> TestDir {
    let place = TestDir::new();
    std::fs::create_dir(place.root().join("archive")).unwrap();
    place.configure(&format!("{pipeline}\n[retention]\n{retention}"));
    place
}

fn archiving(retention: &str) -> TestDir {
    configured("on_success = \"archive:archive\"", retention)
}

/// Processes what is in the input.
fn process(place: &TestDir, code: i32) {
    let ended = place.once(&[]);
    assert_eq!(ended.code, code, "{ended:?}");
}

/// Makes records older, those of sources that match.
fn age(place: &TestDir, sources: &str, days: i64) {
    let ledger = rusqlite::Connection::open(place.state().join("ledger.sqlite")).unwrap();
    let sql = "UPDATE records SET at_ns = at_ns - ?1 WHERE cast(source AS TEXT) GLOB ?2";
    let count = ledger.execute(sql, rusqlite::params![days * DAY_NS, sources]).unwrap();
    assert!(count > 0, "no record of {sources}");
}

fn records(place: &TestDir) -> i64 {
    let ledger = rusqlite::Connection::open(place.state().join("ledger.sqlite")).unwrap();
    ledger.query_row("SELECT count(*) FROM records", [], |row| row.get(0)).unwrap()
}

/// The files below a directory of the root.
fn files(place: &TestDir, dir: &str) -> BTreeSet<String> {
    let root = place.root().join(dir);
    let below = |path: PathBuf| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    tree(&root).into_iter().map(below).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn reason_code(place: &TestDir, source: &str) -> String {
    place.history(source)[0]["reason_code"].as_str().unwrap_or_default().to_owned()
}

/// Whether it has ended; it can still be waited for.
fn has_ended(running: &Running) -> bool {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let pid = Pid::from_raw(running.pid().try_into().unwrap()).unwrap();
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), options).unwrap().is_some()
}

fn rounds(place: &TestDir) -> Running {
    place.watch_with(&[], ROUNDS)
}

#[test]
fn only_old_archived_files_that_a_record_names_are_removed() {
    let place = archiving("archive = \"30d\"");
    for name in ["old", "d/old", "young", "changed", "linked", "replaced"] {
        place.put(name, name);
    }
    process(&place, 0);
    place.put("old", "a second one, old");
    process(&place, 0);
    age(&place, "*", 31);
    age(&place, "young", -2);
    let archive = place.root().join("archive");
    assert!(archive.join("old.1").exists());
    std::fs::write(archive.join("foreign"), "old").unwrap();
    std::fs::write(archive.join("changed"), "CHANGED").unwrap();
    std::fs::hard_link(archive.join("linked"), place.root().join("other name")).unwrap();
    let time = std::fs::metadata(archive.join("replaced")).unwrap().modified().unwrap();
    // As `cp -p` does it.
    for copy in ["replaced", "old.7"] {
        let new = archive.join("new");
        std::fs::write(&new, if copy == "old.7" { "old" } else { copy }).unwrap();
        std::fs::File::options().write(true).open(&new).unwrap().set_modified(time).unwrap();
        std::fs::rename(&new, archive.join(copy)).unwrap();
    }
    std::os::unix::fs::symlink(archive.join("young"), archive.join("link")).unwrap();
    let before = files(&place, "archive");
    let plan = place.run(&["plan", "--config", "tidemill.toml"]);
    assert_eq!(plan.code, 0, "{plan:?}");
    assert_eq!(plan.stdout.lines().filter(|line| line.starts_with("expire ")).count(), 3);
    assert!(plan.stdout.contains("archive/d/old"), "{plan:?}");
    assert_eq!(files(&place, "archive"), before, "a plan removes nothing");
    let running = rounds(&place);
    running.until_logged("retention.removed");
    let log = running.log();
    let announced = log.lines().find(|line| line.contains("retention.announced")).unwrap();
    assert!(announced.contains("files=3") && announced.contains("kind=archive"), "{announced}");
    assert_eq!(running.stop().code, 0);
    let left = ["young", "changed", "linked", "replaced", "foreign", "old.7", "link"];
    assert_eq!(files(&place, "archive"), names(&left));
    assert_eq!(reason_code(&place, "d/old"), "expired");
    assert_eq!(reason_code(&place, "changed"), "");
    let explained = place.run(&["explain", "in/d/old"]);
    assert!(explained.stdout.contains("removed from the archive by `retention`"), "{explained:?}");
    place.assert_clean();
}

#[test]
fn an_archive_is_cut_to_its_size_from_its_oldest_files_on() {
    let place = archiving("archive_size = \"25\"");
    for (number, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        place.put(name, [b'x'; 10]);
        process(&place, 0);
        age(&place, name, 4 - i64::try_from(number).unwrap());
    }
    let running = rounds(&place);
    running.until_logged("retention.removed");
    assert_eq!(running.stop().code, 0);
    assert_eq!(files(&place, "archive"), names(&["c", "d"]));
}

#[test]
fn an_old_file_leaves_the_quarantine_with_its_reason() {
    let place =
        configured("transforms = \"gunzip\"\non_success = \"delete\"", "quarantine = \"90d\"");
    for name in ["old.gz", "d/old.gz", "young.gz", "changed.gz", "returned.gz"] {
        place.put(name, "damaged");
    }
    process(&place, 65);
    age(&place, "*", 91);
    age(&place, "young.gz", -2);
    std::fs::write(place.quarantine().join("changed.gz"), "another").unwrap();
    std::fs::write(place.quarantine().join("foreign.gz"), "damaged").unwrap();
    std::fs::remove_file(place.quarantine().join("returned.gz")).unwrap();
    let running = rounds(&place);
    running.until_logged("retention.removed");
    assert_eq!(running.stop().code, 0);
    let left = ["young.gz", "young.gz.json", "changed.gz", "changed.gz.json", "foreign.gz"];
    assert_eq!(files(&place, "state/quarantine/main"), names(&left));
    for source in ["old.gz", "d/old.gz", "returned.gz"] {
        assert_eq!(reason_code(&place, source), "expired");
        assert!(place.reason_of(source).contains("gunzip"), "{}", place.reason_of(source));
    }
    assert_eq!(reason_code(&place, "changed.gz"), reason_code(&place, "young.gz"));
}

/// At each step of a removal: after the restart nothing but the expired files is gone.
#[test]
fn a_kill_at_any_step_costs_nothing_but_expired_files() {
    for step in ["retention::marked", "retention::taken", "retention::removed"] {
        for quarantines in [false, true] {
            let place = if quarantines {
                configured(
                    "transforms = \"gunzip\"\non_success = \"delete\"",
                    "quarantine = \"1d\"",
                )
            } else {
                archiving("archive = \"1d\"")
            };
            for name in ["old-1.gz", "old-2.gz", "old-3.gz", "young.gz"] {
                place.put(name, "damaged");
            }
            process(&place, if quarantines { 65 } else { 0 });
            age(&place, "old-*", 2);
            let dir = if quarantines { "state/quarantine/main" } else { "archive" };
            std::fs::write(place.root().join(dir).join("foreign"), "foreign").unwrap();
            let young: &[&str] = if quarantines {
                &["foreign", "young.gz", "young.gz.json"]
            } else {
                &["foreign", "young.gz"]
            };
            for skipped in 0..3 {
                let failpoints = format!("{ROUNDS};{step}={skipped}*off->return(kill)");
                let args = ["run", "--config", "tidemill.toml"];
                let running = Running::start(place.tidemill(&args).env("FAILPOINTS", failpoints));
                // A later kill may not come: fewer files are left then.
                until("it is killed, or has nothing to do", || {
                    has_ended(&running) || files(&place, dir) == names(young)
                });
                let found = files(&place, dir);
                let is_kept = |name: &&str| found.contains(*name);
                assert!(young.iter().all(is_kept), "{step}: {found:?}");
            }
            let running = rounds(&place);
            until("the rest is removed", || files(&place, dir) == names(young));
            assert_eq!(running.stop().code, 0, "{step}");
            place.assert_clean();
        }
    }
}

/// What a private name holds after a kill, and was changed by then, gets its name back.
#[test]
fn a_file_that_was_changed_after_a_kill_gets_its_name_back() {
    let place = archiving("archive = \"1d\"");
    place.put("old", "old");
    process(&place, 0);
    age(&place, "old", 2);
    let args = ["run", "--config", "tidemill.toml"];
    let failpoints = format!("{ROUNDS};retention::taken=return(kill)");
    let running = Running::start(place.tidemill(&args).env("FAILPOINTS", failpoints));
    until("it is killed", || has_ended(&running));
    let [taken] = &place.leftovers()[..] else { panic!("{:?}", place.leftovers()) };
    std::fs::write(taken, "changed").unwrap();
    let running = rounds(&place);
    until("it has its name", || place.root().join("archive/old").exists());
    assert_eq!(running.stop().code, 0);
    assert_eq!(std::fs::read(place.root().join("archive/old")).unwrap(), b"changed");
    place.assert_clean();
}

#[test]
fn old_records_go_and_what_they_are_needed_for_stays() {
    let place = configured("on_success = \"keep\"", "history = \"1y\"");
    for name in ["kept", "output there", "gone", "young", "sub/gone"] {
        place.put(name, name);
    }
    process(&place, 0);
    age(&place, "*", 400);
    age(&place, "young", -50);
    for name in ["output there", "gone", "young", "sub/gone"] {
        std::fs::remove_file(place.input().join(name)).unwrap();
    }
    for name in ["kept", "gone", "young", "sub/gone"] {
        std::fs::remove_file(place.output().join(format!("{name}.zst"))).unwrap();
    }
    place.put("newest", "newest");
    process(&place, 0);
    let running = rounds(&place);
    running.until_logged("retention.history_removed");
    assert_eq!(running.stop().code, 0);
    assert_eq!(place.state_of("gone"), "");
    for stays in ["kept", "output there", "young", "newest"] {
        assert_ne!(place.state_of(stays), "", "{stays}");
    }
    // Its directory is empty, as one whose mount is missing.
    assert_ne!(place.state_of("sub/gone"), "");
    process(&place, 0);
    assert!(!place.output().join("kept.zst").exists(), "it was published again");
}

/// By the record its source differs from another one that comes under the same name.
#[test]
fn an_output_that_is_still_there_is_not_replaced_by_another_sources() {
    let place = configured("on_success = \"delete\"", "history = \"1d\"");
    for name in ["there", "taken"] {
        place.put(name, name);
    }
    process(&place, 0);
    std::fs::remove_file(place.output().join("taken.zst")).unwrap();
    age(&place, "*", 2);
    place.put("newest", "newest");
    process(&place, 0);
    let running = rounds(&place);
    until("the other record goes", || records(&place) == 2);
    assert_eq!(running.stop().code, 0);
    place.put("there", "another");
    place.put("taken", "another");
    process(&place, 0);
    assert_eq!(place.published("there.zst"), b"there");
    assert_eq!(place.published("there.1.zst"), b"another");
    assert_eq!(place.published("taken.zst"), b"another");
}

/// A frequent name does not keep its records indefinitely.
#[test]
fn the_records_of_earlier_versions_go_and_the_newest_one_stays() {
    let place = configured("on_success = \"keep\"", "history = \"1d\"");
    for version in 0..4_u64 {
        let path = place.put("data", format!("version {version}"));
        let time = std::time::SystemTime::now() - Duration::from_secs(100 - version);
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
        process(&place, 0);
    }
    assert_eq!(records(&place), 4);
    age(&place, "data", 2);
    let running = rounds(&place);
    until("one record is left", || records(&place) == 1);
    assert_eq!(running.stop().code, 0);
    assert_eq!(place.state_of("data"), "done");
    process(&place, 0);
    assert_eq!(records(&place), 1, "it was published again");
}

#[test]
fn records_stay_as_long_as_the_archive_has_their_files() {
    let place = archiving("archive = \"30d\"\nhistory = \"1d\"");
    for name in ["a", "b", "last"] {
        place.put(name, name);
    }
    process(&place, 0);
    for name in ["a", "b", "last"] {
        std::fs::remove_file(place.output().join(format!("{name}.zst"))).unwrap();
    }
    age(&place, "[ab]", 2);
    age(&place, "a", 40);
    let running = rounds(&place);
    until("the record goes after its file", || records(&place) == 2);
    assert_eq!(running.stop().code, 0);
    assert_eq!(place.state_of("a"), "");
    assert_eq!(files(&place, "archive"), names(&["b", "last"]));
}

/// The records of an input that is not mounted would publish all of it again.
#[test]
fn an_input_that_is_another_directory_keeps_its_records() {
    let place = configured("on_success = \"keep\"", "history = \"1d\"");
    place.put("a", "a");
    place.put("b", "b");
    process(&place, 0);
    for name in ["a", "b"] {
        std::fs::remove_file(place.output().join(format!("{name}.zst"))).unwrap();
    }
    age(&place, "*", 2);
    let aside = place.root().join("aside");
    let running = place.watch_with(&["--sandbox", "off"], ROUNDS);
    std::fs::rename(place.input(), &aside).unwrap();
    std::fs::create_dir(place.input()).unwrap();
    running.until_logged("retention.skipped");
    assert_eq!(running.stop().code, 0);
    assert_eq!(records(&place), 2);
    assert!(Path::new(&aside).join("a").exists());
}

#[test]
fn a_kill_during_the_removal_of_records_keeps_the_ledger_whole() {
    let place = configured("on_success = \"delete\"", "history = \"1d\"");
    for number in 0..20 {
        place.put(format!("{number}"), "content");
    }
    process(&place, 0);
    for number in 0..20 {
        std::fs::remove_file(place.output().join(format!("{number}.zst"))).unwrap();
    }
    place.put("last", "last");
    process(&place, 0);
    age(&place, "[0-9]*", 2);
    let args = ["run", "--config", "tidemill.toml"];
    let failpoints = format!("{ROUNDS};retention::history=return(kill)");
    let running = Running::start(place.tidemill(&args).env("FAILPOINTS", failpoints));
    until("it is killed", || has_ended(&running));
    process(&place, 0);
    let running = rounds(&place);
    until("one record is left", || records(&place) == 1);
    assert_eq!(running.stop().code, 0);
    place.put("next", "next");
    process(&place, 0);
    assert_eq!(place.history("next")[0]["id"], 22, "no number is given again");
}

#[test]
fn a_copy_on_another_file_system_is_compared_before_it_goes() {
    let place = TestDir::new();
    let device = |path: &Path| std::fs::metadata(path).unwrap().dev();
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
        return crate::prove::skipped("an archive on another file system", "there is no /dev/shm");
    };
    if device(other.path()) == device(&place.root()) {
        return crate::prove::skipped("an archive on another file system", "it is the same one");
    }
    let on_success = format!("on_success = \"archive:{}\"", other.path().display());
    place.configure(&format!("{on_success}\n[retention]\narchive = \"1d\""));
    for name in ["old", "changed"] {
        place.put(name, name);
    }
    process(&place, 0);
    age(&place, "*", 2);
    // The size and the time stay.
    let changed = other.path().join("changed");
    let time = std::fs::metadata(&changed).unwrap().modified().unwrap();
    std::fs::write(&changed, "CHANGED").unwrap();
    std::fs::File::options().append(true).open(&changed).unwrap().set_modified(time).unwrap();
    let running = rounds(&place);
    running.until_logged("retention.removed");
    assert_eq!(running.stop().code, 0);
    assert_eq!(tree(other.path()), [changed]);
    assert_eq!(reason_code(&place, "old"), "expired");
    assert_eq!(reason_code(&place, "changed"), "");
}

/// A removal that hangs holds up no stop, and nothing more is removed after it.
#[test]
fn a_stop_waits_for_no_round() {
    let place = archiving("archive = \"1d\"");
    for name in ["a", "b", "c"] {
        place.put(name, name);
    }
    process(&place, 0);
    age(&place, "*", 2);
    let gate = place.root().join("gate");
    std::fs::write(&gate, "").unwrap();
    let stalls = format!("{ROUNDS};retention::removed=return(while:{})", gate.display());
    let running = place.watch_with(&[], &stalls);
    until("the first one is removed", || files(&place, "archive").len() == 2);
    let began = std::time::Instant::now();
    assert_eq!(running.stop().code, 0);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(files(&place, "archive").len(), 2);
}

/// The other files go all the same.
#[test]
fn a_file_that_cannot_be_removed_holds_up_no_other() {
    let place = archiving("archive = \"1d\"");
    for name in ["a", "b"] {
        place.put(name, name);
        process(&place, 0);
    }
    age(&place, "*", 2);
    let running = place.watch_with(&[], &format!("{ROUNDS};retention::taken=1*return(ebusy)->off"));
    running.until_logged("retention.failed");
    until("both are removed", || files(&place, "archive").is_empty());
    let log = running.log();
    let first = log.lines().find(|line| line.contains("retention.removed")).unwrap();
    assert!(first.contains("files=1") && first.contains("failed=1"), "{first}");
    assert_eq!(running.stop().code, 0);
    place.assert_clean();
}
