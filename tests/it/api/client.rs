//! A client of a running service, over TCP or its socket.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    time::Instant,
};

use serde_json::Value;

use crate::files::{PATIENCE, Running, TestDir};

pub const TOKEN: &str = "0123456789abcdef-of-a-test";

/// A service that listens on TCP, with a token, and at its socket.
pub struct Service {
    pub place: TestDir,
    pub running: Running,
    pub address: SocketAddr,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn of(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).unwrap_or_default().parse().unwrap_or(0);
        Self { status, head: head.to_lowercase(), body: body.to_owned() }
    }
}

impl Service {
    pub fn start(pipeline: &str, args: &[&str]) -> Self {
        Self::start_with(pipeline, args, "")
    }

    pub fn start_with(pipeline: &str, args: &[&str], failpoints: &str) -> Self {
        let place = TestDir::new();
        place.configure(pipeline);
        std::fs::write(place.root().join("token"), format!("{TOKEN}\n")).unwrap();
        let arguments = ["--http", "127.0.0.1:0", "--admin-token-file", "token"];
        let running = place.watch_with(&[&arguments[..], args].concat(), failpoints);
        let log = running.log();
        let address = log.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.unwrap().parse().unwrap();
        Self { place, running, address }
    }

    /// Sends a request over TCP and returns the answer.
    pub fn ask(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        Answer::of(&answer)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    /// Makes a change over TCP, with the token.
    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.ask(&post(path, &format!("Authorization: Bearer {TOKEN}\r\n"), body))
    }

    /// Makes a change over the Unix socket, without a token.
    pub fn post_at_socket(&self, path: &str, body: &str) -> Answer {
        let mut stream = UnixStream::connect(self.place.state().join("admin.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(post(path, "", body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        Answer::of(&answer)
    }

    /// Repeats a request until its answer is as wanted, and returns that.
    pub fn get_until(&self, path: &str, is_so: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path);
            if is_so(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "in vain: {answer:?}");
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    }

    pub fn published(&self) -> u64 {
        self.get("/api/v1/status").json()["pipelines"][0]["published"].as_u64().unwrap()
    }

    /// Waits until this many files are published.
    pub fn until_published(&self, count: u64) {
        self.get_until("/api/v1/status", |answer| {
            answer.json()["pipelines"][0]["published"].as_u64() == Some(count)
        });
    }

    /// Opens the stream.
    pub fn listen(&self) -> Events {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = "GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        Events(BufReader::new(stream))
    }
}

pub fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

/// The events of a stream.
pub struct Events(BufReader<TcpStream>);

impl Events {
    /// Returns the name and data of the next event; skips the chunk headers of HTTP.
    pub fn next(&mut self) -> (String, Value) {
        let mut name = None;
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the stream ended");
            if let Some(event) = line.strip_prefix("event: ") {
                name = Some(event.trim().to_owned());
            } else if let (Some(data), Some(name)) = (line.strip_prefix("data: "), &name) {
                return (name.clone(), serde_json::from_str(data).unwrap());
            }
        }
    }

    /// Returns the data of the next event of this name.
    pub fn until(&mut self, wanted: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (name, data) = self.next();
            if name == wanted {
                return data;
            }
            assert!(Instant::now() < deadline, "no {wanted}");
        }
    }
}
