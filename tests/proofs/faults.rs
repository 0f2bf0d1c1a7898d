//! Every system call that touches a file is killed in turn, and fails in turn: a restart finishes
//! the work, once, and the exit code is right.
//!
//! `strace` counts and tampers with the calls; its count is each thread's own, so "the 3rd `read`"
//! is that of whichever thread gets there first. `PROVE_COUNT` asks for more points than the sample
//! of the short form; as many as there are, or more, is all of them.

#![cfg(feature = "failpoints")]
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by a panic")]
#![expect(clippy::unnecessary_debug_formatting, reason = "a name may hold anything")]

mod device;
mod errors;
mod kills;
mod late;
mod place;
mod trace;
