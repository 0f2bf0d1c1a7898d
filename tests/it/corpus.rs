//! The inputs that fuzzing kept, through the same functions, without nightly.
//!
//! Fuzzing itself, each target for as long as one likes (`TMPDIR` in memory makes it quick), and
//! what is new and worth keeping:
//!
//! ```text
//! cargo install cargo-fuzz
//! cd tests/fuzz && export TMPDIR=/dev/shm
//! cargo +nightly fuzz run --fuzz-dir . decompress -- -max_total_time=180 -timeout=20 -max_len=65536
//! cargo +nightly fuzz cmin --fuzz-dir . decompress
//! ```
//!
//! The targets are `decompress`, `roundtrip`, `configuration`, `names` and `ledger`. What they ask
//! stands in `fuzz/exercises/`. An input that fails belongs into `fuzz/corpus/TARGET/`, and its
//! reason into a test of the module that was wrong.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by a panic")]
#![expect(clippy::unnecessary_debug_formatting, reason = "a name may hold anything")]
#![expect(clippy::disallowed_methods, reason = "the tests make and remove files of their own")]

#[path = "../fuzz/exercises/mod.rs"]
mod exercises;

use std::{fs, path::Path};

/// Runs every kept input, and says which one it was that failed.
fn replay(target: &str, exercise: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&corpus).expect("a corpus") {
        let path = entry.expect("entry").path();
        let data = fs::read(&path).expect("read");
        let name = path.file_name().expect("a name").to_owned();
        let ended = std::panic::catch_unwind(|| exercise(&data));
        assert!(ended.is_ok(), "{target}: {} failed", name.display());
        count += 1;
    }
    exercise(&[]);
    assert!(count > 0, "{} is empty", corpus.display());
    println!("proved: corpus of {target} inputs={count} violations=0");
}

#[test]
fn kept_inputs_of_decompress_end_well() {
    replay("decompress", exercises::codec::decompress);
}

#[test]
fn kept_inputs_of_roundtrip_end_well() {
    replay("roundtrip", exercises::codec::roundtrip);
}

#[test]
fn kept_inputs_of_configuration_end_well() {
    replay("configuration", exercises::configuration::configuration);
}

#[test]
fn kept_inputs_of_names_end_well() {
    replay("names", exercises::names::names);
}

#[test]
fn kept_inputs_of_ledger_end_well() {
    replay("ledger", exercises::ledger::ledger);
}
