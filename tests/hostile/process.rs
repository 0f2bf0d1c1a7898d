//! What the kernel tells of a running process.

use std::fs;

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
