#![no_main]

#[path = "../exercises/mod.rs"]
mod exercises;

libfuzzer_sys::fuzz_target!(|data: &[u8]| exercises::codec::decompress(data));
