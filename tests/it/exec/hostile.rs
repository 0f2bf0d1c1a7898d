//! Programs that do what they must not.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
};

use super::{MOMENT, Setting};
use crate::{harness::Service, prove};

/// A script, keys of its table, and the reason for which its file is quarantined: the code and a part of the
/// text.
const CASES: [(&str, &str, &str, &str); 13] = [
    ("echo it is wrong >&2; exit 1", "", "program_failed", "exit code 1: it is wrong"),
    ("echo no >&2; exit 65", "", "program_rejected", "exit code 65: no"),
    ("exit 3", "reject_codes = [3]", "program_rejected", "exit code 3"),
    ("kill -SEGV $$", "", "program_failed", "killed by signal 11"),
    ("sleep 1000", "timeout = \"300ms\"", "program_failed", "ran for more than 300ms"),
    ("sleep 1000 & cat > /dev/null; wait", "timeout = \"300ms\"", "program_failed", "ran for more"),
    ("cat > /dev/null", "", "program_failed", "no output"),
    ("cat; exit 1", "", "program_failed", "exit code 1"),
    ("exec yes", "", "output_limit", "max_output"),
    ("yes > \"$HOME/large\"", "", "program_failed", "File size limit exceeded"),
    ("while :; do sleep 1000 & done", "processes = 20", "program_failed", "of 20 allowed"),
    ("x=$(yes | head -c 200000000); sleep 1000", "memory = \"64MiB\"", "program_failed", ""),
    ("while :; do setsid sleep 1000 & done", "processes = 20", "program_failed", "of 20 allowed"),
];

#[test]
fn each_gets_its_verdict_and_leaves_nothing() {
    for (script, keys, code, text) in CASES {
        let mut setting = Setting::shell(script, keys);
        let file = setting.tree.path("t.toml");
        let config = std::fs::read_to_string(&file).expect("read");
        std::fs::write(&file, format!("{config}max_output = \"32MiB\"\n")).expect("write");
        setting.tree.put("a", b"content\n");
        assert_eq!(setting.once(), 65, "{script}\n{}", setting.tree.log());
        let (found, reason) = setting.reason("a");
        assert_eq!(found, code, "{script}: {reason}");
        assert!(reason.contains(text), "{script}: {reason}");
        assert!(setting.tree.files("out").is_empty(), "{script}");
        setting.assert_nothing_left();
    }
}

/// What a program tries, each in the sandbox: the shell's message says that it may not.
#[test]
fn a_program_reaches_nothing_that_it_was_not_given() {
    let outside = tempfile::tempdir().expect("directory");
    std::fs::write(outside.path().join("file"), "secret").expect("write");
    let dir = outside.path().display();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("address").port();
    for script in [
        "cat /etc/shadow".to_owned(),
        format!("cat {dir}/file"),
        format!("echo x > {dir}/new"),
        format!("rm {dir}/file"),
        "cat \"$PWD/../../../ledger.sqlite\"".to_owned(),
        format!("exec 3<>/dev/tcp/127.0.0.1/{port}"),
        "kill -KILL $(cat /proc/$PPID/stat | cut -d ' ' -f 4)".to_owned(),
        "chown 1:1 \"$HOME\"".to_owned(),
    ] {
        let command =
            format!("command = [\"/bin/bash\", \"-c\", {:?}]", format!("{script} && cat"));
        let mut setting = Setting::new("exec:p", &[("p", &command)], "attempts = 1");
        setting.tree.put("a", b"content\n");
        assert_eq!(setting.once(), 65, "{script}\n{}", setting.tree.log());
        let (code, reason) = setting.reason("a");
        assert_eq!(code, "program_failed", "{script}: {reason}");
        let is_denied = ["ermission denied", "not permitted"].iter().any(|no| reason.contains(no));
        assert!(is_denied, "{script}: {reason}");
        setting.assert_nothing_left();
    }
    assert_eq!(std::fs::read_dir(outside.path()).expect("list").count(), 1);
}

/// The service's environment may have secrets.
#[test]
fn a_program_has_its_own_environment() {
    let mut setting = Setting::shell("env | cut -d = -f 1 | sort", "");
    setting.tree.put("a", b"content\n");
    let mut command = setting.tree.configured("t.toml");
    command.arg("--once").env("SECRET", "x").env("LANG", "C.UTF-8");
    assert!(command.status().expect("run").success(), "{}", setting.tree.log());
    let names = String::from_utf8(setting.output("a")).expect("text");
    let expected =
        ["HOME", "LANG", "MARK", "PATH", "PWD", "TIDEMILL_NAME", "TIDEMILL_SOURCE", "TMPDIR"];
    let names: Vec<_> = names.lines().filter(|name| *name != "_" && *name != "SHLVL").collect();
    assert_eq!(names, expected);
}

/// A child that outlives its parent, in a session of its own, holds the output open.
#[test]
fn what_stays_behind_is_killed_before_the_output_counts() {
    let mut setting = Setting::shell("setsid sleep 1000 & cat", "");
    setting.tree.put("a", b"content\n");
    assert_eq!(setting.once(), 0, "{}", setting.tree.log());
    assert_eq!(setting.output("a"), b"content\n");
    setting.assert_nothing_left();
}

/// It reads less than there is, and that is its right.
#[test]
fn a_program_may_end_before_its_input_does() {
    let mut setting = Setting::shell("head -n 1", "");
    setting.tree.put("a", "a line\n".repeat(1_000_000).as_bytes());
    assert_eq!(setting.once(), 0, "{}", setting.tree.log());
    assert_eq!(setting.output("a"), b"a line\n");
}

/// It writes before it reads, more than a pipe holds.
#[test]
fn a_program_that_writes_first_does_not_block() {
    let script = "head -c 10000000 /dev/zero; cat";
    let mut setting = Setting::shell(script, "");
    setting.tree.put("a", "a line\n".repeat(1_000_000).as_bytes());
    assert_eq!(setting.once(), 0, "{}", setting.tree.log());
    assert_eq!(setting.output("a").len(), 17_000_000);
}

/// A program that is removed while the service runs: the files wait.
#[test]
#[expect(clippy::disallowed_methods, reason = "the test is the operator who moves a program")]
fn a_missing_program_pauses_the_pipeline() {
    let tools = tempfile::tempdir().expect("directory");
    let program = tools.path().join("cat");
    std::fs::copy("/bin/cat", &program).expect("copy");
    let command = format!("command = [{program:?}]");
    let mut setting = Setting::new("exec:p", &[("p", &command)], "attempts = 1");
    let service = setting.start();
    crate::harness::until("it is ready", || setting.tree.log().contains("phase=READY"));
    let away = tools.path().join("away");
    std::fs::rename(&program, &away).expect("rename");
    setting.tree.put("a", b"content\n");
    crate::harness::until("the pipeline pauses", || {
        setting.tree.log().contains("event=intake.paused")
    });
    assert!(setting.tree.log().contains("No such file"), "{}", setting.tree.log());
    std::fs::rename(&away, &program).expect("rename");
    crate::harness::until("it is published", || setting.tree.path("out/a").exists());
    service.signal(rustix::process::Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", setting.tree.log());
    std::thread::park_timeout(MOMENT);
    setting.assert_nothing_left();
}

/// The next start ended with 78, for which the service manager starts nothing again.
#[test]
fn what_denies_its_removal_is_removed_and_keeps_no_start_from_working() {
    const NOBODY: u32 = 65534;
    let script = "cat; mkdir -p \"$HOME/a/b\"; touch \"$HOME/a/b/file\"; chmod 555 \"$HOME/a/b\" \"$HOME/a\"";
    let mut setting = Setting::shell(script, "");
    setting.tree.put("first", b"content");
    let is_root = rustix::process::geteuid().is_root();
    let binary = Path::new(env!("CARGO_BIN_EXE_tidemill"));
    let is_open =
        |path: &Path| fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 1 == 1);
    if is_root && !binary.ancestors().all(is_open) {
        return prove::skipped("what_denies_its_removal", "other users cannot reach the binary");
    }
    for name in ["", "in", "out", "archive"] {
        let path = setting.tree.path(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("mode");
    }
    if is_root {
        let owned = ["", "in", "out", "in/first"].map(|name| setting.tree.path(name));
        for path in owned {
            chown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
        }
    }
    let once = |setting: &Setting| {
        let mut command = setting.tree.configured("t.toml");
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        Service::from(command.arg("--once").spawn().expect("start")).wait()
    };
    // As a kill leaves it, also of an earlier version.
    fs::create_dir_all(setting.tree.path("state/exec/0/denied/file")).expect("directories");
    if is_root {
        for name in ["state", "state/exec", "state/exec/0", "state/exec/0/denied"] {
            chown(setting.tree.path(name), Some(NOBODY), Some(NOBODY)).expect("chown");
        }
    }
    let denied = setting.tree.path("state/exec/0/denied");
    fs::set_permissions(&denied, fs::Permissions::from_mode(0o555)).expect("mode");
    assert_eq!(once(&setting), 0, "{}", setting.tree.log());
    assert_eq!(setting.output("first"), b"content");
    assert!(!setting.tree.log().contains("program.scratch_left"), "{}", setting.tree.log());
    setting.assert_nothing_left();
    // What belongs to another user cannot be removed, and stays out of the way.
    if is_root {
        fs::create_dir_all(setting.tree.path("state/exec/0/of-root/file")).expect("directories");
        setting.tree.put("second", b"content");
        chown(setting.tree.path("in/second"), Some(NOBODY), Some(NOBODY)).expect("chown");
        assert_eq!(once(&setting), 0, "{}", setting.tree.log());
        assert_eq!(setting.output("second"), b"content");
        assert!(setting.tree.log().contains("program.scratch_left"), "{}", setting.tree.log());
    }
}
