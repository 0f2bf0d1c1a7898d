//! The service manager's watchdog is fed while the service gets on, and only then.

#![cfg(feature = "failpoints")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use rustix::process::Signal;

use crate::files::{Running, TestDir, until};
use crate::manager::Manager;
use crate::mounts::Mount;

/// The time in which the manager expects a message, in microseconds.
const TIMEOUT: &str = "300000";
const NOT_FED: &str = "watchdog not notified, service stalled\" reason=\"";

struct Watched {
    place: TestDir,
    manager: Manager,
    running: Running,
}

impl Watched {
    fn start(failpoints: &str) -> Self {
        Self::start_in(TestDir::new(), failpoints)
    }

    fn start_in(place: TestDir, failpoints: &str) -> Self {
        let manager = Manager::new(&place.root().join("notify"));
        let mut command = place.tidemill(&["run", "--config", "tidemill.toml"]);
        command.env("NOTIFY_SOCKET", manager.path()).env("WATCHDOG_USEC", TIMEOUT);
        let running = Running::start(command.env("FAILPOINTS", failpoints));
        manager.until("READY=1");
        Self { place, manager, running }
    }

    fn meals(&self) -> usize {
        self.manager.messages().iter().filter(|message| message.contains("WATCHDOG=1")).count()
    }

    /// Waits for a line of the log, and takes the manager's messages meanwhile: the kernel holds only
    /// few of them.
    fn until_logged(&self, text: &str) {
        until(text, || self.meals() > 0 && self.running.log().contains(text));
    }

    fn is_fed(&self, times: usize) {
        let before = self.meals();
        until("it is fed", || self.meals() >= before + times);
    }

    /// For ten times the time in which it would be fed it is not.
    fn starves(&self) {
        let before = self.meals();
        std::thread::park_timeout(Duration::from_millis(1500));
        assert_eq!(self.meals(), before, "{}", self.running.log());
    }
}

#[test]
fn an_idle_service_and_a_busy_one_feed_the_watchdog() {
    let watched = Watched::start("");
    watched.is_fed(10);
    for number in 0..100 {
        watched.place.put(format!("{number}"), "content");
    }
    watched.is_fed(10);
    assert!(!watched.running.log().contains(NOT_FED), "{}", watched.running.log());
    assert_eq!(watched.running.stop().code, 0);
}

#[test]
fn a_stuck_stage_stops_the_feeding() {
    let watched = Watched::start("transform=pause");
    watched.place.put("a", "content");
    let message = format!("{NOT_FED}pipeline main: 1 files in flight, no progress for ");
    watched.until_logged(&message);
    watched.starves();
}

#[test]
fn an_intake_that_does_not_turn_stops_the_feeding() {
    let watched = Watched::start("discover=pause");
    watched.place.put("a", "content");
    watched.until_logged(&format!("{NOT_FED}pipeline main: no heartbeat of its intake for "));
    watched.starves();
}

/// A source that goes to an archive on another file system; nothing where none can be mounted.
fn archived_by_a_copy(failpoints: &str) -> Option<(Mount, Watched)> {
    let place = TestDir::new();
    let archive = place.root().join("archive");
    std::fs::create_dir(&archive).unwrap();
    let mount = Mount::memory(&archive, "64m")?;
    place.configure("on_success = \"archive:archive\"");
    Some((mount, Watched::start_in(place, failpoints)))
}

#[test]
fn a_copy_that_hangs_stops_the_feeding() {
    let Some((mount, watched)) = archived_by_a_copy("move::chunk=pause") else { return };
    watched.place.put("a", "content");
    watched.until_logged(&format!("{NOT_FED}pipeline main: 1 files in flight, no progress for "));
    watched.starves();
    drop((watched, mount));
}

#[test]
fn a_copy_that_takes_long_and_gets_on_is_no_reason() {
    let Some((mount, watched)) = archived_by_a_copy("move::chunk=sleep(50)") else { return };
    // 50 chunks, written and read back: the copy takes longer than a stuck service would get.
    watched.place.put("large", vec![7; 50 * 256 * 1024]);
    let archived = watched.place.root().join("archive/large");
    until("archived", || watched.meals() > 0 && archived.exists());
    assert!(!watched.running.log().contains(NOT_FED), "{}", watched.running.log());
    watched.is_fed(1);
    drop((watched, mount));
}

#[test]
fn a_large_file_that_takes_long_and_gets_on_is_no_reason() {
    let watched = Watched::start("read=sleep(200)");
    // 50 chunks: the file takes longer than a stuck service would get.
    watched.place.put("large", vec![7; 50 * 256 * 1024]);
    until("large", || watched.meals() > 0 && watched.place.output().join("large.zst").exists());
    assert!(!watched.running.log().contains(NOT_FED), "{}", watched.running.log());
    watched.is_fed(1);
    assert_eq!(watched.running.stop().code, 0);
}

#[test]
fn an_unavailable_output_is_no_reason() {
    let watched = Watched::start("write=return(enospc)");
    watched.place.put("a", "content");
    watched.until_logged("storage unavailable, intake paused");
    watched.is_fed(30);
    assert!(!watched.running.log().contains(NOT_FED), "{}", watched.running.log());
    assert_eq!(watched.running.stop().code, 75);
}

/// The start and the drain waited until it read: after the stop timeout, the manager kills.
#[test]
fn a_manager_that_reads_nothing_holds_up_neither_the_start_nor_a_reload_nor_the_stop() {
    let place = TestDir::new();
    let manager = Manager::new(&place.root().join("notify"));
    manager.fill();
    let mut command = place.tidemill(&["run", "--config", "tidemill.toml"]);
    command.env("NOTIFY_SOCKET", manager.path()).env("WATCHDOG_USEC", TIMEOUT);
    let running = Running::start(&mut command);
    place.put("a", "content");
    until("it publishes", || place.output().join("a.zst").exists());
    running.signal(Signal::HUP);
    running.until_logged("configuration reloaded");
    let ended = running.stop();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stderr.contains(NOT_FED), "{ended:?}");
}

#[test]
fn a_manager_that_reads_again_gets_the_messages_in_order() {
    let place = TestDir::new();
    let manager = Manager::new(&place.root().join("notify"));
    manager.fill();
    let mut command = place.tidemill(&["run", "--config", "tidemill.toml"]);
    let running = Running::start(command.env("NOTIFY_SOCKET", manager.path()));
    running.until_logged("phase=READY");
    running.signal(Signal::HUP);
    running.until_logged("configuration reloaded");
    manager.until("RELOADING=1");
    assert_eq!(running.stop().code, 0);
    let messages = manager.messages().join("");
    let words = ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"];
    let mut rest = messages.as_str();
    for word in words {
        let at = rest.find(word).unwrap_or_else(|| panic!("no {word} in {messages}"));
        rest = &rest[at + word.len()..];
    }
}
