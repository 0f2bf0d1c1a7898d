//! Every command and option as a user types them, and the exit codes they get.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/files.rs"]
mod files;

#[path = "command_line/ledger.rs"]
mod ledger;
#[path = "command_line/requeue.rs"]
mod requeue;
#[path = "command_line/serve.rs"]
mod serve;
#[path = "command_line/words.rs"]
mod words;
