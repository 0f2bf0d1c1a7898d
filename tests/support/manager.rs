//! A service manager, as far as `sd_notify(3)` goes: a socket that takes messages.

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::Mutex,
};

use crate::harness::until;

pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    got: Mutex<Vec<String>>,
}

impl Manager {
    pub fn new(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("bind");
        socket.set_nonblocking(true).expect("set up");
        Self { socket, path: path.to_path_buf(), got: Mutex::default() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills the socket, so that no further message fits until some are read.
    pub fn fill(&self) {
        loop {
            // A sender has a buffer of its own, which may be full first.
            let sender = UnixDatagram::unbound().expect("a socket");
            sender.set_nonblocking(true).expect("set up");
            sender.connect(&self.path).expect("connect");
            if sender.send(b"STATUS=full").is_err() {
                return;
            }
            while sender.send(b"STATUS=full").is_ok() {}
        }
    }

    /// Waits for a message that has this text.
    pub fn until(&self, text: &str) {
        until(text, || self.messages().iter().any(|message| message.contains(text)));
    }

    /// All that came until now.
    pub fn messages(&self) -> Vec<String> {
        let mut got = self.got.lock().expect("no test panics with it");
        let mut buffer = [0; 4096];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => got.push(String::from_utf8_lossy(&buffer[..length]).into_owned()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return got.clone(),
                Err(error) => panic!("cannot receive: {error}"),
            }
        }
    }
}
