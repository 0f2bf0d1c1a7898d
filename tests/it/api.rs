//! The HTTP API and the operator's commands, on the real binary.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod client;
mod schema;

mod commands;
mod contract;
mod control;
mod crowd;
