//! The memory that the codecs of a chain take at most.
//!
//! The figures are upper bounds: of the libraries' own formulas where there are any, else measured.

use super::{Chain, Format, Transform};
use crate::{
    limits::{LANE_BYTES, SMALL_FILE_MAX_BYTES, STEP_BUFFER_BYTES},
    policy::ExpansionLimits,
};

const MIB: u64 = 1 << 20;
/// A decoder may use this much whatever the limit: zstd's levels up to 19 and the tools' defaults of
/// the other formats need no more.
const DECODER_BYTES_LEAST: u64 = 8 * MIB;

/// zstd's window, hash table and chain table at each level, as logarithms (`clevels.h` of 1.5).
const ZSTD: [(u32, u32, u32); 19] = [
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
/// From this level on zstd's chain table is a binary tree, with two entries for each position.
const ZSTD_TREES: i32 = 13;
/// zstd's parallel jobs up to level 9: memory is a few times this for each worker. Higher levels
/// have larger windows, which need larger jobs.
const ZSTD_JOB_BYTES: u32 = 2 << 20;
const ZSTD_JOBS_TO: i32 = 9;

/// zstd's tables for a level and what is compressed in one piece: no larger than that piece needs,
/// which zstd finds out by itself only where it is told the size.
#[derive(Clone, Copy, Debug)]
pub struct ZstdTables {
    pub window_log: u32,
    pub hash_log: u32,
    pub chain_log: u32,
}

impl ZstdTables {
    pub fn of(level: i32) -> Self {
        let row = usize::try_from(level - 1).ok().and_then(|row| ZSTD.get(row));
        let &(window_log, hash_log, chain_log) = row.unwrap_or(&(23, 22, 24));
        Self { window_log, hash_log, chain_log }
    }

    /// Those for inputs of at most [`SMALL_FILE_MAX_BYTES`].
    pub fn small(level: i32) -> Self {
        let Self { hash_log, chain_log, .. } = Self::of(level);
        let window_log = SMALL_FILE_MAX_BYTES.ilog2();
        if level <= 3 {
            return Self { window_log, hash_log: 15, chain_log: 14 };
        }
        let trees = u32::from(level >= ZSTD_TREES);
        let hash_log = hash_log.min(window_log + 1);
        Self { window_log, hash_log, chain_log: chain_log.min(window_log + trees) }
    }

    const fn bytes(self) -> u64 {
        (4 << self.hash_log) + (4 << self.chain_log)
    }
}

/// The size of zstd's jobs where it is not zstd's own choice.
pub fn zstd_job_bytes(level: i32) -> Option<u32> {
    (level <= ZSTD_JOBS_TO).then_some(ZSTD_JOB_BYTES)
}

/// The memory of the codecs of a chain, for one file at a time.
#[derive(Clone, Copy, Debug)]
pub struct Need<'a> {
    chain: &'a Chain,
    bounds: ExpansionLimits,
}

impl<'a> Need<'a> {
    /// Where decoders may use what the bounds allow, or less, so that all fits into the limit.
    #[must_use]
    pub fn within(chain: &'a Chain, bounds: ExpansionLimits, limit: u64) -> Self {
        let decoders =
            chain.transforms().iter().filter(|transform| decodes(**transform)).count() as u64;
        let alone =
            Self { chain, bounds: ExpansionLimits { decoder_bytes: 0, ..bounds } }.of_large(1);
        let share = limit.saturating_sub(alone).checked_div(decoders).unwrap_or(limit);
        let decoder_bytes = bounds.decoder_bytes.min(share.max(DECODER_BYTES_LEAST));
        Self { chain, bounds: ExpansionLimits { decoder_bytes, ..bounds } }
    }

    /// The bounds, with what decoders may use in fact.
    #[must_use]
    pub const fn bounds(&self) -> ExpansionLimits {
        self.bounds
    }

    /// Bytes, with this many worker threads for each transform that can use them; 0 is for small files, on the
    /// caller's thread.
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

    /// The same for a large file, with the chunks that are on their way through the transforms.
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
            // The ring of the input, the outputs of the jobs, and a context for each worker.
            (1 << tables.window_log)
                + (workers + 3) * job
                + (workers + 2) * job
                + workers * (tables.bytes() + 2 * MIB)
        }
        (Format::Gzip, _) if threads == 0 => 4 * MIB,
        // A compressor, two blocks in work and what they became.
        (Format::Gzip, _) => 2 * MIB + workers * 7 * MIB,
        (Format::Brotli, ..=4) => 12 * MIB,
        (Format::Brotli, ..=9) => 48 * MIB,
        (Format::Brotli, _) => 80 * MIB,
        (Format::Bzip2, _) => 10 * MIB,
        (Format::Lz4, _) => 2 * MIB,
        // xz(1), the table of the presets.
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

fn decoder(format: Format, most: u64) -> u64 {
    match format {
        Format::Zstd | Format::Xz => most + MIB,
        // Streams without the large window have one of up to 16 MiB.
        Format::Brotli => most.max(16 * MIB) + MIB,
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
    fn decoders_share_what_the_limit_leaves() {
        let bounds = ExpansionLimits { output_bytes: 1, ratio: 1, decoder_bytes: 128 * MIB };
        let decoder =
            |text, limit| Need::within(&chain(text), bounds, limit).bounds().decoder_bytes;
        assert_eq!(decoder("unzstd", 1 << 40), 128 * MIB);
        assert!(decoder("unzstd", 64 * MIB) < 64 * MIB);
        assert!(decoder("unzstd,unzstd", 64 * MIB) < 32 * MIB);
        assert_eq!(decoder("unxz", MIB), DECODER_BYTES_LEAST);
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
