//! Traces, as a receiver of OTLP over HTTP gets them from the real program, sandbox and all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{Span, status::StatusCode},
};
use prost::Message;
use rustix::process::{Pid, Signal, kill_process};

use crate::monitor::service::{Process, place, until};

const STEPS: [&str; 8] =
    ["discover", "settle", "claim", "read", "transform", "write", "commit", "dispose"];

/// The requests that were taken.
type Bodies = Arc<Mutex<Vec<Vec<u8>>>>;

/// What the receiver does with the next requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Takes,
    /// 503 for the first requests, as many as this.
    BusyFor(usize),
    /// Reads and never answers.
    Silent,
}

/// A receiver on loopback. Dropping it ends it.
struct Receiver {
    address: SocketAddr,
    bodies: Bodies,
    requests: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
        let address = listener.local_addr().expect("address");
        let (bodies, requests) = (Bodies::default(), Arc::new(AtomicUsize::new(0)));
        let is_over = Arc::new(AtomicBool::new(false));
        let kept = (Arc::clone(&bodies), Arc::clone(&requests), Arc::clone(&is_over));
        // One connection at a time, as the service has one.
        let serve = move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                while let Some(body) = request(&stream) {
                    let number = requests.fetch_add(1, Ordering::SeqCst);
                    let status = match mood {
                        Mood::Silent => continue,
                        Mood::BusyFor(count) if number < count => "503 Service Unavailable",
                        Mood::Takes | Mood::BusyFor(_) => {
                            bodies.lock().expect("bodies").push(body);
                            "200 OK"
                        }
                    };
                    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                    (&stream).write_all(answer.as_bytes()).ok();
                }
            }
        };
        let thread = Some(std::thread::spawn(serve));
        let (bodies, requests, is_over) = kept;
        Self { address, bodies, requests, is_over, thread }
    }

    fn spans(&self) -> Vec<Span> {
        let bodies = self.bodies.lock().expect("bodies");
        let requests = bodies.iter().map(|body| {
            ExportTraceServiceRequest::decode(body.as_slice()).expect("a message of OTLP")
        });
        let scopes = requests.flat_map(|request| request.resource_spans).flat_map(|resource| {
            let sent = resource.resource.expect("a resource");
            assert_eq!(text(&sent.attributes, "service.name").as_deref(), Some("tidemill"));
            resource.scope_spans
        });
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// The spans of each file: the root, and the others by their name.
    fn files(&self) -> Vec<(Span, BTreeMap<String, Span>)> {
        let mut traces: BTreeMap<Vec<u8>, Vec<Span>> = BTreeMap::new();
        for span in self.spans() {
            traces.entry(span.trace_id.clone()).or_default().push(span);
        }
        let file = |spans: Vec<Span>| {
            let count = spans.len();
            let ids: BTreeSet<_> = spans.iter().map(|span| span.span_id.clone()).collect();
            assert_eq!(ids.len(), count, "two spans have one id");
            let (mut roots, children): (Vec<_>, Vec<_>) =
                spans.into_iter().partition(|span| span.parent_span_id.is_empty());
            let root = roots.pop().expect("a root");
            assert!(roots.is_empty() && root.name == "file");
            for child in &children {
                assert_eq!(child.parent_span_id, root.span_id, "{}", child.name);
                let is_within = root.start_time_unix_nano <= child.start_time_unix_nano
                    && child.start_time_unix_nano <= child.end_time_unix_nano
                    && child.end_time_unix_nano <= root.end_time_unix_nano;
                assert!(is_within, "{} is not within its file", child.name);
            }
            let named: BTreeMap<_, _> =
                children.into_iter().map(|span| (span.name.clone(), span)).collect();
            assert_eq!(named.len() + 1, count, "two spans have one name");
            (root, named)
        };
        traces.into_values().map(file).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the one who waits for a connection.
        TcpStream::connect(self.address).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// The body of the next request; none where the connection is closed.
fn request(stream: &TcpStream) -> Option<Vec<u8>> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    if line.is_empty() {
        return None;
    }
    assert_eq!(line, "POST /v1/traces HTTP/1.1\r\n");
    let mut length = 0;
    let mut is_protobuf = false;
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let head = line.trim_end().to_ascii_lowercase();
        if head.is_empty() {
            break;
        }
        if let Some(value) = head.strip_prefix("content-length: ") {
            length = value.parse().expect("a length");
        }
        is_protobuf |= head == "content-type: application/x-protobuf";
    }
    assert!(is_protobuf && length > 0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}

fn text(
    attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue],
    key: &str,
) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}

/// Runs the service on `in` with this configuration.
fn start(dir: &Path, receiver: SocketAddr, more: &str, pipeline: &str) -> Process {
    let config = format!(
        "http = \"off\"\nstate_dir = \"state\"\n{more}\n[otlp]\nendpoint = \"http://{receiver}\"\n\
         paths = {}\n[[pipeline]]\nname = \"main\"\ninput = \"in\"\noutput = \"out\"\n{pipeline}\n",
        !pipeline.contains("# no paths")
    );
    fs::write(dir.join("tidemill.toml"), config).expect("configuration");
    let log = fs::File::options().append(true).create(true).open(dir.join("log")).expect("log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    command.args(["run", "--config", "tidemill.toml"]).current_dir(dir).env("RUST_LOG", "info");
    Process(command.stdout(Stdio::null()).stderr(log).spawn().expect("start"))
}

fn ended(process: &mut Process) -> Option<i32> {
    let mut status = None;
    until("the service ends", || {
        status = process.0.try_wait().expect("wait");
        status.is_some()
    });
    status.and_then(|status| status.code())
}

fn log(dir: &Path) -> String {
    fs::read_to_string(dir.join("log")).expect("log")
}

#[test]
fn a_processed_file_is_a_span_with_one_below_it_for_each_of_the_eight_stages() {
    let (dir, receiver) = (place(), Receiver::start(Mood::Takes));
    let sizes = [("small.log", 5_000), ("large.log", 3_000_000)];
    for (name, size) in sizes {
        fs::write(dir.path().join("in").join(name), vec![b'a'; size]).expect("write");
    }
    let once = start(dir.path(), receiver.address, "once = true", "on_success = \"delete\"");
    assert_eq!(ended(&mut { once }), Some(0), "{}", log(dir.path()));
    let files = receiver.files();
    assert_eq!(files.len(), 2, "{}", log(dir.path()));
    for (root, stages) in files {
        let sent = |key| text(&root.attributes, key).unwrap_or_default();
        let path = sent("file.path");
        let (_, size) = sizes.iter().find(|(name, _)| *name == path).expect("one of the two");
        assert_eq!(sent("tidemill.source_bytes"), size.to_string());
        let output = fs::metadata(dir.path().join("out").join(path.clone() + ".zst"));
        assert_eq!(sent("tidemill.output_bytes"), output.expect("output").len().to_string());
        assert_eq!([sent("tidemill.pipeline"), sent("tidemill.outcome")], ["main", "published"]);
        assert_eq!(sent("tidemill.attempt"), "1");
        assert_eq!(root.status.expect("a status").code(), StatusCode::Ok);
        let names: BTreeSet<_> = stages.keys().map(String::as_str).collect();
        assert_eq!(names, STEPS.into(), "{path}");
        // A large file is in three stages at once, and they begin as their threads do.
        let at_once = if path == "large.log" { 3..6 } else { 3..4 };
        let before = STEPS[..3].chunks(1).chain([&STEPS[at_once.clone()]]);
        let groups: Vec<_> = before.chain(STEPS[at_once.end..].chunks(1)).collect();
        for pair in groups.windows(2) {
            let end = pair[0].iter().map(|stage| stages[*stage].end_time_unix_nano).max();
            let start = pair[1].iter().map(|stage| stages[*stage].start_time_unix_nano).min();
            assert!(end <= start, "{path}: {pair:?} {stages:?}");
        }
    }
    // What the configuration came to means the same.
    let mut check = Command::new(env!("CARGO_BIN_EXE_tidemill"));
    check.args(["check", "--all", "--config", "state/config.toml"]).current_dir(dir.path());
    let printed = String::from_utf8(check.output().expect("check").stdout).expect("text");
    let kept = fs::read_to_string(dir.path().join("state/config.toml")).expect("read");
    assert!(printed.contains("[otlp]") && printed == kept, "{printed}{kept}");
}

#[test]
fn a_file_that_fails_has_the_stages_it_came_to_and_no_path_unless_asked_for() {
    let (dir, receiver) = (place(), Receiver::start(Mood::Takes));
    fs::write(dir.path().join("in/secret-name.gz"), "this is no gzip").expect("write");
    let pipeline = "transforms = \"gunzip\"\nattempts = 1 # no paths";
    let once = start(dir.path(), receiver.address, "once = true", pipeline);
    assert_eq!(ended(&mut { once }), Some(65), "{}", log(dir.path()));
    let files = receiver.files();
    let [(root, stages)] = files.as_slice() else { panic!("{files:?}") };
    assert_eq!(text(&root.attributes, "tidemill.outcome").as_deref(), Some("quarantined"));
    assert_eq!(root.status.as_ref().expect("a status").code(), StatusCode::Error);
    let names: BTreeSet<_> = stages.keys().map(String::as_str).collect();
    assert_eq!(names, ["discover", "settle", "claim", "read", "transform", "dispose"].into());
    let bodies = receiver.bodies.lock().expect("bodies");
    let secret = b"secret-name";
    let sent = |body: &Vec<u8>| body.windows(secret.len()).any(|part| part == secret);
    assert!(!bodies.iter().any(sent), "the path was sent");
}

#[test]
fn a_receiver_that_is_busy_gets_the_traces_once_it_is_not() {
    let (dir, receiver) = (place(), Receiver::start(Mood::BusyFor(2)));
    fs::write(dir.path().join("in/a.log"), "hello").expect("write");
    let service = start(dir.path(), receiver.address, "", "on_success = \"delete\"");
    until("the trace arrives", || !receiver.files().is_empty());
    assert_eq!(receiver.requests.load(Ordering::SeqCst), 3, "{}", log(dir.path()));
    kill_process(Pid::from_child(&service.0), Signal::TERM).expect("signal");
    assert_eq!(ended(&mut { service }), Some(0), "{}", log(dir.path()));
    assert_eq!(receiver.files().len(), 1);
    assert!(log(dir.path()).contains("OTLP export resumed"), "{}", log(dir.path()));
}

#[test]
fn without_a_receiver_files_are_processed_and_the_stop_is_not_held_up() {
    // Nobody listens at its port once it is dropped.
    let gone = TcpListener::bind("127.0.0.1:0").expect("listen").local_addr().expect("address");
    let silent = Receiver::start(Mood::Silent);
    for address in [gone, silent.address] {
        let dir = place();
        for number in 0..50 {
            fs::write(dir.path().join(format!("in/{number}")), "hello").expect("write");
        }
        let pipeline = "on_success = \"delete\"";
        let mut service = start(dir.path(), address, "shutdown_deadline = \"20s\"", pipeline);
        let is_empty = || fs::read_dir(dir.path().join("in")).expect("list").next().is_none();
        until("every file is processed", is_empty);
        kill_process(Pid::from_child(&service.0), Signal::TERM).expect("signal");
        assert_eq!(ended(&mut service), Some(0), "{}", log(dir.path()));
        let log = log(dir.path());
        assert!(log.contains("last OTLP traces not sent\" files=50"), "{log}");
    }
}

#[test]
fn what_is_wrong_with_the_table_is_reported_with_what_to_write_instead() {
    let dir = place();
    let pipeline = "[[pipeline]]\ninput = \"in\"\noutput = \"out\"\n";
    for (table, sent) in [
        ("sampling = 0.5", "write `endpoint = \"http://127.0.0.1:4318\"`"),
        ("endpoint = \"https://127.0.0.1:4318\"", "an endpoint is `http://IP:PORT`"),
        ("endpoint = \"http://collector:4318\"", "host names are not resolved"),
        ("endpont = \"http://127.0.0.1:4318\"", "write `endpoint`"),
        ("endpoint = \"http://127.0.0.1:4318\"\nsampling = 2", "another from 0 to 1"),
        ("endpoint = \"http://127.0.0.1:4318\"\npaths = \"yes\"", "write `paths = true`"),
    ] {
        let path = dir.path().join("tidemill.toml");
        fs::write(path, format!("[otlp]\n{table}\n{pipeline}")).expect("configuration");
        let mut check = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        check.args(["check", "--config", "tidemill.toml"]).current_dir(dir.path());
        let checked = check.output().expect("check");
        let printed = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), Some(78), "{table}");
        assert!(printed.contains(sent), "{sent}\n{printed}");
    }
}
