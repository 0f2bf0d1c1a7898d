//! The service as a real process, on real files.

#![cfg(feature = "failpoints")]
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by a panic")]
#![expect(clippy::unnecessary_debug_formatting, reason = "a name may hold anything")]

#[path = "../support/harness.rs"]
mod harness;
#[path = "../support/prove.rs"]
mod prove;

mod acknowledgement;
mod after_power_loss;
mod bulkheads;
mod deliveries;
mod drain;
mod kill;
#[path = "../support/mounts.rs"]
#[expect(dead_code, reason = "not every proof uses all of it")]
mod mounts;
mod real_tree;
mod recovery_time;
mod resources;
#[path = "../support/stuck.rs"]
mod stuck;
mod taken_directories;
mod together;
mod unfinished;
mod watch;
