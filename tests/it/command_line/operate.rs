//! `status`, `ps` and what finds a service: what they show, and which service they find.

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
};

use crate::{
    files::{Running, TestDir, until},
    prove,
};

/// A user without rights, where the tests run as root.
const NOBODY: u32 = 65_534;

#[test]
fn a_status_has_the_page_the_pause_and_the_failures() {
    let place = TestDir::new();
    place.configure("transforms = \"gunzip\"");
    place.put("bad.gz", "no gzip at all");
    let running = place.watch(&["--http", "127.0.0.1:0"]);
    until("it failed", || place.run(&["status"]).stdout.contains("1 in quarantine"));
    let status = place.run(&["status"]).stdout;
    assert!(status.contains(": READY, up for "), "{status}");
    assert!(status.contains("\npage: http://127.0.0.1:"), "{status}");
    assert!(status.contains("recent failures:\n"), "{status}");
    let failure = status.lines().last().unwrap();
    assert!(failure.contains("quarantined bad.gz: `gunzip`: "), "{status}");
    assert_eq!(place.run(&["pause"]).code, 0);
    let status = place.run(&["status"]).stdout;
    assert!(status.contains(": PAUSED by the operator since 20"), "{status}");
    assert!(status.contains("  PAUSED by the operator since 20"), "{status}");
    let unknown = place.run(&["resume", "other"]);
    assert_eq!(unknown.code, 64, "{unknown:?}");
    assert!(unknown.stderr.contains("no pipeline `other`; pipelines: main"), "{unknown:?}");
    assert_eq!(running.stop().code, 0);
}

#[test]
fn ps_lists_a_running_service_and_no_other() {
    let place = TestDir::new();
    let running = place.watch(&["--http", "127.0.0.1:0"]);
    let (pid, dir) = (running.pid().to_string(), place.state().display().to_string());
    let listed = |state: &str| {
        let listed = place.run(&["ps"]);
        assert_eq!(listed.code, 0, "{listed:?}");
        listed.stdout.lines().any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.first() == Some(&pid.as_str())
                && words.get(1) == Some(&state)
                && words.contains(&"main")
                && words.contains(&dir.as_str())
                && words.last().is_some_and(|page| page.starts_with("http://127.0.0.1:"))
        })
    };
    until("it is listed", || listed("READY"));
    assert_eq!(place.run(&["pause"]).code, 0);
    assert!(listed("PAUSED"));
    assert_eq!(running.stop().code, 0);
    let after = place.run(&["ps"]);
    assert!(after.code == 0 && !after.stdout.contains(&dir), "{after:?}");
}

#[test]
fn of_several_state_directories_the_running_one_is_chosen() {
    let place = TestDir::new();
    let config = place.root().join("tidemill.toml");
    std::fs::remove_file(config).unwrap();
    for output in ["out", "out2"] {
        assert_eq!(place.run(&["run", "in", output, "--once"]).code, 0);
    }
    let both = place.run(&["history"]);
    assert_eq!(both.code, 78, "{both:?}");
    assert!(both.stderr.contains("/out/.tidemill\n"), "{both:?}");
    assert!(both.stderr.contains("/out2/.tidemill\n"), "{both:?}");
    let running = Running::start(&mut place.tidemill(&["run", "in", "out2", "--http", "off"]));
    running.until_logged("event=pipeline.ready");
    let status = place.run(&["status"]);
    assert_eq!(status.code, 0, "{status:?}");
    assert!(status.stdout.contains("/out2 ("), "{status:?}");
    assert_eq!(running.stop().code, 0);
}

#[test]
fn a_state_directory_of_another_user_is_a_denied_permission() {
    let place = TestDir::new();
    assert_eq!(place.once(&[]).code, 0);
    std::fs::set_permissions(place.root(), PermissionsExt::from_mode(0o755)).unwrap();
    let closed =
        PermissionsExt::from_mode(if rustix::process::getuid().is_root() { 0o700 } else { 0 });
    std::fs::set_permissions(place.state(), closed).unwrap();
    for command in ["history", "status"] {
        let mut denied = place.tidemill(&[command, "--state-dir", "state"]);
        if rustix::process::getuid().is_root() {
            denied.uid(NOBODY);
        }
        let ended = Running::start(&mut denied).end();
        assert_eq!(ended.code, 78, "{ended:?}");
        let wanted = "permission denied: run as root or as the service's user";
        assert!(ended.stderr.contains(wanted), "{ended:?}");
        assert!(!ended.stderr.contains("no ledger"), "{ended:?}");
    }
    std::fs::set_permissions(place.state(), PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn a_directory_of_another_user_is_an_error_that_names_both_and_the_way_out() {
    let place = TestDir::new();
    let is_root = rustix::process::getuid().is_root();
    let owner = if is_root { 0 } else { rustix::process::getuid().as_raw() };
    std::fs::set_permissions(place.root(), PermissionsExt::from_mode(0o755)).unwrap();
    let mode = if is_root { 0o755 } else { 0o555 };
    std::fs::set_permissions(place.output(), PermissionsExt::from_mode(mode)).unwrap();
    let run = |args: &[&str]| {
        let mut command = place.tidemill(args);
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        Running::start(&mut command).end()
    };
    let denied =
        format!(" may not write in {}, which belongs to user {owner}", place.output().display());
    for args in [["run", "in", "out", "--once"].as_slice(), &["check", "in", "out"]] {
        let ended = run(args);
        assert_eq!(ended.code, 78, "{ended:?}");
        assert!(ended.stderr.contains(&denied), "{ended:?}");
        assert!(ended.stderr.contains("or set `--state-dir`"), "{ended:?}");
    }
    let noted = run(&["check", "--syntax", "in", "out"]);
    assert_eq!(noted.code, 0, "{noted:?}");
    assert!(
        noted.stderr.contains(&format!("note: the output {}: ", place.output().display())),
        "{noted:?}"
    );
    std::fs::set_permissions(place.output(), PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(run(&["check", "in", "out"]).code, 0);
    // A state directory of another user.
    let state = place.output().join(".tidemill");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, PermissionsExt::from_mode(mode)).unwrap();
    let refused = run(&["run", "in", "out", "--once"]);
    assert_eq!(refused.code, 78, "{refused:?}");
    let denied = format!(" may not write in {}, which belongs to user {owner}", state.display());
    assert!(refused.stderr.contains(&denied), "{refused:?}");
}

#[test]
fn the_installed_configuration_is_found_where_nothing_is_near() {
    let place = TestDir::new();
    assert_eq!(place.once(&[]).code, 0);
    let config = place.root().join("tidemill.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let absolute = text.replace("\"state\"", &format!("{:?}", place.state()));
    std::fs::write(&config, absolute.replace("\"in\"", &format!("{:?}", place.input()))).unwrap();
    // A mount namespace has an /etc of its own.
    let script = format!(
        "mount -t tmpfs none /etc && mkdir /etc/tidemill && cp {} /etc/tidemill/ && cd / && exec {} history --json",
        config.display(),
        env!("CARGO_BIN_EXE_tidemill")
    );
    place.put("a", "content");
    assert_eq!(place.once(&[]).code, 0);
    if !rustix::process::getuid().is_root() {
        return prove::skipped("the installed configuration", "only root has mounts of its own");
    }
    let ran = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && printed.contains("\"source\":\"a\""), "{ran:?}");
}
