//! What a directory may hold, and what may happen to it: each with a clear error that names the
//! file and the step, nothing lost, nothing left behind. The real binary on real files.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests are the users who move and remove files")]

#[path = "support/files.rs"]
mod files;
#[path = "support/mounts.rs"]
#[expect(dead_code, reason = "not every proof uses all of it")]
mod mounts;
#[path = "support/prove.rs"]
mod prove;

#[path = "bad_input/again.rs"]
mod again;
#[path = "bad_input/changing.rs"]
mod changing;
#[path = "bad_input/content.rs"]
mod content;
#[path = "bad_input/kinds.rs"]
mod kinds;
#[path = "bad_input/names.rs"]
mod names;
#[path = "bad_input/storage.rs"]
mod storage;
#[path = "bad_input/taken.rs"]
mod taken;

/// Says loudly that a test did not run for want of a privilege; where `CI` is set, that fails.
fn skipped(why: &str) {
    println!("SKIPPED: {why}");
    assert!(std::env::var_os("CI").is_none(), "not in CI: {why}");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
