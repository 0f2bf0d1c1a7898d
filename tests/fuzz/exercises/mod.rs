//! What is fuzzed: functions of arbitrary bytes that panic where something is not as it must be.
//! The fuzz targets call them, and so does `tests/it/corpus.rs` with the inputs that were kept.

#![allow(dead_code, reason = "a fuzz target calls one of them")]

pub mod codec;
pub mod configuration;
pub mod ledger;
pub mod names;

/// The first bytes as parameters, and the rest; zeros where there are too few.
fn parameters<const COUNT: usize>(data: &[u8]) -> ([u8; COUNT], &[u8]) {
    match data.split_first_chunk() {
        Some((parameters, rest)) => (*parameters, rest),
        None => ([0; COUNT], data),
    }
}
