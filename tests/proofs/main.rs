//! What is promised, under power losses, kills, errors, hostile input and load. `tests/prove` runs
//! the long forms.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../support/files.rs"]
mod files;
#[cfg(feature = "failpoints")]
#[path = "../support/harness.rs"]
mod harness;
#[cfg(feature = "failpoints")]
#[path = "../support/manager.rs"]
mod manager;
#[path = "../support/mounts.rs"]
#[expect(dead_code, reason = "the tests of the service use the rest")]
mod mounts;
#[cfg(feature = "failpoints")]
#[path = "../support/neighbour.rs"]
mod neighbour;
#[path = "../support/prove.rs"]
mod prove;
#[cfg(feature = "failpoints")]
#[path = "../support/stuck.rs"]
#[expect(dead_code, reason = "the tests of the service use the rest")]
mod stuck;

mod cost;
mod faults;
mod filesystems;
mod hostile;
mod model;
mod network;
mod powerloss;
mod shutdown;
mod soak;
