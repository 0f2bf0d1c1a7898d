//! The service manager's watchdog, as far as `sd_notify(3)` goes.

use std::{os::unix::net::UnixDatagram, time::Duration};

use crate::files::{PATIENCE, Place, Running, until};

/// A socket that takes messages, and what came.
struct Manager(UnixDatagram);

impl Manager {
    fn new(place: &Place) -> Self {
        let socket = UnixDatagram::bind(place.root().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// The next message.
    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).expect("a message in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// Waits until no message comes for so long.
    fn until_silent(&self, time: Duration) {
        self.0.set_read_timeout(Some(time)).unwrap();
        while self.0.recv(&mut [0; 4096]).is_ok() {}
    }
}

fn watched(place: &Place, usec: &str, failpoints: &str) -> Running {
    let mut command = place.tidemill(&["run", "--config", "tidemill.toml"]);
    command.env("NOTIFY_SOCKET", place.root().join("notify")).env("WATCHDOG_USEC", usec);
    Running::start(command.env("FAILPOINTS", failpoints))
}

#[test]
fn an_idle_service_tells_the_watchdog_that_it_lives() {
    let place = Place::new();
    let manager = Manager::new(&place);
    let running = watched(&place, "200000", "");
    let mut told = 0;
    while told < 5 {
        told += usize::from(manager.next().contains("WATCHDOG=1"));
    }
    assert_eq!(running.stop().code, 0);
}

#[test]
fn a_service_whose_work_stands_still_is_silent() {
    let place = Place::new();
    let manager = Manager::new(&place);
    let running = watched(&place, "200000", "write=pause");
    running.until_said(" ready ");
    place.put("a.log", "held for ever");
    until("the file is in work", || running.log().contains("ready"));
    manager.until_silent(Duration::from_secs(1));
    drop(running);
}

#[test]
fn without_a_watchdog_none_is_told() {
    let place = Place::new();
    let manager = Manager::new(&place);
    let mut command = place.tidemill(&["run", "--config", "tidemill.toml"]);
    let running = Running::start(command.env("NOTIFY_SOCKET", place.root().join("notify")));
    running.until_said(" ready ");
    assert_eq!(running.stop().code, 0);
    manager.0.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4096];
    while let Ok(length) = manager.0.recv(&mut buffer) {
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(!message.contains("WATCHDOG"), "{message}");
    }
}
