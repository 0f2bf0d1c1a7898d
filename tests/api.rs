//! The HTTP API and the operator's commands, on the real binary.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/files.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod files;

#[path = "api/client.rs"]
mod client;
#[path = "api/schema.rs"]
mod schema;

#[path = "api/commands.rs"]
mod commands;
#[path = "api/contract.rs"]
mod contract;
#[path = "api/crowd.rs"]
mod crowd;
#[path = "api/steer.rs"]
mod steer;
