//! Every command and option as a user types them, and the exit codes they get.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests are the users who move and remove files")]

#[path = "support/files.rs"]
mod files;

#[path = "command_line/check.rs"]
mod check;
#[path = "command_line/copy.rs"]
mod copy;
#[path = "command_line/ends.rs"]
mod ends;
#[path = "command_line/explain.rs"]
mod explain;
#[path = "command_line/ledger.rs"]
mod ledger;
#[path = "command_line/operate.rs"]
mod operate;
#[path = "command_line/reprocess.rs"]
mod reprocess;
#[path = "command_line/requeue.rs"]
mod requeue;
#[path = "command_line/serve.rs"]
mod serve;
#[path = "command_line/terminal.rs"]
mod terminal;
#[path = "command_line/words.rs"]
mod words;
