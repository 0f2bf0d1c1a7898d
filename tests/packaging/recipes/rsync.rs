//! `rsync -a` into the input of a running service.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    files::{TestDir, decompressed, tree, until},
    prove,
};

const FILES: usize = 1500;

fn outputs(place: &TestDir) -> Vec<PathBuf> {
    let out = place.output();
    tree(&out).iter().map(|path| path.strip_prefix(&out).unwrap().to_path_buf()).collect()
}

#[test]
fn rsync_into_a_running_service_publishes_each_file_once_under_its_own_name() {
    let name = "rsync_into_a_running_service_publishes_each_file_once_under_its_own_name";
    if Command::new("rsync").arg("--version").output().is_err() {
        return prove::skipped(name, "rsync is not installed");
    }
    for on_success in ["keep", "delete"] {
        for (options, files) in [
            (&["-a"][..], FILES),
            (&["-a", "--delay-updates"], FILES / 5),
            (&["-a", "--inplace"], FILES / 5),
        ] {
            let place = TestDir::new();
            let source = place.root().join("source");
            let mut expected = Vec::new();
            for number in 0..files {
                let relative = format!("{}/f{number}.csv", number % 7);
                let path = source.join(&relative);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, format!("line of file {number}\n").repeat(1 + number % 90))
                    .unwrap();
                expected.push(PathBuf::from(format!("{relative}.zst")));
            }
            expected.sort();
            let running = place.watch(&["--on-success", on_success]);
            let status = Command::new("rsync")
                .args(options)
                .arg(format!("{}/", source.display()))
                .arg(format!("{}/", place.input().display()))
                .status()
                .unwrap();
            assert!(status.success(), "rsync {options:?}, {on_success}: {status}");
            until("all are published", || outputs(&place).len() >= files);
            let ended = running.stop();
            assert_eq!(ended.code, 0, "{ended:?}");
            assert_eq!(outputs(&place), expected, "rsync {options:?}, {on_success}");
            let published = ended.stderr.matches("msg=published ").count();
            assert_eq!(published, files, "rsync {options:?}, {on_success}: each once");
            let left = tree(&place.input()).len();
            assert_eq!(left, if on_success == "keep" { files } else { 0 }, "{on_success}");
        }
    }
}

/// `--backup` keeps the old version as `NAME~`: the new one is an update all the same.
#[test]
fn rsync_with_backups_updates_the_outputs() {
    let name = "rsync_with_backups_updates_the_outputs";
    if Command::new("rsync").arg("--version").output().is_err() {
        return prove::skipped(name, "rsync is not installed");
    }
    let place = TestDir::new();
    let source = place.root().join("source");
    fs::create_dir(&source).unwrap();
    let running = place.watch(&[]);
    for version in ["first", "the second"] {
        for number in 0..20 {
            fs::write(source.join(number.to_string()), format!("{version} version\n")).unwrap();
        }
        let status = Command::new("rsync")
            .arg("-ab")
            .arg(format!("{}/", source.display()))
            .arg(format!("{}/", place.input().display()))
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
        until(version, || {
            let is_new = |number: u32| {
                let output = place.output().join(format!("{number}.zst"));
                output.exists() && decompressed(&output).starts_with(version.as_bytes())
            };
            (0..20).all(is_new)
        });
    }
    assert!(place.input().join("0~").exists());
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(outputs(&place).len(), 20);
}
