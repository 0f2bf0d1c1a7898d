//! Configuration files: those that are shipped load, and what is wrong with one is told exactly.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// Stands for the directory of the copy in an expected text.
const ROOT: &str = "/DIR";

/// What `tidemill check` says of a configuration.
struct Checked {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// A directory with a copy of a configuration.
fn copy(path: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(path, dir.path().join(path.file_name().unwrap())).unwrap();
    dir
}

/// As [`copy`], with absolute paths led into the directory, and every input made.
fn copy_with_inputs(path: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().display();
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.replace("\"/", &format!("\"{root}/"));
    let text = text.replace("archive:/", &format!("archive:{root}/"));
    let table: toml::Table = text.parse().unwrap();
    for pipeline in table["pipeline"].as_array().unwrap() {
        let input = dir.path().join(pipeline["input"].as_str().unwrap());
        assert!(input.starts_with(dir.path()), "{} leads out", input.display());
        std::fs::create_dir_all(input).unwrap();
    }
    std::fs::write(dir.path().join(path.file_name().unwrap()), text).unwrap();
    dir
}

fn check(dir: &TempDir, name: &OsStr) -> Checked {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    let output = command.current_dir(dir).args(["check", "--config"]).arg(name).output().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap().replace(root.to_str().unwrap(), ROOT);
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    Checked { code: output.status.code(), stdout, stderr }
}

/// The files with this extension below a directory of the package.
fn files(below: &str, extension: &str) -> BTreeSet<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(below);
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension() == Some(OsStr::new(extension))).collect()
}

#[test]
fn every_configuration_that_is_shipped_loads_and_prints_one_that_comes_to_the_same() {
    let shipped = files("config", "toml");
    assert!(shipped.iter().any(|path| path.ends_with("tidemill.toml")));
    for path in shipped {
        let dir = copy_with_inputs(&path);
        let name = path.file_name().unwrap();
        let checked = check(&dir, name);
        assert_eq!(checked.code, Some(0), "{}: {}", path.display(), checked.stderr);
        let resolved =
            checked.stdout.replace(ROOT, dir.path().canonicalize().unwrap().to_str().unwrap());
        std::fs::write(dir.path().join("resolved.toml"), resolved).unwrap();
        let again = check(&dir, "resolved.toml".as_ref());
        assert_eq!(again.stdout, checked.stdout, "{}", path.display());
    }
}

/// Each default that the annotated configuration shows in a comment is the default.
#[test]
fn the_defaults_shown_by_the_annotated_configuration_are_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/tidemill.toml");
    let dir = copy_with_inputs(&path);
    let text = std::fs::read_to_string(&path).unwrap();
    let plain = check(&dir, "tidemill.toml".as_ref()).stdout;
    let mut shown = 0;
    let own = ["events", "marker", "include", "exclude", "workers"];
    let uncommented = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(setting) if is_setting(setting) && !own.iter().any(|key| setting.starts_with(key)) => {
            shown += 1;
            setting
        }
        _ => line,
    });
    let uncommented = uncommented.collect::<Vec<_>>().join("\n");
    assert!(shown >= 15, "{shown}");
    std::fs::write(dir.path().join("shown.toml"), uncommented).unwrap();
    let checked = check(&dir, "shown.toml".as_ref());
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert_eq!(checked.stdout, plain);
}

/// `key = value`, and no sentence.
fn is_setting(text: &str) -> bool {
    let key = text.split_once(" = ").map_or("", |(key, _)| key);
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Run with `TIDEMILL_EXPECT=write` to write the texts anew, then read them.
#[test]
fn everything_that_is_wrong_is_told_with_its_place_and_what_to_write_instead() {
    let write = std::env::var_os("TIDEMILL_EXPECT").is_some_and(|what| what == "write");
    let cases = files("tests/config", "toml");
    for path in &cases {
        let dir = copy(path);
        for made in ["in/sub", "other", "out"] {
            std::fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        std::fs::write(dir.path().join("file"), "").unwrap();
        let checked = check(&dir, path.file_name().unwrap());
        let name = path.display();
        assert_eq!((checked.code, checked.stdout.as_str()), (Some(78), ""), "{name}");
        let expected = path.with_extension("expected");
        if write {
            std::fs::write(&expected, &checked.stderr).unwrap();
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(checked.stderr, expected, "{name}\n{}", checked.stderr);
    }
    let told: BTreeSet<_> = cases.iter().map(|path| path.with_extension("expected")).collect();
    assert_eq!(files("tests/config", "expected"), told, "a text without its case");
}
