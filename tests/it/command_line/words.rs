//! Help, versions, usage errors; `check` and `init`.

use crate::files::{TestDir, tree};

#[test]
fn help_and_version_go_to_the_standard_output_and_exit_0() {
    let place = TestDir::new();
    let help = place.run(&["--help"]);
    assert_eq!(help.code, 0);
    for word in ["run", "check", "init", "history", "explain", "requeue", "Exit codes:\n   0"] {
        assert!(help.stdout.contains(word), "{word}: {help:?}");
    }
    let version = place.run(&["--version"]);
    assert_eq!(version.stdout, format!("tidemill {}\n", env!("CARGO_PKG_VERSION")));
    let run = place.run(&["run", "--help"]);
    for option in [
        "--config",
        "--once",
        "--transform",
        "--on-success",
        "--on-exists",
        "--include",
        "--exclude",
        "--temporary-names",
        "--settle",
        "--http",
        "--state-dir",
        "--events",
        "--durability",
        "--shutdown-deadline",
        "--log-format",
    ] {
        assert!(run.stdout.contains(option), "{option}: {run:?}");
    }
    for command in ["check", "init", "history", "explain", "requeue"] {
        assert_eq!(place.run(&[command, "--help"]).code, 0, "{command}");
    }
}

#[test]
fn errors_of_usage_and_configuration_are_printed_and_exit_64_or_78() {
    let place = TestDir::new();
    for (args, wanted) in [
        (vec!["run", "in", "out", "--state-dir", "in/state"], "--state-dir: the state directory"),
        (vec!["run", "in", "out", "--events", "in/events"], "--events: the events file is inside"),
        (vec!["run", "nowhere", "out"], "nowhere: No such file"),
        (vec!["run", "in", "in/out"], "OUTPUT: the output "),
        (vec!["run", "--config", "nothing.toml"], "--config: cannot read nothing.toml"),
        (vec!["history", "--state-dir", "nowhere"], "nowhere has no ledger"),
    ] {
        let ended = place.run(&args);
        let code = if args[0] == "run" { 78 } else { 69 };
        assert_eq!((ended.code, &*ended.stdout), (code, ""), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(wanted), "{args:?}: {}", ended.stderr);
    }
    for (args, wanted) in [
        (vec!["run"], "there is no pipeline"),
        (vec!["run", "in"], "INPUT and OUTPUT go together"),
        (vec!["run", "in", "out", "--transform", "zip"], "--transform: `zip` is not a transform"),
        (
            vec!["run", "in", "out", "--on-success", "archive"],
            "--on-success: `archive` needs a directory",
        ),
        (vec!["run", "in", "out", "--on-exists", "ask"], "--on-exists: `ask` is none of"),
        (vec!["run", "in", "out", "--include", "[a"], "--include: "),
        (vec!["run", "in", "out", "--exclude", "[a"], "--exclude: "),
        (vec!["run", "in", "out", "--exclude", "a/../b"], "--exclude: `a/../b` matches nothing"),
        (vec!["run", "in", "out", "--temporary-names", "no"], "--temporary-names: `no` is none"),
        (vec!["run", "in", "out", "--settle", "soon"], "--settle: `soon` is not a duration"),
        (vec!["run", "in", "out", "--http", "here"], "--http: `here` is neither an address"),
        (vec!["run", "in", "out", "--durability", "some"], "--durability: `some` is none of"),
        (vec!["run", "in", "out", "--shutdown-deadline", "x"], "--shutdown-deadline: `x` is not"),
        (vec!["run", "in", "out", "--log-format", "xml"], "--log-format: `xml` is none of"),
        (vec!["history", "--state", "lost"], "--state: `lost` is none of"),
        (vec!["history", "--since", "then"], "--since: neither a time"),
        (vec![], "Usage"),
        (vec!["watch"], "unrecognized subcommand 'watch'"),
        (vec!["run", "--transfrom", "zstd"], "a similar argument exists: '--transform'"),
        (vec!["requeue"], "Usage"),
        (vec!["requeue", "--all", "in/a"], "cannot be used with"),
        (vec!["explain"], "Usage"),
    ] {
        let ended = place.run(&args);
        assert_eq!((ended.code, &*ended.stdout), (64, ""), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(wanted), "{args:?}: {}", ended.stderr);
    }
    assert!(tree(&place.input()).is_empty() && tree(&place.output()).is_empty());
}

#[test]
fn the_output_of_check_loads_as_the_same_configuration() {
    let place = TestDir::new();
    std::fs::create_dir(place.root().join("done")).unwrap();
    let options = [
        "--transform",
        "gunzip,zstd:9",
        "--on-success",
        "archive:done",
        "--on-exists",
        "suffix",
        "--include",
        "*.gz",
        "--include",
        "2026/**",
        "--exclude",
        "*.part",
        "--temporary-names",
        "take",
        "--settle",
        "1500ms",
        "--http",
        "127.0.0.1:1",
        "--state-dir",
        "elsewhere",
        "--events",
        "events.jsonl",
        "--durability",
        "syncfs",
        "--shutdown-deadline",
        "1m 30s",
        "--log-format",
        "json",
        "--once",
    ];
    for args in [&["in", "out"][..], &["--config", "tidemill.toml"]] {
        for options in [&options[..], &[]] {
            let first = place.run(&[&["check", "--all"], args, options].concat());
            assert_eq!(first.code, 0, "{first:?}");
            std::fs::write(place.root().join("resolved.toml"), &first.stdout).unwrap();
            let again = place.run(&["check", "--all", "--config", "resolved.toml"]);
            assert_eq!(again.code, 0, "{again:?}");
            assert_eq!(again.stdout, first.stdout);
        }
    }
    let printed = place.run(&[&["check", "in", "out"], &options[..]].concat()).stdout;
    for line in [
        "transforms = \"gunzip,zstd:9\"",
        "on_exists = \"suffix\"",
        "temporary_names = \"take\"",
        "settle = \"1500ms\"",
        "shutdown_deadline = \"90s\"",
        "durability = \"syncfs\"",
        "include = [\"*.gz\", \"2026/**\"]",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
}

#[test]
fn check_warns_of_outputs_that_a_power_loss_can_remove() {
    let place = TestDir::new();
    let ended = place.run(&["check", "in", "out", "--durability", "none"]);
    assert_eq!(ended.code, 0);
    assert!(ended.stderr.contains("published outputs can disappear in a power loss"), "{ended:?}");
    assert!(!place.state().exists(), "check makes nothing");
}

#[test]
fn init_prints_or_writes_a_configuration_that_loads_and_never_overwrites_one() {
    let place = TestDir::new();
    let printed = place.run(&["init"]);
    assert_eq!(printed.code, 0);
    std::fs::create_dir(place.root().join("inbox")).unwrap();
    let written = place.run(&["init", "new.toml"]);
    assert_eq!(written.code, 0);
    assert!(written.stderr.contains("tidemill check --config new.toml"), "{written:?}");
    let path = place.root().join("new.toml");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), printed.stdout);
    let checked = place.run(&["check", "--config", "new.toml"]);
    assert_eq!(checked.code, 0, "{checked:?}");

    std::fs::write(&path, "mine").unwrap();
    let refused = place.run(&["init", "new.toml"]);
    assert_eq!(refused.code, 78);
    assert!(refused.stderr.contains("new.toml"), "{refused:?}");
    assert!(refused.stderr.contains("nothing is overwritten"), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn include_and_exclude_choose_the_files() {
    let place = TestDir::new();
    for name in ["a.log", "sub/b.log", "c.txt", "sub/d.log.part"] {
        place.put(name, name);
    }
    let options = ["--include", "*.log*", "--exclude", "*.part"];
    let ended = place.once(&options);
    assert_eq!(ended.code, 0, "{ended:?}");
    let out = place.output();
    assert_eq!(tree(&out), [out.join("a.log.zst"), out.join("sub/b.log.zst")]);
}

#[test]
fn without_a_configuration_the_state_is_in_the_output() {
    let place = TestDir::new();
    place.put("a", "content");
    let ended = place.run(&["run", "in", "out", "--once"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(place.published("a.zst"), b"content");
    assert!(place.output().join(".tidemill/ledger.sqlite").exists());
    std::fs::remove_file(place.root().join("tidemill.toml")).unwrap();
    let listed = place.run(&["history"]);
    assert!(listed.stdout.contains("/in/a → "), "{listed:?}");
    assert!(ended.stderr.contains("1 file published"), "{ended:?}");
}
