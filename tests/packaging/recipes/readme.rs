//! The recipes of the README, each run as it stands but for its directories.

use std::{path::Path, process::Command};

use crate::{
    files::{Running, TestDir, decompressed, tree},
    recipes::done,
};

/// The commands of the section, with their absolute directories below this one.
fn recipes(root: &Path) -> Vec<String> {
    let readme = std::fs::read_to_string("README.md").unwrap();
    let section = readme.split("\n## Recipes\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let commands = section.lines().filter_map(|line| line.strip_prefix("    tidemill run"));
    let root = root.display();
    let below = |command: &str| command.replace(" /", &format!(" {root}/"));
    commands.map(|it| below(it).replace(":/", &format!(":{root}/"))).collect()
}

/// Runs a recipe over what is there, by a shell as its reader does.
fn once(place: &TestDir, recipe: &str) {
    let program = Path::new(env!("CARGO_BIN_EXE_tidemill"));
    let line = format!("exec '{}' run{recipe} --once", program.display());
    let mut command = Command::new("sh");
    let ended = Running::start(command.args(["-c", &line]).current_dir(place.root())).end();
    assert_eq!(ended.code, 0, "{recipe}: {ended:?}");
}

/// The outputs of a directory by their names, without the service's own.
fn names(dir: &Path) -> Vec<String> {
    let relative = |path: &Path| path.strip_prefix(dir).unwrap().display().to_string();
    let mut names: Vec<_> = tree(dir).iter().map(|path| relative(path)).collect();
    names.retain(|name| !name.starts_with(".tidemill/"));
    names
}

#[test]
fn every_recipe_of_the_readme_does_what_it_is_for() {
    const CONTENT: &str = "a line of some file\n";
    let place = TestDir::new();
    let root = place.root();
    let recipes = recipes(&root);
    let [logs, sftp, rsync, transcode, decompress] = recipes.as_slice() else {
        panic!("{recipes:?}");
    };
    let write = |path: &str, content: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    let put = |path: &str| write(path, CONTENT);

    put("var/log/app/app.log");
    for day in ["app.log.1.zst", "app.log.1.1.zst"] {
        write("var/log/app/app.log.1", day);
        once(&place, logs);
        assert_eq!(decompressed(&root.join("srv/logs").join(day)), day.as_bytes());
    }
    assert_eq!(names(&root.join("var/log/app")), ["app.log"]);

    for name in ["orders.csv", "late.csv.filepart"] {
        put(&format!("srv/sftp/incoming/{name}"));
    }
    once(&place, sftp);
    assert_eq!(names(&root.join("srv/orders")), ["orders.csv.zst"]);
    assert_eq!(names(&root.join("srv/sftp/processed")), ["orders.csv"]);
    assert_eq!(names(&root.join("srv/sftp/incoming")), ["late.csv.filepart"]);

    for name in ["a.csv", ".b.csv.Xy12ab"] {
        put(&format!("srv/drop/{name}"));
    }
    once(&place, rsync);
    assert_eq!(names(&root.join("srv/exports")), ["a.csv.zst"]);
    assert_eq!(names(&root.join("srv/drop")), [".b.csv.Xy12ab"]);

    put("in/a.log");
    done(Command::new("gzip").arg(root.join("in/a.log")));
    once(&place, transcode);
    assert_eq!(names(&root.join("out")), ["a.log.zst"]);
    assert_eq!(decompressed(&root.join("out/a.log.zst")), CONTENT.as_bytes());

    let place = TestDir::new();
    std::fs::copy(root.join("in/a.log.gz"), place.input().join("a.log.gz")).unwrap();
    std::fs::copy(root.join("out/a.log.zst"), place.input().join("b.log.zst")).unwrap();
    once(&place, decompress);
    assert_eq!(names(&place.output()), ["a.log", "b.log"]);
    for name in ["a.log", "b.log"] {
        assert_eq!(std::fs::read(place.output().join(name)).unwrap(), CONTENT.as_bytes());
    }
    let events = std::fs::read_to_string(place.root().join("events.jsonl")).unwrap();
    assert_eq!(events.matches("\"outcome\":\"published\"").count(), 2, "{events}");
}
