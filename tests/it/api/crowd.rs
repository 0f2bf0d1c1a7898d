//! Clients that are slow, huge, or very many, while files are processed.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use rustix::process::Signal;

use crate::{api::client::Service, files::PATIENCE};

const ASK: &[u8] = b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The status of the answer, where one comes.
fn first_line(mut stream: &TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut begin = [0; 12];
    match stream.read_exact(&mut begin) {
        Ok(()) => String::from_utf8_lossy(&begin).into_owned(),
        Err(_) => String::new(),
    }
}

#[test]
fn ten_thousand_that_want_a_stream_cost_no_file_and_leave_the_service_as_it_was() {
    const FILES: usize = 400;
    let service = Service::start("", &[]);
    let pid = service.running.pid();
    let descriptors = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().count();
    let before = descriptors();
    let (mut served, mut refused, mut most) = (Vec::new(), 0, 0);
    for number in 0..10_000 {
        if number % (10_000 / FILES) == 0 {
            service.place.put(format!("{number}"), format!("{number}"));
        }
        let mut stream = TcpStream::connect(service.address).unwrap();
        stream.write_all(ASK).unwrap();
        match first_line(&stream).as_str() {
            "HTTP/1.1 200" => served.push(stream),
            "HTTP/1.1 503" => refused += 1,
            other => panic!("attempt {number}: {other}"),
        }
        if number % 1000 == 0 {
            most = most.max(descriptors());
        }
    }
    assert_eq!((served.len(), refused), (16, 9_984));
    assert!(most < before + 200, "{most} descriptors, {before} before");
    service.until_published(FILES as u64);
    drop(served);
    service.running.signal(Signal::TERM);
    let ended = service.running.end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(std::fs::read_dir(service.place.output()).unwrap().count(), FILES);
}

#[test]
fn clients_that_stall_in_the_middle_and_huge_ones_do_not_keep_others_out() {
    let service = Service::start("", &[]);
    let mut stalled = Vec::new();
    for begin in [
        &b"GET /api/v1/sta"[..],
        b"POST /api/v1/pause HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
        ASK,
    ] {
        for _ in 0..10 {
            let mut stream = TcpStream::connect(service.address).unwrap();
            stream.write_all(begin).unwrap();
            stalled.push(stream);
        }
    }
    // A head that has no end is cut off; whether the refusal is read before that is chance.
    let mut huge = TcpStream::connect(service.address).unwrap();
    huge.set_write_timeout(Some(PATIENCE)).unwrap();
    huge.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
    let block = vec![b'x'; 64 * 1024];
    assert!((0..10_000).any(|_| huge.write_all(&block).is_err()), "640 MB of a head are taken");
    service.place.put("a", "a");
    service.until_published(1);
    assert_eq!(service.get("/readyz").status, 200);
}

#[test]
fn answers_to_browsers_say_what_they_may_load() {
    let service = Service::start("", &[]);
    let page = service
        .ask("GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nConnection: close\r\n\r\n");
    assert_eq!(page.status, 200);
    for path in ["/page.css", "/page.js"] {
        let part = service.get(path);
        assert_eq!(part.status, 200);
        for head in [&page.head, &part.head] {
            assert!(head.contains("content-security-policy: default-src 'none';"), "{head}");
            assert!(head.contains("frame-ancestors 'none'"), "{head}");
            assert!(head.contains("x-content-type-options: nosniff"), "{head}");
        }
    }
    assert!(service.get("/api/v1/status").head.contains("cache-control: no-store"));
}
