//! Hostile input: producers who swap names, bombs, sly names, and what the process may still do if
//! one of them got hold of it. The real binary on real files.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests are the users who move and remove files")]

mod bombs;
mod large;
mod many;
mod memory;
mod modes;
mod names;
mod packed;
mod paths;
mod policies;
mod privileges;
mod process;
mod programs;
mod sandbox;
mod swaps;

/// A user without any privilege.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Not a test but the `main` of the children.
#[test]
#[ignore = "run by the tests of this file, as their child"]
fn child() {
    match std::env::var(programs::PROGRAM).as_deref() {
        Ok("confined") => programs::confined(),
        Ok("swaps") => programs::swaps(),
        Ok("many_layers") => programs::many_layers(),
        _ => {}
    }
}
