//! The maximum memory of the codecs of a chain.
//!
//! The figures are upper bounds: from the formulas of the libraries where they exist, else measured.

use super::{Chain, Format, Transform};
use crate::{
    limits::{LANE_BYTES, SMALL_FILE_MAX_BYTES, STEP_BUFFER_BYTES},
    policy::ExpansionLimits,
};

const MIB: u64 = 1 << 20;
/// Memory that a decoder may always use: enough for zstd's levels up to 19 and the default levels of
/// the other formats.
const DECODER_BYTES_MIN: u64 = 8 * MIB;

/// Logarithms of zstd's window, hash table and chain table by level (`clevels.h` of 1.5).
const ZSTD_TABLE_LOGS: [(u32, u32, u32); 19] = [
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
/// First level at which zstd's chain table is a binary tree, with two entries per position.
const ZSTD_TREE_LEVEL_MIN: i32 = 13;
/// Size of zstd's parallel jobs up to level 9. A worker needs a few times this. Higher levels have
/// larger windows, which need larger jobs.
const ZSTD_JOB_BYTES: u32 = 2 << 20;
const ZSTD_JOB_LEVEL_MAX: i32 = 9;

/// Sizes of zstd's tables for a level, limited to the size of the input. zstd limits them only if it
/// is given the size.
#[derive(Clone, Copy, Debug)]
pub struct ZstdTables {
    pub window_log: u32,
    pub hash_log: u32,
    pub chain_log: u32,
}

impl ZstdTables {
    pub fn of(level: i32) -> Self {
        let row = usize::try_from(level - 1).ok().and_then(|row| ZSTD_TABLE_LOGS.get(row));
        let &(window_log, hash_log, chain_log) = row.unwrap_or(&(23, 22, 24));
        Self { window_log, hash_log, chain_log }
    }

    /// Returns the tables for inputs of at most [`SMALL_FILE_MAX_BYTES`].
    pub fn small(level: i32) -> Self {
        let Self { hash_log, chain_log, .. } = Self::of(level);
        let window_log = SMALL_FILE_MAX_BYTES.ilog2();
        if level <= 3 {
            return Self { window_log, hash_log: 15, chain_log: 14 };
        }
        let trees = u32::from(level >= ZSTD_TREE_LEVEL_MIN);
        let hash_log = hash_log.min(window_log + 1);
        Self { window_log, hash_log, chain_log: chain_log.min(window_log + trees) }
    }

    const fn bytes(self) -> u64 {
        (4 << self.hash_log) + (4 << self.chain_log)
    }
}

/// Returns the size of zstd's jobs, or `None` where zstd chooses it.
pub fn zstd_job_bytes(level: i32) -> Option<u32> {
    (level <= ZSTD_JOB_LEVEL_MAX).then_some(ZSTD_JOB_BYTES)
}

/// Memory of the codecs of a chain for one file.
#[derive(Clone, Copy, Debug)]
pub struct Need<'a> {
    chain: &'a Chain,
    bounds: ExpansionLimits,
}

impl<'a> Need<'a> {
    /// Makes the need with decoders limited to the bounds, and to less if needed to fit the limit.
    #[must_use]
    pub fn within(chain: &'a Chain, bounds: ExpansionLimits, limit: u64) -> Self {
        let decoders =
            chain.transforms().iter().filter(|transform| decodes(**transform)).count() as u64;
        let without_decoders =
            Self { chain, bounds: ExpansionLimits { decoder_bytes: 0, ..bounds } }.of_large(1);
        let share = limit.saturating_sub(without_decoders).checked_div(decoders).unwrap_or(limit);
        let decoder_bytes = bounds.decoder_bytes.min(share.max(DECODER_BYTES_MIN));
        Self { chain, bounds: ExpansionLimits { decoder_bytes, ..bounds } }
    }

    /// Returns the bounds with the memory limit of each decoder.
    #[must_use]
    pub const fn bounds(&self) -> ExpansionLimits {
        self.bounds
    }

    /// Returns the bytes with `threads` worker threads for each transform that supports them; 0 is for
    /// small files, on the caller's thread.
    #[must_use]
    pub fn bytes(&self, threads: u32) -> u64 {
        let transform = |transform: &Transform| {
            let codec = match *transform {
                Transform::Compress { format, level, .. } => encoder(format, level, threads),
                Transform::Decompress(format) => decoder(format, self.bounds.decoder_bytes),
                Transform::DecompressAny => {
                    let all = Format::ALL.map(|format| decoder(format, self.bounds.decoder_bytes));
                    all.into_iter().max().unwrap_or_default()
                }
                Transform::Copy => 0,
            };
            codec + STEP_BUFFER_BYTES as u64
        };
        self.chain.transforms().iter().map(transform).sum()
    }

    /// Returns the bytes for a large file, including the chunks between the transforms.
    #[must_use]
    pub fn of_large(&self, threads: u32) -> u64 {
        self.bytes(threads) + LANE_BYTES
    }
}

fn decodes(transform: Transform) -> bool {
    matches!(transform, Transform::Decompress(_) | Transform::DecompressAny)
}

fn encoder(format: Format, level: i32, threads: u32) -> u64 {
    let workers = u64::from(threads);
    match (format, level) {
        (Format::Zstd, _) if threads == 0 => ZstdTables::small(level).bytes() + 3 * MIB,
        (Format::Zstd, _) => {
            let tables = ZstdTables::of(level);
            let job = u64::from(zstd_job_bytes(level).unwrap_or(4 << tables.window_log));
            // The ring of the input, the outputs of the jobs, and one context per worker.
            (1 << tables.window_log)
                + (workers + 3) * job
                + (workers + 2) * job
                + workers * (tables.bytes() + 2 * MIB)
        }
        (Format::Gzip, _) if threads == 0 => 4 * MIB,
        // A compressor, two blocks in flight and their outputs.
        (Format::Gzip, _) => 2 * MIB + workers * 7 * MIB,
        (Format::Brotli, ..=4) => 12 * MIB,
        (Format::Brotli, ..=9) => 48 * MIB,
        (Format::Brotli, _) => 80 * MIB,
        (Format::Bzip2, _) => 10 * MIB,
        (Format::Lz4, _) => 2 * MIB,
        // The table of presets in xz(1).
        (Format::Xz, 0) => 3 * MIB,
        (Format::Xz, 1) => 9 * MIB,
        (Format::Xz, _) if threads == 0 => 16 * MIB,
        (Format::Xz, 2) => 17 * MIB,
        (Format::Xz, 3) => 32 * MIB,
        (Format::Xz, 4) => 48 * MIB,
        (Format::Xz, ..=6) => 94 * MIB,
        (Format::Xz, 7) => 186 * MIB,
        (Format::Xz, 8) => 370 * MIB,
        (Format::Xz, _) => 674 * MIB,
    }
}

fn decoder(format: Format, window_max: u64) -> u64 {
    match format {
        Format::Zstd | Format::Xz => window_max + MIB,
        // Streams without a large window have a window of up to 16 MiB.
        Format::Brotli => window_max.max(16 * MIB) + MIB,
        Format::Gzip => MIB,
        Format::Bzip2 => 5 * MIB,
        // The blocks of its legacy frames.
        Format::Lz4 => 18 * MIB,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(text: &str) -> Chain {
        text.parse().expect(text)
    }

    #[test]
    fn decoders_share_the_rest_of_the_limit() {
        let bounds = ExpansionLimits { output_bytes: 1, ratio: 1, decoder_bytes: 128 * MIB };
        let decoder =
            |text, limit| Need::within(&chain(text), bounds, limit).bounds().decoder_bytes;
        assert_eq!(decoder("unzstd", 1 << 40), 128 * MIB);
        assert!(decoder("unzstd", 64 * MIB) < 64 * MIB);
        assert!(decoder("unzstd,unzstd", 64 * MIB) < 32 * MIB);
        assert_eq!(decoder("unxz", MIB), DECODER_BYTES_MIN);
        let chain = chain("unxz,zstd:3");
        assert!(Need::within(&chain, bounds, 64 * MIB).bytes(1) <= 64 * MIB);
    }

    #[test]
    fn tables_for_small_files_are_no_larger_than_the_file() {
        for level in 1..=19 {
            let small = ZstdTables::small(level).bytes();
            assert!(small <= 4 * MIB, "{level}: {small}");
        }
    }
}
