//! Each recipe, with the real tool that it is for.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "support/files.rs"]
#[expect(dead_code, reason = "not every proof uses all of it")]
mod files;
#[path = "support/prove.rs"]
mod prove;

#[path = "recipes/rsync.rs"]
mod rsync;
#[path = "recipes/sftp.rs"]
mod sftp;
