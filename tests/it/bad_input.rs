//! What a directory may hold, and what may happen to it: each with a clear error that names the
//! file and the step, nothing lost, nothing left behind. The real binary on real files.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests are the users who move and remove files")]

mod again;
mod attributes;
mod changing;
mod content;
mod free_space;
mod kinds;
mod names;
mod storage;
mod taken;
mod verify;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
