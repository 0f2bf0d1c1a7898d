//! Every command and option as a user types them, and the exit codes they get.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests are the users who move and remove files")]

mod copy;
mod ends;
mod ledger;
mod reprocess;
mod requeue;
mod serve;
mod words;
