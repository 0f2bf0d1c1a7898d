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
            let name = name.split("/*").next().unwrap();
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
fn the_changelog_is_of_this_version_and_maintainer() {
    let parsed = output(Command::new("dpkg-parsechangelog").args([
        "--all",
        "-l",
        "deploy/debian/changelog",
    ]));
    let field = |name: &str| {
        let begin = format!("{name}: ");
        let line = parsed.lines().find_map(|line| line.strip_prefix(&begin));
        line.unwrap_or_else(|| panic!("{parsed}")).to_owned()
    };
    assert_eq!(field("Source"), env!("CARGO_PKG_NAME"));
    let version = field("Version");
    assert_eq!(version.split('-').next(), Some(env!("CARGO_PKG_VERSION")));
    let package = package();
    assert_eq!(field("Maintainer"), package["maintainer"].as_str().unwrap());
    assert_eq!(package["changelog"].as_str().unwrap(), "deploy/debian/changelog");
}

#[test]
fn no_line_of_the_description_is_broken() {
    let package = package();
    let description = package["extended-description"].as_str().unwrap();
    for line in description.lines() {
        assert!(!line.is_empty() && line.chars().count() <= 76, "{line}");
    }
}

#[test]
fn an_installation_prints_the_next_step() {
    let script = text("deploy/debian/postinst");
    assert!(script.contains("usermod -aG tidemill"), "how a producer joins the group");
    for path in ["/var/spool/tidemill/inbox", "/etc/tidemill/tidemill.toml"] {
        let step = script.split("<<'END'").nth(1).unwrap();
        assert!(step.contains(path), "{path}");
    }
}

#[test]
fn the_shell_scripts_are_clean() {
    let scripts = [
        "deploy/debian/postinst",
        "deploy/debian/prerm",
        "deploy/debian/postrm",
        "deploy/image",
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
