//! The Debian package, as far as it can be judged without building it; `tests/package deb` does that.

use std::process::Command;

use crate::deploy::{output, root, text};

fn package() -> toml::Table {
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    manifest["package"]["metadata"]["deb"].as_table().unwrap().clone()
}

#[test]
fn every_asset_of_the_package_is_there_or_made_by_its_build() {
    let package = package();
    let made = text("deploy/package");
    let mut placed = Vec::new();
    for asset in package["assets"].as_array().unwrap() {
        let [source, target, mode] = [0, 1, 2].map(|part| asset[part].as_str().unwrap());
        placed.push(format!("/{target}{}", source.rsplit('/').next().unwrap()));
        assert!(["644", "755"].contains(&mode), "{source}");
        if let Some(name) = source.strip_prefix("target/package/") {
            let name = name.strip_suffix("/*.1").unwrap_or(name);
            assert!(made.contains(&format!("$to/{name}\"")), "deploy/package makes no {name}");
        } else if let Some(dir) = source.strip_suffix("/*.toml") {
            assert!(root().join(dir).is_dir(), "{source}");
        } else {
            assert!(
                source == "target/release/tidemill" || root().join(source).is_file(),
                "{source}"
            );
        }
    }
    for conf in package["conf-files"].as_array().unwrap() {
        assert!(placed.iter().any(|path| path == conf.as_str().unwrap()), "{conf}");
    }
    for script in ["postinst", "prerm", "postrm"] {
        assert!(root().join("deploy/debian").join(script).is_file(), "{script}");
    }
}

#[test]
fn the_shell_scripts_are_clean() {
    let scripts = [
        "deploy/debian/postinst",
        "deploy/debian/prerm",
        "deploy/debian/postrm",
        "deploy/package",
        "tests/package",
        "tests/run",
    ];
    output(Command::new("shellcheck").args(scripts));
    for script in &scripts[..3] {
        let text = text(script);
        assert!(text.starts_with("#!/bin/sh\n") && text.contains("\nset -e\n"), "{script}");
        output(Command::new("sh").args(["-n", script]));
    }
}

#[test]
fn the_scripts_never_touch_what_users_put_in() {
    // Only empty directories of the spool go, and only a quarantine without a file.
    let purge = text("deploy/debian/postrm");
    for line in purge.lines().filter(|line| line.contains("rm -rf")) {
        assert!(line.contains("\"$one\"") || line.contains("! -name quarantine"), "{line}");
    }
    assert!(!purge.contains("rm -rf \"$spool\"") && !purge.contains("rm -rf \"$state\""));
}
