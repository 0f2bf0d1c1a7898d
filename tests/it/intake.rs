//! What the intake takes, and when: names that are not final, renames while a file is in flight,
//! markers, mounts, leases, scans that never seem to end, and storage that becomes unavailable.

#![cfg(feature = "failpoints")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tests are another program")]

mod liveness;
mod names;
mod order;
mod priority;
mod renames;
mod successions;
mod windows;

use crate::files::{Running, TestDir};

fn is_published(place: &TestDir, name: &str) -> bool {
    place.output().join(name).exists()
}

/// Its log, once it has stopped, with nothing left behind.
fn ends_well(place: &TestDir, running: Running) -> String {
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    place.assert_clean();
    ended.stderr
}
