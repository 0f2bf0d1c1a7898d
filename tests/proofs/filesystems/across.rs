//! Archive and quarantine on another file system than the input.

use std::{
    fs::Permissions,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use crate::{
    files::{Running, TestDir, tree},
    harness::{LINKS, Tree},
    mounts::Mount,
};

const KILLED: i32 = -9;

fn mounted(at: &Path) -> Option<Mount> {
    std::fs::create_dir_all(at).unwrap();
    Mount::memory(at, "64m")
}

#[test]
fn a_source_is_archived_on_another_file_system_with_its_owner_mode_and_times() {
    let place = TestDir::new();
    let archive = place.root().join("archive");
    let Some(_mount) = mounted(&archive) else { return };
    let source = place.put("sub/file", "content");
    let time = UNIX_EPOCH + Duration::new(1_000_000_000, 5_000_000);
    std::fs::File::options().write(true).open(&source).unwrap().set_modified(time).unwrap();
    std::fs::set_permissions(&source, Permissions::from_mode(0o640)).unwrap();
    chown(&source, Some(7), Some(8)).unwrap();
    let ended = place.once(&["--on-success", "archive:archive"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let archived = archive.join("sub/file");
    assert_eq!(std::fs::read(&archived).unwrap(), b"content");
    let found = archived.metadata().unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (7, 8, 0o640));
    assert_eq!(found.modified().unwrap(), time);
    assert_eq!(tree(&place.input()), Vec::<PathBuf>::new());
    place.assert_clean();
}

#[test]
fn an_archive_on_another_file_system_replaces_nothing() {
    let place = TestDir::new();
    let archive = place.root().join("archive");
    let Some(_mount) = mounted(&archive) else { return };
    std::fs::write(archive.join("file"), "theirs").unwrap();
    place.put("file", "content");
    let ended = place.once(&["--on-success", "archive:archive"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(std::fs::read(archive.join("file")).unwrap(), b"theirs");
    assert_eq!(std::fs::read(archive.join("file.1")).unwrap(), b"content");
    place.assert_clean();
}

#[test]
fn a_failed_file_goes_to_a_quarantine_on_another_file_system() {
    let place = TestDir::new();
    let Some(_mount) = mounted(&place.root().join("aside")) else { return };
    place.configure(
        "transforms = \"unzstd\"\non_success = \"delete\"\nquarantine = \"aside/files\"",
    );
    place.put("damaged.zst", "no zstd");
    let ended = place.once(&[]);
    assert_eq!(ended.code, 65, "{ended:?}");
    assert_eq!(tree(&place.input()), Vec::<PathBuf>::new());
    let aside = place.root().join("aside/files");
    assert_eq!(std::fs::read(aside.join("damaged.zst")).unwrap(), b"no zstd");
    assert!(aside.join("damaged.zst.json").exists());
    let ended = place.run(&["requeue", "--all", "--state-dir", "state"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(std::fs::read(place.input().join("damaged.zst")).unwrap(), b"no zstd");
    assert_eq!(tree(&aside), Vec::<PathBuf>::new());
    place.assert_clean();
}

#[test]
fn a_kill_at_any_step_of_a_move_to_another_file_system_leaves_one_file_after_the_next_start() {
    for name in ["dispose::taken", "move::chunk", "move::copied", "move::named", "dispose::unlink"]
    {
        for passes_before in [0, 7, 25] {
            let tree = Tree::with(30, 2);
            let Some(_mount) = mounted(&tree.path("archive")) else { return };
            let failpoints = format!("{name}={passes_before}*off->return(kill)");
            let code = tree.start_with(&failpoints, "archive", &["--once"]).wait();
            assert_eq!(code, KILLED, "{name}\n{}", tree.log());
            assert_eq!(tree.once("archive"), 0, "{name}\n{}", tree.log());
            tree.assert_done("archive");
        }
    }
}

/// Kills the service after it named a copy, then restores the source's name, as a power loss does that
/// undoes what the input's disk had not written yet.
fn killed_after_the_copy(place: &TestDir) {
    let mut command = place.tidemill(&["run", "--config", "tidemill.toml", "--once"]);
    command.env("FAILPOINTS", "move::named=return(kill)");
    assert_eq!(command.output().unwrap().status.code(), None);
    let private = tree(&place.input());
    let [private] = &private[..] else { panic!("{private:?}") };
    assert!(private.to_string_lossy().ends_with(".del"), "{}", private.display());
    std::fs::rename(private, place.input().join("file")).unwrap();
}

#[test]
fn a_source_that_a_power_loss_brings_back_after_its_copy_is_archived_once() {
    let place = TestDir::new();
    let archive = place.root().join("archive");
    let Some(_mount) = mounted(&archive) else { return };
    place.configure("on_success = \"archive:archive\"");
    place.put("file", "content");
    std::fs::write(archive.join("file"), "theirs").unwrap();
    killed_after_the_copy(&place);
    let ended = place.once(&[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(tree(&archive), ["file", "file.1"].map(|name| archive.join(name)));
    assert_eq!(tree(&place.input()), Vec::<PathBuf>::new());
    place.assert_clean();
}

/// Where files get their names by links, too: a link to another file system meets the copy first.
#[test]
fn a_failed_source_that_a_power_loss_brings_back_after_its_copy_is_quarantined_once() {
    for failpoints in ["", LINKS] {
        let place = TestDir::new();
        let aside = place.root().join("aside");
        let Some(_mount) = mounted(&aside) else { return };
        place.configure(
            "transforms = \"unzstd\"\non_success = \"delete\"\nquarantine = \"aside/files\"",
        );
        place.put("file", "no zstd");
        killed_after_the_copy(&place);
        let mut command = place.tidemill(&["run", "--config", "tidemill.toml", "--once"]);
        let ended = Running::start(command.env("FAILPOINTS", failpoints)).end();
        assert_eq!(ended.code, 65, "{ended:?}");
        let aside = aside.join("files");
        assert_eq!(tree(&aside), ["file", "file.json"].map(|name| aside.join(name)));
        assert_eq!(tree(&place.input()), Vec::<PathBuf>::new());
        let ended = place.run(&["requeue", "--all", "--state-dir", "state"]);
        assert_eq!((ended.code, ended.stdout.lines().count()), (0, 1), "{ended:?}");
        place.assert_clean();
    }
}

/// Archives a file, then the same content under the same name in a service with these failpoints; returns the
/// archive.
fn archived_again(place: &TestDir, failpoints: &str) -> Option<(Mount, PathBuf)> {
    let archive = place.root().join("archive");
    let mount = mounted(&archive)?;
    place.configure("on_success = \"archive:archive\"");
    place.put("file", "same");
    assert_eq!(place.once(&[]).code, 0);
    place.put("file", "same");
    let args = ["run", "--config", "tidemill.toml", "--once"];
    place.tidemill(&args).env("FAILPOINTS", failpoints).output().unwrap();
    Some((mount, archive))
}

/// An earlier file of the same name and content is another one.
#[test]
fn the_same_content_whose_move_a_kill_interrupted_is_archived_too() {
    let place = TestDir::new();
    let Some((_mount, archive)) = archived_again(&place, "commit::marked=return(kill)") else {
        return;
    };
    assert_eq!(place.once(&[]).code, 0);
    assert_eq!(tree(&archive), ["file", "file.1"].map(|name| archive.join(name)));
    assert_eq!(tree(&place.input()), Vec::<PathBuf>::new());
}

#[test]
fn a_move_that_fails_again_and_again_removes_no_earlier_file() {
    let place = TestDir::new();
    let failpoints = "dispose::unlink=2*return(eio)->off";
    let Some((_mount, archive)) = archived_again(&place, failpoints) else { return };
    assert_eq!(tree(&archive), [archive.join("file")]);
    assert_eq!(tree(&place.input()), [place.input().join("file")]);
}

/// It paused, and the next try took the record for the whole of it.
#[test]
fn a_kept_file_is_quarantined_and_reported_though_its_reason_file_has_no_space() {
    let place = TestDir::new();
    let aside = place.root().join("aside");
    let Some(_mount) = mounted(&aside) else { return };
    place.configure("transforms = \"unzstd\"\nquarantine = \"aside\"");
    let running = place.watch(&["--events", "events"]);
    let space = rustix::fs::statvfs(&aside).unwrap();
    let bytes = usize::try_from(space.f_bfree * space.f_frsize).unwrap();
    std::fs::write(aside.join("ballast"), vec![1; bytes]).unwrap();
    place.put("file", "no zstd");
    let events = place.root().join("events");
    crate::files::until("the line", || {
        std::fs::read_to_string(&events).is_ok_and(|events| events.contains("quarantined"))
    });
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.state_of("file"), "quarantined");
    assert!(ended.stderr.contains("event=file.reason_not_written"), "{ended:?}");
}

#[test]
fn a_full_archive_pauses_and_loses_nothing() {
    let place = TestDir::new();
    let archive = place.root().join("archive");
    let Some(_mount) = mounted(&archive) else { return };
    let space = rustix::fs::statvfs(&archive).unwrap();
    let bytes = usize::try_from(space.f_bavail * space.f_frsize).unwrap();
    std::fs::write(archive.join("ballast"), vec![1; bytes]).unwrap();
    place.put("file", vec![b'x'; 100_000]);
    let running: Running = place.watch(&["--on-success", "archive:archive"]);
    running.until_logged("storage unavailable, intake paused");
    assert!(place.input().join("file").exists());
    std::fs::remove_file(archive.join("ballast")).unwrap();
    crate::files::until("the archived file", || archive.join("file").exists());
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(tree(&place.input()), Vec::<PathBuf>::new());
    place.assert_clean();
}
