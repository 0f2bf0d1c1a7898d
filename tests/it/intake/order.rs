//! `order`: which of the ready files begins first.

use std::{
    cmp::Reverse,
    fs,
    io::{Read, Write},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    files::{PATIENCE, Running, TestDir, until},
    intake::{
        ends_well,
        liveness::{ask, peak_mib},
    },
    prove,
};

/// A file, with what an order compares.
#[derive(Clone, Debug)]
struct Put {
    name: String,
    size: usize,
    modified: SystemTime,
}

const COUNT: usize = 2000;

/// One file at a time, in this order.
fn place_of(order: &str) -> TestDir {
    let place = TestDir::new();
    place.configure(&format!(
        "transforms = \"copy\"\ndurability = \"none\"\nsettle = \"0s\"\non_success = \"delete\"\norder = \"{order}\"\n[limits]\nfiles = 1\nworkers = 1"
    ));
    place
}

/// Puts small files, in an order that is none of those that can be configured. They are renamed into the
/// input, so that none is ever unfinished.
fn put(place: &TestDir) -> Vec<Put> {
    let now = SystemTime::now();
    let files: Vec<Put> = (0..COUNT)
        .map(|number| Put {
            name: format!("d{}/{:05}", number % 3, number * 7919 % COUNT),
            size: number * 4099 % COUNT,
            modified: now - Duration::from_secs((number * 5003 % COUNT) as u64 + 60),
        })
        .collect();
    let staged = place.root().join("staged");
    for Put { name, size, modified } in &files {
        fs::write(&staged, vec![b'x'; *size]).unwrap();
        fs::File::options().write(true).open(&staged).unwrap().set_modified(*modified).unwrap();
        let path = place.input().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::rename(&staged, path).unwrap();
    }
    files
}

fn expected(mut files: Vec<Put>, order: &str) -> Vec<String> {
    files.sort_by(|one, other| one.name.cmp(&other.name));
    match order {
        "oldest" => files.sort_by_key(|file| file.modified),
        "newest" => files.sort_by_key(|file| Reverse(file.modified)),
        "smallest" => files.sort_by_key(|file| file.size),
        "largest" => files.sort_by_key(|file| Reverse(file.size)),
        _ => {}
    }
    files.into_iter().map(|file| file.name).collect()
}

/// The sources of the events file's acknowledgements, in their order.
pub(super) fn acknowledged(place: &TestDir) -> Vec<String> {
    let events = fs::read_to_string(place.root().join("events")).unwrap_or_default();
    let lines = events.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let published = lines.filter(|line| line["outcome"] == "published");
    published.map(|line| line["source"].as_str().unwrap().to_owned()).collect()
}

/// The answer of the socket to a GET, with its head.
pub(super) fn get(place: &TestDir, path: &str) -> String {
    let socket = place.state().join("admin.sock");
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The status of the only pipeline.
pub(super) fn status(place: &TestDir) -> serde_json::Value {
    let answer = get(place, "/api/v1/status");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str::<serde_json::Value>(body).unwrap()["pipelines"][0].clone()
}

pub(super) fn metrics(place: &TestDir) -> String {
    get(place, "/metrics")
}

/// Waits until this many files are acknowledged, for as long as their number grows.
pub(super) fn until_acknowledged(place: &TestDir, count: usize) {
    let lines = || {
        let events = fs::read(place.root().join("events")).unwrap_or_default();
        events.into_iter().filter(|byte| *byte == b'\n').count()
    };
    let (mut found, mut grew) = (0, Instant::now());
    while found < count {
        assert!(grew.elapsed() < PATIENCE, "{found} of {count} files are acknowledged");
        std::thread::park_timeout(Duration::from_millis(20));
        let now = lines();
        if now > found {
            (found, grew) = (now, Instant::now());
        }
    }
}

fn in_order_with_once(order: &str) {
    let place = place_of(order);
    let files = put(&place);
    let args = ["run", "--config", "tidemill.toml", "--once", "--events", "events"];
    let running = Running::start(place.tidemill(&args).env("RUST_LOG", "info"));
    until_acknowledged(&place, COUNT);
    let ended = running.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(acknowledged(&place), expected(files, order), "{order}");
}

fn in_order_in_a_watching_service(order: &str) {
    let place = place_of(order);
    let running = place.watch(&["--events", "events"]);
    ask(&place, "pause");
    let files = put(&place);
    until("all are found", || status(&place)["pending"] == COUNT);
    ask(&place, "resume");
    until_acknowledged(&place, COUNT);
    ends_well(&place, running);
    assert_eq!(acknowledged(&place), expected(files, order), "{order}");
}

macro_rules! orders {
    ($($order:ident),+) => {
        mod once_acknowledges_in_order {
            $(#[test]
            fn $order() {
                super::in_order_with_once(stringify!($order));
            })+
        }

        mod a_watching_service_acknowledges_in_order {
            $(#[test]
            fn $order() {
                super::in_order_in_a_watching_service(stringify!($order));
            })+
        }
    };
}

orders!(name, oldest, newest, smallest, largest);

#[test]
fn a_file_that_comes_later_passes_those_after_it() {
    const BEFORE: usize = 1500;
    /// More than the stages hold.
    const IN_FLIGHT: usize = 400;
    let place = place_of("name");
    let running = place.watch(&["--events", "events"]);
    ask(&place, "pause");
    for number in 0..BEFORE {
        place.put(format!("m{number:05}"), "content");
    }
    until("all are found", || status(&place)["pending"] == BEFORE);
    ask(&place, "resume");
    until_acknowledged(&place, 1);
    place.put("a", "first");
    let before = acknowledged(&place).len();
    until_acknowledged(&place, BEFORE + 1);
    let position = acknowledged(&place).iter().position(|name| name == "a").unwrap();
    assert!(position < before + IN_FLIGHT, "it waited for {position} files, {before} came before");
    ends_well(&place, running);
}

#[test]
fn more_files_than_an_order_holds_are_acknowledged_in_order_with_bounded_memory() {
    /// More than are held, and few enough to be processed here.
    const SHORT: usize = 20_000;
    const MOST_MIB: u64 = 80;
    let name = "more_files_than_an_order_holds_are_acknowledged_in_order_with_bounded_memory";
    let count = prove::count(SHORT);
    let order = std::env::var("PROVE_ORDER").unwrap_or_else(|_| "name".to_owned());
    let place = TestDir::new();
    place.configure(&format!("transforms = \"copy\"\ndurability = \"none\"\non_success = \"delete\"\norder = \"{order}\"\n[limits]\nworkers = 1"));
    for number in 0..count {
        fs::write(place.input().join(format!("{:07}", number * 7919 % count)), "").unwrap();
    }
    let command = &mut place.tidemill(&["run", "--config", "tidemill.toml", "--events", "events"]);
    let running = Running::start(command.env("RUST_LOG", "info"));
    until_acknowledged(&place, count);
    let peak_mib = peak_mib(running.pid());
    prove::report(name, &[("files", &count), ("order", &order), ("peak_mib", &peak_mib)]);
    let found = acknowledged(&place);
    assert!(order != "name" || found.is_sorted_by(|earlier, later| earlier < later));
    assert!(peak_mib < MOST_MIB, "{peak_mib} MiB");
    ends_well(&place, running);
}
