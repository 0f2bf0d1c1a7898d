//! Hostile input: producers who swap names, bombs, sly names, and what the process may still do if
//! one of them got hold of it. The real binary on real files.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests are the users who move and remove files")]

#[path = "support/files.rs"]
mod files;
#[path = "support/prove.rs"]
mod prove;

#[path = "hostile/bombs.rs"]
mod bombs;
#[path = "hostile/large.rs"]
mod large;
#[path = "hostile/many.rs"]
mod many;
#[path = "hostile/memory.rs"]
mod memory;
#[path = "hostile/modes.rs"]
mod modes;
#[path = "hostile/names.rs"]
mod names;
#[path = "hostile/packed.rs"]
mod packed;
#[path = "hostile/paths.rs"]
mod paths;
#[path = "hostile/policies.rs"]
mod policies;
#[path = "hostile/privileges.rs"]
mod privileges;
#[path = "hostile/process.rs"]
mod process;
#[path = "hostile/programs.rs"]
mod programs;
#[path = "hostile/sandbox.rs"]
mod sandbox;
#[path = "hostile/swaps.rs"]
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
