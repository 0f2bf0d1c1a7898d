//! What the intake takes, and when: names that are not final, renames while a file is in work,
//! markers, mounts, leases, scans that never seem to end, and places that fall sick.

#![cfg(feature = "failpoints")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests are another program")]

#[path = "support/files.rs"]
#[expect(dead_code, reason = "not every proof uses all of it")]
mod files;
#[path = "support/prove.rs"]
mod prove;

#[path = "intake/liveness.rs"]
mod liveness;
#[path = "intake/names.rs"]
mod names;
#[path = "intake/renames.rs"]
mod renames;
