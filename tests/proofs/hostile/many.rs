//! Very many tiny files of one producer.

use std::{fs, time::Instant};

use crate::{
    files::{Running, TestDir},
    hostile::process::field,
    prove,
};

const MEMORY_MIB: u64 = 256;
const DESCRIPTORS: u64 = 1300;
const LONGEST_SECONDS: u64 = 300;
/// The least rate in files per second, where more files are asked for.
const LEAST_RATE: u64 = 1000;

/// The most memory (MiB) and descriptors that it has in use until it ends.
pub fn watched(running: &Running, longest: u64) -> (u64, u64) {
    let began = Instant::now();
    let (mut memory, mut descriptors) = (0, 0);
    let at = |file: &str| format!("/proc/{}/{file}", running.pid());
    while let Ok(status) = fs::read_to_string(at("status")) {
        if field(&status, "State").starts_with('Z') {
            break;
        }
        assert!(began.elapsed().as_secs() < longest, "it takes too long");
        if status.contains("VmHWM") {
            let kib: u64 = field(&status, "VmHWM").trim_end_matches(" kB").parse().unwrap();
            memory = kib >> 10;
        }
        let open = fs::read_dir(at("fd")).map_or(0, Iterator::count);
        descriptors = descriptors.max(open as u64);
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
    (memory, descriptors)
}

#[test]
fn very_many_tiny_files_take_bounded_memory_and_descriptors() {
    let name = "very_many_tiny_files_take_bounded_memory_and_descriptors";
    let count = prove::count(100_000);
    let place = TestDir::new();
    for number in 0..count {
        // Some in each directory, as producers do, and most in one.
        let dir = place.input().join(if number % 4 == 0 {
            (number % 97).to_string()
        } else {
            "flood".into()
        });
        if number < 400 {
            fs::create_dir_all(&dir).unwrap();
        }
        fs::write(dir.join(number.to_string()), "x").unwrap();
    }
    let args = [
        "run",
        "--config",
        "tidemill.toml",
        "--once",
        "--on-success",
        "delete",
        "--durability",
        "none",
    ];
    let began = Instant::now();
    let running = Running::start(place.tidemill(&args).env("RUST_LOG", "warn"));
    let longest = LONGEST_SECONDS.max(count as u64 / LEAST_RATE);
    let (memory, descriptors) = watched(&running, longest);
    let seconds = began.elapsed().as_secs();
    let ended = running.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(crate::files::tree(&place.input()).len(), 0);
    assert_eq!(crate::files::tree(&place.output()).len(), count);
    assert!(memory > 0 && memory < MEMORY_MIB, "{memory} MiB");
    assert!(descriptors > 0 && descriptors < DESCRIPTORS, "{descriptors} descriptors");
    let figures: [(&str, &dyn std::fmt::Display); 4] = [
        ("files", &count),
        ("peak_mib", &memory),
        ("descriptors", &descriptors),
        ("seconds", &seconds),
    ];
    prove::report(name, &figures);
    place.assert_clean();
}
