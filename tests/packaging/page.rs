//! The status page in a real browser: Chromium, driven by what is in `tests/page`.
//!
//! Each test is one file of cases there, run by node's own test runner with the service's binary.

#![expect(clippy::expect_used, reason = "a test fails by a panic")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::prove;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page");

/// Where one of these is, on the path.
fn program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|dir| names.iter().map(move |name| dir.join(name)))
        .find(|file| file.is_file())
}

/// Runs one file of cases; each of them must pass, and there must be some.
fn cases(file: &str) {
    let Some(node) = program(&["node", "nodejs"]) else {
        return prove::skipped("the page's tests", "there is no node: `apt-get install nodejs`");
    };
    let Some(chromium) = program(&["chromium", "chromium-browser"]) else {
        return prove::skipped(
            "the page's tests",
            "there is no Chromium: `apt-get install chromium`",
        );
    };
    if !Path::new(HERE).join("node_modules/playwright-core").is_dir() {
        return prove::skipped(
            "the page's tests",
            "tests/page/node_modules is missing: tests/run fetches it",
        );
    }
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    let ran = Command::new(node)
        .args(["--test", "--test-reporter=spec", file])
        .current_dir(HERE)
        .env("CHROMIUM", chromium)
        .env("TIDEMILL", env!("CARGO_BIN_EXE_tidemill"))
        .env("SCREENSHOTS", shots)
        .env_remove("FAILPOINTS")
        .output()
        .expect("run node");
    let said = String::from_utf8_lossy(&ran.stdout);
    println!("{said}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "cases of {file} failed: {}", ran.status);
    let count =
        said.lines().find_map(|line| line.trim_start_matches(['ℹ', ' ']).strip_prefix("pass "));
    assert!(count.is_some_and(|count| count.trim() != "0"), "no case of {file} ran");
}

#[test]
fn the_page_shows_the_real_service_in_each_state_and_each_control_does_what_it_says() {
    cases("service.test.mjs");
}

#[test]
fn the_page_shows_states_and_names_that_are_seldom_met() {
    cases("states.test.mjs");
}

#[test]
fn the_page_works_by_keyboard_for_every_eye_and_ear_and_on_a_phone() {
    cases("access.test.mjs");
}
