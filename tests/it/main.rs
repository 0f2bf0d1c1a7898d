//! The service, its commands and its configuration, in this process and as a real program.

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
#[expect(dead_code, reason = "the proofs use the rest")]
mod mounts;
#[cfg(feature = "failpoints")]
#[path = "../support/neighbour.rs"]
mod neighbour;
#[path = "../support/prove.rs"]
mod prove;
#[cfg(feature = "failpoints")]
#[path = "../support/stuck.rs"]
mod stuck;

#[cfg(all(feature = "failpoints", feature = "age"))]
mod age;
mod api;
mod bad_input;
mod command_line;
mod config;
mod corpus;
#[cfg(feature = "failpoints")]
mod exec;
mod hooks;
mod intake;
mod observe;
mod reload;
mod service;
mod tidy;
mod watchdog;
