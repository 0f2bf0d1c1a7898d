//! Every command and option as a user types them, and the exit codes they get.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests are the users who move and remove files")]

mod check;
mod copy;
mod ends;
mod explain;
mod ledger;
mod log;
mod operate;
mod plan;
mod put;
mod reprocess;
mod requeue;
mod serve;
mod terminal;
mod words;
