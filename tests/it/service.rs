//! The service as a real process, on real files.

#![cfg(feature = "failpoints")]
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by a panic")]
#![expect(clippy::unnecessary_debug_formatting, reason = "a name may hold anything")]

mod acknowledgement;
mod after_power_loss;
mod bulkheads;
mod busy_ledger;
mod checksum;
mod deliveries;
mod drain;
mod kill;
mod operators;
mod private_names;
mod real_tree;
mod recovery_time;
mod resources;
mod retention;
mod taken_directories;
mod together;
mod unfinished;
mod watch;
