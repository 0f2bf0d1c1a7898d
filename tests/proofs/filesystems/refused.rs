//! A file system that cannot do what is needed is an error at the start, with code 78, and no file is
//! to blame.

use crate::{
    files::{Running, TestDir, tree},
    filesystems::{NEITHER, NO_REPLACE},
    mounts::Mount,
};

/// `--once` with failpoints.
fn once_with(place: &TestDir, failpoints: &str, args: &[&str]) -> crate::files::Ended {
    let args = [&["run", "--config", "tidemill.toml", "--once"], args].concat();
    Running::start(place.tidemill(&args).env("FAILPOINTS", failpoints)).end()
}

#[test]
fn an_output_with_neither_the_flag_nor_links_is_refused_at_the_start() {
    let place = TestDir::new();
    place.put("file", "content");
    let ended = once_with(&place, NEITHER, &["--on-success", "delete"]);
    assert_eq!(ended.code, 78, "{ended:?}");
    let output = place.output();
    let wanted = format!("cannot publish in {}: its file system can neither", output.display());
    assert!(ended.stderr.contains(&wanted), "{ended:?}");
    assert_eq!(std::fs::read(place.input().join("file")).unwrap(), b"content");
    assert_eq!(tree(&output), Vec::<std::path::PathBuf>::new());
    assert!(place.history("file").is_empty(), "nothing is held against the file");
    place.assert_clean();
}

#[test]
fn a_read_only_input_is_refused_where_sources_are_to_be_removed_and_taken_where_they_stay() {
    let place = TestDir::new();
    place.put("file", "content");
    let Some(_mount) = Mount::read_only(&place.input(), &place.input()) else { return };
    let ended = place.once(&["--on-success", "delete"]);
    assert_eq!(ended.code, 78, "{ended:?}");
    let wanted = format!("cannot remove sources from {}", place.input().display());
    assert!(ended.stderr.contains(&wanted) && ended.stderr.contains("keep"), "{ended:?}");
    assert!(place.history("file").is_empty());
    let ended = place.once(&["--on-success", "keep"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("file.zst"), b"content");
    place.assert_clean();
}

#[test]
fn check_probe_reports_what_each_directory_can_do() {
    let place = TestDir::new();
    let check = |failpoints: &str| {
        let args = ["check", "--config", "tidemill.toml", "--on-success", "delete", "--probe"];
        Running::start(place.tidemill(&args).env("FAILPOINTS", failpoints)).end()
    };
    let ended = check("");
    assert_eq!(ended.code, 0, "{ended:?}");
    for role in ["input", "output"] {
        let dir = if role == "input" { place.input() } else { place.output() };
        let line = format!("main {role} {}: renames at once, syncs directories", dir.display());
        assert!(ended.stdout.contains(&line), "{ended:?}");
    }
    let ended = check(NO_REPLACE);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("renames by hard link"), "{ended:?}");
    let ended = check(NEITHER);
    assert_eq!(ended.code, 78, "{ended:?}");
    assert!(ended.stdout.contains("error: cannot publish in"), "{ended:?}");
    place.assert_clean();
}

/// By default it is in the output, which may be a mount.
#[test]
fn a_state_directory_on_a_network_file_system_is_refused_with_the_key_to_set() {
    let place = TestDir::new();
    let file = place.put("file", "content");
    for args in [&["run", "--once"][..], &["check"]] {
        let args = [args, &["--config", "tidemill.toml"]].concat();
        let mut command = place.tidemill(&args);
        let ended =
            Running::start(command.env("FAILPOINTS", "gate::local_state=return(out)")).end();
        assert_eq!(ended.code, 78, "{ended:?}");
        for words in ["state directory", "network file system", "`state_dir`"] {
            assert!(ended.stderr.contains(words), "{ended:?}");
        }
    }
    assert!(file.exists());
    assert!(!place.state().join("ledger.sqlite").exists());
}

#[test]
fn a_state_directory_on_a_local_fuse_mount_is_taken() {
    let place = TestDir::new();
    place.put("file", "content");
    let (real, mounted) = (place.root().join("real"), place.state());
    std::fs::create_dir(&real).unwrap();
    std::fs::create_dir(&mounted).unwrap();
    let Some(_mount) = Mount::bindfs(&real, &mounted) else { return };
    let ended = place.once(&[]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("file.zst"), b"content");
    assert!(real.join("ledger.sqlite").exists());
}
