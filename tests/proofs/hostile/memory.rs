//! The memory limit, with the codecs in it.

use std::fs;

use tidemill::{
    policy::ExpansionLimits,
    transforms::{Chain, memory::Need},
};

use crate::{
    files::{Running, TestDir, tree},
    hostile::{many::watched, packed},
    prove,
};

const MIB: u64 = 1 << 20;
/// What the service has in use in addition, in this build: its own code and stacks, the ledger's cache.
const BASE_MIB: u64 = 40;
const LONGEST_SECONDS: u64 = 600;

/// Letters that compress to a half or so, and never repeat for long.
fn noise(bytes: u64, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let letters = (0..bytes.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes().map(|byte| b'a' + (byte & 15))
    });
    letters.collect()
}

/// Two large files and sixty small ones, with memory for hardly more than one large file at a time.
fn within(transforms: &str, content: impl Fn(u64, u64) -> Vec<u8>, large: u64) -> (u64, u64) {
    let chain: Chain = transforms.parse().unwrap();
    let bounds = ExpansionLimits { output_bytes: u64::MAX, ratio: 2000, decoder_bytes: 128 * MIB };
    // Less would be refused; the quarter is for the content.
    let need = Need::within(&chain, bounds, 64 * MIB, false).of_large(1);
    let limit = (need + need / 3).div_ceil(MIB) + 1;
    let place = TestDir::new();
    let table = format!("[limits]\nmemory = \"{limit}MiB\"\nworkers = 2\n");
    let config = place.root().join("tidemill.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("[[pipeline]]", &format!("{table}[[pipeline]]"))).unwrap();
    for number in 0..2 {
        place.put(format!("large{number}"), content(large, number));
    }
    for number in 2..62 {
        place.put(format!("small{number}"), content(MIB / 5, number));
    }
    let args = ["run", "--config", "tidemill.toml", "--once", "--transform", transforms];
    let running = Running::start(&mut place.tidemill(&args));
    let (peak, _) = watched(&running, LONGEST_SECONDS);
    let ended = running.end();
    assert_eq!(ended.code, 0, "{transforms}: {ended:?}");
    assert_eq!(tree(&place.output()).len(), 62, "{transforms}");
    assert!(peak < BASE_MIB + limit, "{transforms}: {peak} MiB with a limit of {limit} MiB");
    (peak, limit)
}

#[test]
fn the_memory_limit_holds_with_the_codecs_in_it() {
    let name = "the_memory_limit_holds_with_the_codecs_in_it";
    let all = prove::count(0) > 0;
    let report = |transforms: &str, (peak, limit): (u64, u64)| {
        prove::report(
            name,
            &[("transforms", &transforms), ("peak_mib", &peak), ("limit_mib", &limit)],
        );
    };
    for (transforms, large, is_quick) in [
        ("zstd:3", 24, true),
        ("zstd:9", 24, false),
        ("zstd:19", 48, false),
        ("gzip:6", 24, true),
        ("bzip2:9", 8, false),
        ("lz4:12", 8, true),
        ("xz:1", 8, true),
        ("xz:6", 24, false),
        ("xz:9", 70, false),
        ("brotli:4", 24, false),
        ("brotli:5", 24, true),
        ("brotli:9", 24, false),
        ("brotli:11", 12, false),
    ] {
        if all || is_quick {
            report(transforms, within(transforms, noise, large * MIB));
        }
    }
    for (transforms, extension) in packed::FORMATS {
        let content = |bytes, seed| packed::pack(extension, &noise(bytes, seed));
        report(transforms, within(transforms, content, 8 * MIB));
    }
}

/// Small sources whose outputs are many times as large: each grows out of the share that its size gave
/// it, and together they would need 16 times the limit.
#[test]
fn the_memory_limit_holds_where_small_sources_become_large_outputs() {
    const LIMIT_MIB: u64 = 96;
    const FILES: u64 = 96;
    let place = TestDir::new();
    let table = format!("[limits]\nmemory = \"{LIMIT_MIB}MiB\"\n");
    let config = place.root().join("tidemill.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("[[pipeline]]", &format!("{table}[[pipeline]]"))).unwrap();
    for number in 0..FILES {
        let content = noise(256 << 10, number).repeat(64);
        place.put(format!("{number}.zst"), packed::pack("zst", &content));
    }
    let args = ["run", "--config", "tidemill.toml", "--once", "--transform", "decompress"];
    let running = Running::start(&mut place.tidemill(&args));
    let (peak, _) = watched(&running, LONGEST_SECONDS);
    let ended = running.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(tree(&place.output()).len() as u64, FILES);
    assert!(peak < BASE_MIB + LIMIT_MIB, "{peak} MiB with a limit of {LIMIT_MIB} MiB");
}
