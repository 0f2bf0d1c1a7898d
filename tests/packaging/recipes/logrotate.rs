//! Rotated logs: the same names come again each day, and each day's content stays.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    files::{TestDir, decompressed, tree, until},
    recipes::done,
};

const DAYS: [&str; 3] = ["day 1\n", "day 2\n", "day 3\n"];

/// Ends a day: the log is rotated by logrotate as Debian configures it, by number or by date.
fn rotate(place: &TestDir, by: &str) {
    rotate_and(place, "nocompress", by);
}

fn rotate_and(place: &TestDir, compress: &str, by: &str) {
    let rules = place.root().join("logrotate.conf");
    let text = format!(
        "{}/app.log {{\n  rotate 7\n  {compress}\n  missingok\n  {by}\n}}\n",
        place.input().display()
    );
    std::fs::write(&rules, text).unwrap();
    // Its own rule: nobody else may write the configuration.
    done(Command::new("chmod").args(["0644"]).arg(&rules));
    done(Command::new("chmod").args(["0755"]).arg(place.input()));
    let state = place.root().join("logrotate.state");
    done(Command::new("/usr/sbin/logrotate").arg("--force").arg("--state").arg(state).arg(rules));
}

/// The contents of the outputs that have their names.
fn contents(paths: &[PathBuf]) -> BTreeSet<String> {
    let is_output = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "zst");
    paths
        .iter()
        .filter(is_output)
        .map(|path| String::from_utf8(decompressed(path)).unwrap())
        .collect()
}

fn wanted() -> BTreeSet<String> {
    DAYS.map(str::to_owned).into()
}

#[test]
fn the_readmes_first_recipe_keeps_every_day() {
    let place = TestDir::new();
    let (input, output) = (place.input(), place.output());
    for day in DAYS {
        place.put("app.log", day);
        rotate(&place, "nodateext");
        // The recipe as it is, but for its directories.
        let ended = place.run(&[
            "run",
            input.to_str().unwrap(),
            output.to_str().unwrap(),
            "--include",
            "*.log.*",
            "--transform",
            "zstd:9",
            "--on-success",
            "delete",
            "--state-dir",
            "state",
            "--once",
        ]);
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    assert_eq!(contents(&tree(&output)), wanted());
    assert!(tree(&input).is_empty(), "{:?}", tree(&input));
}

#[test]
fn config_logs_toml_keeps_every_day_by_number_and_by_date() {
    for by in ["nodateext", "dateext\n  dateformat -%Y%m%d-%s"] {
        let place = TestDir::new();
        let config = std::fs::read_to_string(Path::new("config/logs.toml")).unwrap();
        let root = place.root();
        let at = |name: &str| root.join(name).display().to_string();
        let config = config
            .replace("/var/lib/tidemill/logs.jsonl", &at("logs.jsonl"))
            .replace("/var/lib/tidemill/logs", &at("state"))
            .replace("/var/log/app", &at("in"))
            .replace("/srv/archive/logs", &at("out"))
            .replace("settle = \"30s\"", "settle = \"100ms\"");
        std::fs::write(root.join("logs.toml"), format!("http = \"off\"\n{config}")).unwrap();
        let args = ["run", "--config", "logs.toml"];
        let running = crate::files::Running::start(&mut place.tidemill(&args));
        running.until_logged("event=pipeline.ready");
        for (number, day) in (1..).zip(DAYS) {
            place.put("app.log", day);
            rotate(&place, by);
            until(day, || tree(&place.output()).len() == number && tree(&place.input()).is_empty());
        }
        let ended = running.stop();
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(contents(&tree(&place.output())), wanted(), "{by}");
        assert!(!ended.stderr.contains("quarantined\""), "{ended:?}");
    }
}

/// Debian's usual rules: yesterday's log is compressed and removed, and a few milliseconds later today's
/// gets its name.
#[test]
fn kept_logs_that_logrotate_compresses_keep_every_day() {
    let place = TestDir::new();
    place.configure("include = [\"*.log.*\"]\nexclude = [\"*.gz\"]\ntransforms = \"zstd\"");
    let running = place.watch(&[]);
    for (number, day) in (1..).zip(DAYS) {
        place.put("app.log", day);
        rotate_and(&place, "compress\n  delaycompress", "nodateext");
        until(day, || contents(&tree(&place.output())).len() == number);
    }
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(contents(&tree(&place.output())), wanted());
}
