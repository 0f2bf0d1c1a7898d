//! `check`, what it prints and accepts; and the values that shells complete.

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Command,
};

use crate::files::{Running, TestDir};

#[test]
fn check_prints_what_differs_from_the_defaults_and_all_on_request() {
    let place = TestDir::new();
    let plain = place.run(&["check", "in", "out"]);
    assert_eq!(plain.code, 0, "{plain:?}");
    assert!(plain.stdout.starts_with("OK: 1 pipeline\n"), "{plain:?}");
    assert!(plain.stdout.contains("\n[[pipeline]]\ninput = "), "{plain:?}");
    let last = plain.stdout.lines().last().unwrap();
    assert!(last.starts_with("# `temporary_names") && last.contains("*.part"), "{plain:?}");
    for default in ["transforms", "rescan", "[limits]", "durability", "quarantine", "http"] {
        assert!(!plain.stdout.contains(default), "{default}: {plain:?}");
    }
    let other = place.run(&["check", "tidemill.toml", "--transform", "gzip"]);
    for line in ["http = \"off\"", "transforms = \"gzip:6\"", "attempts = 2", "backoff = \"10ms\""]
    {
        assert!(other.stdout.contains(&format!("{line}\n")), "{line}: {other:?}");
    }
    let all = place.run(&["check", "--all", "in", "out"]).stdout;
    assert!(!all.contains("OK:") && all.contains("[limits]") && all.contains("rescan = "), "{all}");
}

#[test]
fn check_counts_the_pipelines_and_shows_the_keys_of_each() {
    let place = TestDir::new();
    let pipeline = |name: &str, more: &str| {
        std::fs::create_dir(place.root().join(name)).unwrap();
        format!(
            "[[pipeline]]\nname = \"{name}\"\ninput = \"{name}\"\noutput = \"{name}-out\"\n{more}\n"
        )
    };
    let text = format!(
        "state_dir = \"state\"\n[limits]\nworkers = 3\n{}{}",
        pipeline("one", "marker = \".done\""),
        pipeline("two", "on_success = \"delete\"")
    );
    std::fs::write(place.root().join("several.toml"), text).unwrap();
    let checked = place.run(&["check", "several.toml"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(checked.stdout.starts_with("OK: 2 pipelines\nstate_dir = "), "{checked:?}");
    assert!(checked.stdout.contains("\n[limits]\nworkers = 3\n"), "{checked:?}");
    let (one, two) = checked.stdout.split_once("name = \"two\"").unwrap();
    assert!(one.contains("name = \"one\"") && one.contains("marker = \".done\""), "{checked:?}");
    assert!(two.contains("on_success = \"delete\"") && !two.contains("marker"), "{checked:?}");
    assert!(!checked.stdout.contains("quarantine"), "{checked:?}");
}

#[test]
fn check_accepts_inputs_that_do_not_exist_yet_where_it_is_asked_to() {
    let place = TestDir::new();
    std::fs::remove_dir(place.input()).unwrap();
    let strict = place.run(&["check", "tidemill.toml"]);
    assert_eq!((strict.code, strict.stdout.as_str()), (78, ""), "{strict:?}");
    let syntax = place.run(&["check", "tidemill.toml", "--syntax"]);
    assert_eq!(syntax.code, 0, "{syntax:?}");
    assert!(syntax.stdout.starts_with("OK: 1 pipeline\n"), "{syntax:?}");
    assert!(syntax.stderr.contains("/in: No such file or directory"), "{syntax:?}");
    assert!(syntax.stderr.contains("it must exist at the start"), "{syntax:?}");
    // Everything else is an error all the same.
    let inside = "[[pipeline]]\ninput = \"in\"\noutput = \"in/out\"\n";
    std::fs::write(place.root().join("inside.toml"), inside).unwrap();
    let wrong = place.run(&["check", "inside.toml", "--syntax"]);
    assert_eq!(wrong.code, 78, "{wrong:?}");
    assert!(wrong.stderr.contains("is inside the watched input"), "{wrong:?}");
    assert!(!wrong.stderr.contains("No such file"), "{wrong:?}");
}

/// The start logged a warning, and each source went to quarantine after its publication.
#[test]
fn an_input_in_which_nothing_may_be_removed_is_refused_by_check_and_by_the_start() {
    let place = TestDir::new();
    let file = place.put("file", "content");
    // Of the user who looks for its writers.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(file, Some(65534), Some(65534)).unwrap();
    }
    // Another user may not run the binary where it is.
    let binary = place.root().join("tidemill");
    std::fs::copy(env!("CARGO_BIN_EXE_tidemill"), &binary).unwrap();
    let set_mode = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    set_mode(&place.root(), 0o777);
    set_mode(&place.output(), 0o777);
    set_mode(&place.input(), 0o555);
    let run = |args: &[&str]| {
        let mut command = Command::new(&binary);
        command.current_dir(place.root()).args(args);
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        Running::start(&mut command).end()
    };
    let removes = ["in", "out", "--on-success", "delete", "--http", "off"];
    for args in [&["check"][..], &["run", "--once"]] {
        let refused = run(&[args, &removes].concat());
        assert_eq!(refused.code, 78, "{args:?}: {refused:?}");
        let wanted = format!("the input {}: user ", place.input().display());
        assert!(refused.stderr.contains(&wanted), "{args:?}: {refused:?}");
        assert!(refused.stderr.contains("may not write in"), "{args:?}: {refused:?}");
    }
    assert!(!place.output().join("file.zst").exists());
    let kept = run(&["run", "--once", "in", "out", "--http", "off"]);
    assert_eq!(kept.code, 0, "{kept:?}");
    assert_eq!(place.published("file.zst"), b"content");
    set_mode(&place.input(), 0o755);
}

#[test]
fn check_reads_the_token_as_the_start_does() {
    let place = TestDir::new();
    let token = place.root().join("token");
    std::fs::write(&token, "short").unwrap();
    let args = ["check", "in", "out", "--admin-token-file", "token"];
    let refused = place.run(&args);
    assert_eq!((refused.code, refused.stdout.as_str()), (78, ""), "{refused:?}");
    assert!(refused.stderr.contains("`admin_token_file`"), "{refused:?}");
    std::fs::write(&token, "0123456789abcdef").unwrap();
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o644)).unwrap();
    let readable = place.run(&args);
    assert_eq!(readable.code, 0, "{readable:?}");
    assert!(readable.stderr.contains("other users can read it: chmod 600"), "{readable:?}");
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(place.run(&args).stderr, "");
}

#[test]
fn a_port_alone_is_one_of_this_machine_and_the_events_file_is_no_stream() {
    let place = TestDir::new();
    for address in ["9471", ":9471"] {
        let checked = place.run(&["check", "in", "out", "--http", address]);
        assert!(checked.stdout.contains("http = \"127.0.0.1:9471\"\n"), "{checked:?}");
    }
    let stream = place.run(&["run", "in", "out", "--events", "-"]);
    assert_eq!(stream.code, 64, "{stream:?}");
    assert!(stream.stderr.contains("tail -F"), "{stream:?}");
    assert!(!place.root().join("-").exists());
}

#[test]
fn completions_offer_the_values_of_an_option() {
    let place = TestDir::new();
    let script = place.root().join("completions");
    std::fs::write(&script, place.run(&["completions", "bash"]).stdout).unwrap();
    for (command, option, values) in [
        ("run", "--on-success", "keep delete archive:"),
        ("run", "--durability", "fsync syncfs none"),
        ("check", "--log-format", "text json"),
        (
            "history",
            "--state",
            "intent published done withdrawn skipped quarantined requeued changed",
        ),
    ] {
        let line = format!(
            ". {}; COMP_WORDS=(tidemill {command} {option} ''); COMP_CWORD=3; _tidemill tidemill '' {option}; echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let completed = Command::new("bash").args(["-c", &line]).output().unwrap();
        let offered = String::from_utf8_lossy(&completed.stdout).into_owned();
        assert_eq!(offered.trim_end(), values, "{option}: {completed:?}");
    }
    let script = std::fs::read_to_string(script).unwrap();
    assert!(script.contains("zstd unzstd gzip gunzip"), "--transform");
}
