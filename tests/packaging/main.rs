//! What is shipped with the program: packages, units, images, rules of a monitor, the page, recipes.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../support/files.rs"]
#[expect(dead_code, reason = "the other executables use the rest")]
mod files;
#[path = "../support/mounts.rs"]
#[expect(dead_code, reason = "the other executables use the rest")]
mod mounts;
#[path = "../support/prove.rs"]
#[expect(dead_code, reason = "the other executables use the rest")]
mod prove;

mod deploy;
mod monitor;
mod page;
mod recipes;
