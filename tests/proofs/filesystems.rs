//! File systems that cannot do everything: no rename that refuses to replace, no hard links, several
//! of them in one pipeline, read-only ones, coarse times. The real binary on real mounts; where a
//! machine has none, a gate makes its own file system such a one.

#![cfg(feature = "failpoints")]
#![expect(clippy::disallowed_methods, reason = "the tests are the users who move and remove files")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by a panic")]

mod across;
mod inodes;
mod links;
pub mod odd;
mod oddities;
mod refused;

/// As on a file system without `RENAME_NOREPLACE`.
use crate::harness::LINKS as NO_REPLACE;
/// As on a file system without either.
const NEITHER: &str = "gate::no_replace=return(out);gate::links=return(out)";
