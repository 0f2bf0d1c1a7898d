//! What the kernel and the process itself report about it.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
};

use crate::files::Running;

/// The `status` of each of its threads.
pub fn threads(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let paths = tasks.map(|task| task.unwrap().path().join("status"));
    // A thread that ends while this looks is none that runs.
    paths.filter_map(|path| fs::read_to_string(path).ok()).collect()
}

/// The value of a line of a `status`.
pub fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find(|line| line.starts_with(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).split_once(':').unwrap().1.trim()
}

/// The most memory it ever had in use, in bytes.
pub fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kib: u64 = field(&status, "VmHWM").trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

/// What its descriptors are of.
pub fn open_files(pid: u32) -> Vec<PathBuf> {
    let listed = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    listed.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
}

/// What it answers over HTTP.
pub fn get(running: &Running, path: &str) -> String {
    let log = running.log();
    let (_, rest) = log.split_once("HTTP server listening").unwrap();
    let (_, rest) = rest.split_once("http://").unwrap();
    let mut stream = TcpStream::connect(rest.split('/').next().unwrap()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    body.to_owned()
}
