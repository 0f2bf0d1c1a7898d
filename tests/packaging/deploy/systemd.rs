//! The units: hardened, well-formed, two of one kind, and no narrower than the service needs.

use std::{
    collections::BTreeSet,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::Command,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    deploy::{output, text},
    files::{Running, TestDir, until},
    prove,
};

const UNITS: [&str; 2] = ["deploy/systemd/tidemill.service", "deploy/systemd/tidemill@.service"];

/// The values of a key of a unit, in order.
fn values(unit: &str, key: &str) -> Vec<String> {
    let begin = format!("{key}=");
    unit.lines().filter_map(|line| line.strip_prefix(&begin).map(str::to_owned)).collect()
}

#[test]
fn the_units_are_exposed_at_most_1_5_of_10() {
    for unit in UNITS {
        let analysis = output(
            Command::new("systemd-analyze")
                .args(["security", "--no-pager", "--offline=true", "--threshold=15"])
                .arg(unit),
        );
        let overall =
            analysis.lines().find(|line| line.contains("Overall exposure level")).unwrap();
        let level = overall.split_whitespace().find_map(|word| word.parse::<f64>().ok());
        assert!(level.is_some_and(|level| level <= 1.5), "{unit}: {overall}");
    }
}

#[test]
fn the_units_are_well_formed() {
    let place = TestDir::new();
    for unit in UNITS {
        // The programs stand elsewhere here; a warning is an error.
        let program = env!("CARGO_BIN_EXE_tidemill");
        let here = text(unit).replace("=/usr/bin/tidemill", &format!("={program}"));
        let path = place.root().join(unit.rsplit('/').next().unwrap().replace("@.", "@one."));
        std::fs::write(&path, here).unwrap();
        let analysis = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(&path)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&analysis.stderr).into_owned();
        let about = printed.lines().filter(|line| line.contains("tidemill")).collect::<Vec<_>>();
        assert!(analysis.status.success() && about.is_empty(), "{unit}: {printed}");
    }
}

#[test]
fn unfinished_work_is_success_and_is_resumed() {
    for unit in UNITS.map(text) {
        let code = tidemill::error::Exit::WorkLeft.code().to_string();
        for key in ["SuccessExitStatus", "RestartForceExitStatus"] {
            assert_eq!(values(&unit, key), [code.as_str()], "{key}");
        }
        assert_eq!(values(&unit, "Restart"), ["on-failure"]);
    }
}

#[test]
fn the_template_differs_from_the_unit_only_in_its_instance() {
    let [unit, template] = UNITS.map(text);
    let settings = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    let expected = unit
        .replace("Description=Tidemill:", "Description=Tidemill %i:")
        .replace("/etc/tidemill/tidemill.toml", "/etc/tidemill/%i.toml")
        .replace("tidemill/main", "tidemill/%i");
    assert_eq!(settings(&template), settings(&expected));
}

#[test]
fn the_default_configuration_fits_the_unit_and_what_is_made_for_it() {
    let (unit, config) = (text(UNITS[0]), text("deploy/tidemill.toml"));
    let state = format!("state_dir = \"/var/lib/{}\"", "tidemill/main");
    assert!(config.contains(&state) && values(&unit, "StateDirectory")[0].ends_with("/main"));
    let tmpfiles = text("deploy/systemd/tmpfiles.conf");
    for (key, name) in [("input", "inbox"), ("output", "outbox")] {
        let path = format!("/var/spool/tidemill/{name}");
        assert!(config.contains(&format!("{key} = \"{path}\"")), "{key}");
        assert!(tmpfiles.contains(&path), "{path}");
    }
    assert_eq!(values(&unit, "ReadWritePaths"), ["-/var/spool/tidemill"]);

    // The same in a place of this test's own.
    let place = TestDir::new();
    let here = place.root();
    for dir in ["spool/inbox", "lib"] {
        std::fs::create_dir_all(here.join(dir)).unwrap();
    }
    let here = config
        .replace("/var/spool/tidemill", here.join("spool").to_str().unwrap())
        .replace("/var/lib/tidemill", here.join("lib").to_str().unwrap());
    std::fs::write(place.root().join("tidemill.toml"), here).unwrap();
    let checked = place.run(&["check", "--config", "tidemill.toml"]);
    assert_eq!(checked.code, 0, "{checked:?}");
}

#[test]
fn users_and_directories_are_made_as_the_unit_needs_them() {
    let place = TestDir::new();
    let image = place.root().join("image");
    std::fs::create_dir_all(image.join("etc")).unwrap();
    // As a package lays them.
    for kind in ["sysusers", "tmpfiles"] {
        let dir = image.join(format!("usr/lib/{kind}.d"));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("tidemill.conf"), text(&format!("deploy/systemd/{kind}.conf")))
            .unwrap();
    }
    let root = format!("--root={}", image.display());
    output(Command::new("systemd-sysusers").args([&root, "tidemill.conf"]));
    let passwd = std::fs::read_to_string(image.join("etc/passwd")).unwrap();
    let user = passwd.lines().find(|line| line.starts_with("tidemill:")).unwrap();
    assert!(user.ends_with(":Tidemill:/var/lib/tidemill:/usr/sbin/nologin"), "{user}");
    let uid: u32 = user.split(':').nth(2).unwrap().parse().unwrap();

    if !rustix::process::geteuid().is_root() {
        return prove::skipped("tmpfiles", "only root can give directories to another user");
    }
    output(Command::new("systemd-tmpfiles").args(["--create", &root, "tidemill.conf"]));
    for (name, mode, owner) in [("inbox", 0o2770, uid), ("outbox", 0o2750, uid), ("", 0o755, 0)] {
        let made = image.join("var/spool/tidemill").join(name).metadata().unwrap();
        assert_eq!((made.permissions().mode() & 0o7777, made.uid()), (mode, owner), "{name}");
    }
}

/// The system calls of a filter, by asking systemd what its groups are.
fn allowed(unit: &str) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    let mut lists = vec!["@default".to_owned()];
    lists.extend(values(unit, "SystemCallFilter"));
    for list in lists {
        let (takes_away, names) = list.strip_prefix('~').map_or((false, &*list), |it| (true, it));
        let mut pending: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
        while let Some(name) = pending.pop() {
            if name.starts_with('@') {
                let analysis =
                    output(Command::new("systemd-analyze").args(["syscall-filter", &name]));
                let names = analysis.lines().skip(1).map(str::trim);
                pending.extend(names.filter(|name| !name.starts_with('#')).map(str::to_owned));
            } else if takes_away {
                allowed.remove(&name);
            } else {
                allowed.insert(name);
            }
        }
    }
    allowed
}

/// A whole life under `strace`: start, sandbox, small and large files, archive, a hook, reload, drain.
fn trace_of_a_life(transforms: &str, suffix: &str) -> String {
    let place = TestDir::new();
    std::fs::create_dir(place.root().join("done")).unwrap();
    let lines = format!(
        "on_success = \"archive:done\"\ntransforms = \"{transforms}\"\n[hooks]\non_published = [\"/bin/true\"]"
    );
    place.configure(&lines);
    let trace = place.root().join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "--signal=none", "-o"]).arg(&trace);
    command.arg(env!("CARGO_BIN_EXE_tidemill"));
    command.args(["run", "--config", "tidemill.toml", "--http", "127.0.0.1:0"]);
    command.current_dir(place.root()).env("RUST_LOG", "info").env_remove("FAILPOINTS");
    let running = Running::start(&mut command);
    running.until_logged("event=pipeline.ready");
    for number in 0..40 {
        place.put(format!("sub/{number}.log"), format!("line {number}\n").repeat(100));
    }
    place.put("large.bin", vec![7; 3 << 20]);
    let done = place.output().join(format!("large.bin{suffix}"));
    until("the large file is published", || done.exists());
    until("the others are published", || {
        let is_there = |number| place.output().join(format!("sub/{number}.log{suffix}")).exists();
        (0..40).all(is_there)
    });
    // The tracer hands no signal on: the service is its child.
    let children = format!("/proc/{0}/task/{0}/children", running.pid());
    let child = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    let signal = |signal| kill_process(Pid::from_raw(child).unwrap(), signal).unwrap();
    place.configure(&format!("rescan = \"1m\"\n{lines}"));
    signal(Signal::HUP);
    running.until_logged("event=config.reloaded");
    signal(Signal::TERM);
    let ended = running.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    std::fs::read_to_string(trace).unwrap()
}

fn system_calls(trace: &str) -> BTreeSet<String> {
    trace
        .lines()
        .filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('('))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_'))
        .collect()
}

/// The families of the sockets that were made.
fn families(trace: &str) -> BTreeSet<&str> {
    let made = trace.split(" socket(").skip(1);
    made.filter_map(|rest| rest.split(',').next()).collect()
}

#[test]
fn the_units_allow_every_system_call_that_a_life_needs() {
    let trace = trace_of_a_life("zstd:9", ".zst") + &trace_of_a_life("copy", "");
    let used = system_calls(&trace);
    for wanted in ["landlock_restrict_self", "renameat2", "fsync", "inotify_add_watch", "execve"] {
        assert!(used.contains(wanted), "the trace has no {wanted}: {used:?}");
    }
    let allowed = allowed(&text(UNITS[0]));
    assert!(!allowed.contains("mount") && !allowed.contains("ptrace"));
    let refused: Vec<_> = used.difference(&allowed).collect();
    assert!(refused.is_empty(), "the unit's filter refuses {refused:?}");

    let lists = values(&text(UNITS[0]), "RestrictAddressFamilies").join(" ");
    let used = families(&trace);
    assert!(used.contains("AF_INET") && used.contains("AF_UNIX"), "{used:?}");
    for family in used {
        assert!(lists.split(' ').any(|it| it == family), "the unit refuses sockets of {family}");
    }
}
