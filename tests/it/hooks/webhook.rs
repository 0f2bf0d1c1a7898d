//! Webhooks, with servers of every kind of bad manners.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use crate::hooks::{HookedService, all_gone, metrics, runner, until};

/// One request, as a server saw it.
struct Seen {
    head: String,
    body: String,
}

/// A server on loopback that answers every request in its way, until it is dropped.
struct Server {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `answer` is given each connection after its request was read; an error of it is the client's end.
    fn start(answer: impl Fn(TcpStream) -> std::io::Result<()> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            loop {
                let (stream, _) = listener.accept().unwrap();
                let Some(request) = request(&stream) else { return };
                noted.lock().unwrap().push(request);
                drop(answer(stream));
            }
        });
        Self { address, seen, thread: Some(thread) }
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A connection without a request ends it.
        drop(TcpStream::connect(&self.address));
        drop(self.thread.take().unwrap().join());
    }
}

fn request(stream: &TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return None;
        }
    }
    let length = head
        .to_lowercase()
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { head, body: String::from_utf8(body).unwrap() })
}

pub fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// A service whose hook is this server, after one file was published.
fn after_one_file(server: &Server, more: &str) -> (HookedService, crate::hooks::Running) {
    let hooks = format!(
        "on_published = {{ url = \"http://{}/hook?a=b\" }}\nbatch_delay = \"0s\"\n{more}",
        server.address
    );
    let hooked = HookedService::new(&hooks);
    let running = hooked.0.watch(&[]);
    hooked.0.put("a", "content");
    until("it gets a request", || server.count() > 0);
    (hooked, running)
}

fn ran(running: &crate::hooks::Running, outcome: &str) {
    let counted =
        format!("tidemill_hook_runs_total{{hook=\"on_published\",outcome=\"{outcome}\"}} ");
    until(&counted, || {
        let metrics = metrics(running);
        let count = metrics.lines().find_map(|line| line.strip_prefix(&*counted));
        count.is_some_and(|count| count != "0")
    });
}

#[test]
fn a_webhook_gets_a_json_array() {
    let server = Server::start(|mut stream| stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n"));
    let (hooked, running) = after_one_file(&server, "");
    ran(&running, "done");
    let seen = server.seen.lock().unwrap().pop().unwrap();
    assert!(seen.head.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{}", seen.head);
    let head = seen.head.to_lowercase();
    assert!(head.contains(&format!("host: {}\r\n", server.address)), "{head}");
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    let body: Vec<serde_json::Value> = serde_json::from_str(&seen.body).unwrap();
    assert_eq!(body, hooked.received("log/events"));
    assert_eq!(running.stop().code, 0);
}

#[test]
fn a_webhook_that_answers_500_has_failed() {
    let server = Server::start(|mut stream| {
        stream.write_all(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
    });
    let (_hooked, running) = after_one_file(&server, "");
    ran(&running, "failed");
    let message = format!("http://{}/hook?a=b returned 500 Internal Server Error", server.address);
    assert!(running.log().contains(&message), "{}", running.log());
    assert_eq!(running.stop().code, 0);
}

#[test]
fn a_webhook_that_hangs_is_given_up_and_delays_nothing() {
    let held = Mutex::new(Vec::new());
    let server = Server::start(move |stream| {
        held.lock().unwrap().push(stream);
        Ok(())
    });
    let (hooked, running) = after_one_file(&server, "timeout = \"2s\"");
    hooked.put(20);
    until("all are published", || hooked.sources().len() == 21);
    running.until_logged("hook timed out, its processes killed");
    ran(&running, "timed_out");
    let runner = runner(&running);
    assert_eq!(running.stop().code, 0);
    all_gone(&[runner]);
}

#[test]
fn of_a_huge_answer_no_more_than_the_head_is_read() {
    let server = Server::start(|mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let chunk = [b"10000\r\n".as_slice(), &vec![b'x'; 0x10000], b"\r\n"].concat();
        // Until the client has gone.
        loop {
            stream.write_all(&chunk)?;
        }
    });
    let (_hooked, running) = after_one_file(&server, "");
    ran(&running, "done");
    assert_eq!(running.stop().code, 0);
}

#[test]
fn a_head_without_an_end_is_refused() {
    let server = Server::start(|mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        for number in 0.. {
            write!(stream, "X-{number}: {}\r\n", "x".repeat(1000))?;
        }
        Ok(())
    });
    let (_hooked, running) = after_one_file(&server, "");
    ran(&running, "failed");
    assert_eq!(running.stop().code, 0);
}

#[test]
fn a_webhook_where_nobody_listens_has_failed() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hooked = HookedService::new(&format!(
        "on_published = {{ url = \"http://{unused}\" }}\nbatch_delay = \"0s\""
    ));
    let running = hooked.0.watch(&[]);
    hooked.0.put("a", "content");
    ran(&running, "failed");
    assert!(running.log().contains("Connection refused"), "{}", running.log());
    assert_eq!(running.stop().code, 0);
}
