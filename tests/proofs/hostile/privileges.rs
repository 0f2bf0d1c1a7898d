//! What is left of root.

use std::{
    io::Write,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use crate::{
    files::{Running, TestDir, tree, until},
    hostile::{
        NOBODY, is_root,
        process::{field, threads},
    },
    prove,
};

/// `CAP_CHOWN`, `CAP_DAC_OVERRIDE`, `CAP_FOWNER`, `CAP_LEASE`: what files of other users need.
const KEPT: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 28;
const NET_BIND_SERVICE: u64 = 1 << 10;

#[test]
fn root_keeps_in_every_thread_only_what_files_of_other_users_need_and_says_so_once() {
    let name = "root_keeps_in_every_thread_only_what_files_of_other_users_need_and_says_so_once";
    if !is_root() {
        return prove::skipped(name, "this is not root");
    }
    for (args, kept) in [
        (["--http", "off"], KEPT),
        (["--http", "127.0.0.1:0"], KEPT),
        // A port that only root may listen at; most likely nobody has it.
        (["--http", "127.0.0.1:1001"], KEPT | NET_BIND_SERVICE),
    ] {
        let place = TestDir::new();
        let running = place.watch(&args);
        let all = threads(running.pid());
        assert!(all.len() > 10, "{}", all.len());
        let held = |status: &str, set: &str| u64::from_str_radix(field(status, set), 16).unwrap();
        // In a container there may be less to begin with.
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        for status in &all {
            for set in ["CapEff", "CapPrm", "CapBnd"] {
                assert_eq!(held(status, set), kept & held(&own, set), "{set}\n{status}");
            }
            for set in ["CapInh", "CapAmb"] {
                assert_eq!(held(status, set), 0, "{set}\n{status}");
            }
            assert_eq!(field(status, "NoNewPrivs"), "1", "{status}");
        }
        let ended = running.stop();
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(ended.stderr.matches("running as root").count(), 1, "{ended:?}");
    }
}

#[test]
fn a_state_directory_that_was_swapped_for_a_link_is_refused_and_nothing_is_made_through_it() {
    let place = TestDir::new();
    let elsewhere = place.root().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("config.toml"), "mine").unwrap();
    // The owner of the output can do this; by default the state is there.
    std::os::unix::fs::symlink(&elsewhere, place.output().join(".tidemill")).unwrap();
    let refused = place.run(&["run", "in", "out", "--once"]);
    assert_eq!(refused.code, 78, "{refused:?}");
    assert!(refused.stderr.contains("it is a symbolic link"), "{refused:?}");
    assert_eq!(tree(&elsewhere), [elsewhere.join("config.toml")]);
    assert_eq!(std::fs::read(elsewhere.join("config.toml")).unwrap(), b"mine");
}

#[test]
fn a_state_directory_of_another_user_is_reported_where_the_service_is_root() {
    let name = "a_state_directory_of_another_user_is_reported_where_the_service_is_root";
    if !is_root() {
        return prove::skipped(name, "this is not root");
    }
    let warning = "running as root with another user's state directory";
    let place = TestDir::new();
    let own = place.once(&[]);
    assert!(!own.stderr.contains(warning), "{own:?}");
    std::os::unix::fs::chown(place.state(), Some(NOBODY), None).unwrap();
    let theirs = place.once(&[]);
    assert_eq!(theirs.code, 0, "{theirs:?}");
    assert_eq!(theirs.stderr.matches(warning).count(), 1, "{theirs:?}");
}

#[test]
fn a_link_in_the_place_of_the_resolved_configuration_is_replaced_and_not_followed() {
    let place = TestDir::new();
    std::fs::create_dir(place.state()).unwrap();
    let victim = place.root().join("victim");
    std::fs::write(&victim, "mine").unwrap();
    for name in ["config.toml", "config.toml.new"] {
        std::os::unix::fs::symlink(&victim, place.state().join(name)).unwrap();
    }
    let ended = place.once(&["--sandbox", "off"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(std::fs::read(victim).unwrap(), b"mine");
    let resolved = std::fs::symlink_metadata(place.state().join("config.toml")).unwrap();
    assert!(resolved.is_file());
    assert!(!place.state().join("config.toml.new").exists());
}

/// The kernel answers only a file's owner, or `CAP_LEASE`, whether a process writes it.
#[test]
fn a_stalled_upload_of_another_user_is_not_taken_while_it_is_open() {
    let name = "a_stalled_upload_of_another_user_is_not_taken_while_it_is_open";
    if !is_root() {
        return prove::skipped(name, "this is not root");
    }
    for on_success in ["keep", "delete"] {
        let place = TestDir::new();
        std::fs::create_dir(place.state()).unwrap();
        for dir in [place.input(), place.output(), place.state()] {
            std::os::unix::fs::chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        std::fs::set_permissions(place.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut upload = std::fs::File::create(place.input().join("stalled")).unwrap();
        upload.write_all(b"the first half").unwrap();
        // Another user may not run the binary where it is.
        let binary = place.root().join("tidemill");
        std::fs::copy(env!("CARGO_BIN_EXE_tidemill"), &binary).unwrap();
        let mut command = Command::new(binary);
        command.current_dir(place.root()).uid(NOBODY).gid(NOBODY);
        command.args(["run", "--config", "tidemill.toml", "--on-success", on_success]);
        let own = place.put("own", "of the service's user");
        std::os::unix::fs::chown(own, Some(NOBODY), Some(NOBODY)).unwrap();
        let running = Running::start(&mut command);
        let is_published = |name: &str| place.output().join(format!("{name}.zst")).exists();
        // From then on the input is watched.
        until("a file of its own", || is_published("own"));
        let moved = place.root().join("moved");
        std::fs::write(&moved, "moved in").unwrap();
        // Its own time lies in the future, as some cameras and archives set it.
        let future = SystemTime::now() + Duration::from_hours(1);
        std::fs::File::options().append(true).open(&moved).unwrap().set_modified(future).unwrap();
        move_in(&place, &moved);
        until("the file that was moved in", || is_published("moved"));
        place.put("closed", "closed");
        until("the file that was closed", || is_published("closed"));
        assert!(!is_published("stalled"), "{on_success}\n{}", running.log());
        upload.write_all(b" and the second half").unwrap();
        drop(upload);
        until("the upload", || is_published("stalled"));
        assert_eq!(place.published("stalled.zst"), b"the first half and the second half");
        let left = if on_success == "keep" { 4 } else { 0 };
        until("all are disposed of", || tree(&place.input()).len() == left);
        let ended = running.stop();
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(ended.stderr.matches("event=intake.writers_unknown").count(), 1, "{ended:?}");
    }
}

#[expect(clippy::disallowed_methods, reason = "the producer renames it")]
fn move_in(place: &TestDir, path: &Path) {
    std::fs::rename(path, place.input().join(path.file_name().unwrap())).unwrap();
}
