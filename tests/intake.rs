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

use files::{Place, Running};

fn is_published(place: &Place, name: &str) -> bool {
    place.output().join(name).exists()
}

/// Its log, once it has stopped, with nothing left behind.
fn ends_well(place: &Place, running: Running) -> String {
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    place.assert_clean();
    ended.stderr
}
