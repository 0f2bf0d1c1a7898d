//! The maximum memory of a running chain.

use std::sync::Arc;

use super::{Chain, Effect, Spec, verifier};
use crate::{limits::LANE_BYTES, policy::ExpansionLimits};

const MIB: u64 = 1 << 20;
/// Memory that a decoder may always use: enough for zstd's levels up to 19 and the default levels of
/// the other formats.
const DECODER_BYTES_MIN: u64 = 8 * MIB;

/// Memory of the transforms of a chain for one file.
#[derive(Clone, Copy, Debug)]
pub struct Need<'a> {
    chain: &'a Chain,
    bounds: ExpansionLimits,
    /// Bytes of the verifier, if there is one.
    verifier_bytes: u64,
}

impl<'a> Need<'a> {
    /// Makes the need with decoders limited to the bounds, and to less if needed to fit the limit; with a
    /// verifier if outputs are verified.
    #[must_use]
    pub fn within(chain: &'a Chain, bounds: ExpansionLimits, limit: u64, verify: bool) -> Self {
        let verifier_bytes = if verify { verifier::memory_bytes(chain) } else { 0 };
        let is_decoder = |spec: &&Arc<dyn Spec>| matches!(spec.effect(), Effect::Decompresses(_));
        let decoders = chain.specs().iter().filter(is_decoder).count() as u64;
        let without_decoders =
            Self { chain, bounds: ExpansionLimits { decoder_bytes: 0, ..bounds }, verifier_bytes }
                .of_large(1);
        let share = limit.saturating_sub(without_decoders).checked_div(decoders).unwrap_or(limit);
        let decoder_bytes = bounds.decoder_bytes.min(share.max(DECODER_BYTES_MIN));
        Self { chain, bounds: ExpansionLimits { decoder_bytes, ..bounds }, verifier_bytes }
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
        let specs = self.chain.specs().iter();
        let specs = specs.map(|spec| spec.memory_bytes(threads, self.bounds.decoder_bytes));
        specs.sum::<u64>() + self.verifier_bytes
    }

    /// Returns the bytes for a large file, including the chunks between the transforms.
    #[must_use]
    pub fn of_large(&self, threads: u32) -> u64 {
        self.bytes(threads) + LANE_BYTES
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
            |text, limit| Need::within(&chain(text), bounds, limit, false).bounds().decoder_bytes;
        assert_eq!(decoder("unzstd", 1 << 40), 128 * MIB);
        assert!(decoder("unzstd", 64 * MIB) < 64 * MIB);
        assert!(decoder("unzstd,unzstd", 64 * MIB) < 32 * MIB);
        assert_eq!(decoder("unxz", MIB), DECODER_BYTES_MIN);
        let chain = chain("unxz,zstd:3");
        assert!(Need::within(&chain, bounds, 64 * MIB, false).bytes(1) <= 64 * MIB);
    }
}
