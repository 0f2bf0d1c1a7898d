//! Zstandard.

use std::sync::Arc;

#[cfg(feature = "zstd")]
use super::{Codec, Decoder, FailureCause, Settings, Transform};
use super::{Format, Kind, MIB, spec::Compress};
use crate::{limits::SMALL_FILE_MAX_BYTES, transforms::Spec};

pub static FORMAT: Format = Format {
    name: "zstd",
    inverse: "unzstd",
    extension: "zst",
    tar: &["tzst"],
    older: &[],
    levels: 1..=19,
    default_level: DEFAULT_LEVEL,
    has_members: false,
    #[cfg(feature = "zstd")]
    codec: Some(Codec { encoder, decoder }),
    #[cfg(not(feature = "zstd"))]
    codec: None,
    encoder_bytes,
    decoder_bytes: |window| window + MIB,
    window_bytes: 8 * MIB,
};
pub const KIND: Kind =
    Kind { words: &["zstd", "unzstd"], parse: |word, options| FORMAT.parse(word, options) };

const DEFAULT_LEVEL: i32 = 3;
/// Logarithms of the window, the hash table and the chain table by level (`clevels.h` of 1.5).
const TABLE_LOGS: [(u32, u32, u32); 19] = [
    (19, 14, 13),
    (20, 16, 15),
    (21, 17, 16),
    (21, 18, 18),
    (21, 19, 18),
    (21, 19, 18),
    (21, 20, 19),
    (21, 20, 19),
    (22, 21, 20),
    (22, 22, 21),
    (22, 22, 21),
    (22, 23, 22),
    (22, 22, 22),
    (22, 23, 22),
    (22, 23, 23),
    (22, 22, 22),
    (23, 22, 23),
    (23, 22, 23),
    (23, 22, 24),
];
/// First level at which the chain table is a binary tree, with two entries per position.
const TREE_LEVEL_MIN: i32 = 13;
/// Size of the parallel jobs up to level 9. A worker needs a few times this. Higher levels have larger
/// windows, which need larger jobs.
const JOB_BYTES: u32 = 2 << 20;
const JOB_LEVEL_MAX: i32 = 9;

/// Returns the default transform.
pub fn default() -> Arc<dyn Spec> {
    Arc::new(Compress { format: &FORMAT, level: DEFAULT_LEVEL, members: false })
}

#[cfg(feature = "zstd")]
fn encoder(settings: Settings) -> Result<Box<dyn Transform>, FailureCause> {
    super::compress::Compressor::boxed_reusable(settings, |settings| {
        use async_compression::zstd::CParameter;
        let Settings { level, threads, .. } = settings;
        // There is no checksum of the content by default.
        let mut params = vec![CParameter::checksum_flag(true)];
        if threads == 0 {
            // zstd is not given the size of the input, and tables for a large one miss the caches.
            let tables = Tables::small(level);
            params.extend([
                CParameter::window_log(tables.window),
                CParameter::hash_log(tables.hash),
                CParameter::chain_log(tables.chain),
            ]);
        }
        if threads > 0 {
            params.push(CParameter::nb_workers(threads));
            params.extend(job_bytes(level).map(CParameter::job_size));
        }
        Ok(Box::new(async_compression::codecs::ZstdEncoder::new_with_params(level, &params)))
    })
}

#[cfg(feature = "zstd")]
fn decoder(window_bytes_max: u64) -> Decoder {
    use async_compression::zstd::DParameter;
    let window = DParameter::window_log_max(window_bytes_max.max(1).ilog2().clamp(10, 31));
    Box::new(async_compression::codecs::ZstdDecoder::new_with_params(&[window]))
}

/// Returns the size of the jobs, or `None` where zstd chooses it.
fn job_bytes(level: i32) -> Option<u32> {
    (level <= JOB_LEVEL_MAX).then_some(JOB_BYTES)
}

fn encoder_bytes(level: i32, threads: u32) -> u64 {
    if threads == 0 {
        return Tables::small(level).bytes() + 3 * MIB;
    }
    let (tables, workers) = (Tables::of(level), u64::from(threads));
    let job = u64::from(job_bytes(level).unwrap_or(4 << tables.window));
    // The ring of the input, the outputs of the jobs, and one context per worker.
    (1 << tables.window)
        + (workers + 3) * job
        + (workers + 2) * job
        + workers * (tables.bytes() + 2 * MIB)
}

/// Logarithms of the sizes of the tables for a level, limited to the size of the input. zstd limits them only if it is
/// given the size.
#[derive(Clone, Copy, Debug)]
struct Tables {
    window: u32,
    hash: u32,
    chain: u32,
}

impl Tables {
    fn of(level: i32) -> Self {
        let row = usize::try_from(level - 1).ok().and_then(|row| TABLE_LOGS.get(row));
        let &(window, hash, chain) = row.unwrap_or(&(23, 22, 24));
        Self { window, hash, chain }
    }

    /// Returns the tables for inputs of at most [`SMALL_FILE_MAX_BYTES`].
    fn small(level: i32) -> Self {
        let Self { hash, chain, .. } = Self::of(level);
        let window = SMALL_FILE_MAX_BYTES.ilog2();
        if level <= 3 {
            return Self { window, hash: 15, chain: 14 };
        }
        let trees = u32::from(level >= TREE_LEVEL_MIN);
        let hash = hash.min(window + 1);
        Self { window, hash, chain: chain.min(window + trees) }
    }

    const fn bytes(self) -> u64 {
        (4 << self.hash) + (4 << self.chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_for_small_files_are_no_larger_than_the_file() {
        for level in 1..=19 {
            let small = Tables::small(level).bytes();
            assert!(small <= 4 * MIB, "{level}: {small}");
        }
    }
}
