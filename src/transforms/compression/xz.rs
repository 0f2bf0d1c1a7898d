//! xz, and the older lzma.

#[cfg(feature = "xz")]
use super::{Codec, Decoder, FailureCause, Settings, Transform};
use super::{Format, Kind, MIB};

pub static FORMAT: Format = Format {
    name: "xz",
    inverse: "unxz",
    extension: "xz",
    tar: &["txz", "tlz"],
    older: &["lzma"],
    levels: 0..=9,
    default_level: 6,
    has_members: false,
    #[cfg(feature = "xz")]
    codec: Some(Codec { encoder, decoder }),
    #[cfg(not(feature = "xz"))]
    codec: None,
    encoder_bytes,
    decoder_bytes: |window| window + MIB,
    // The dictionary of preset 9, and what its decoder adds.
    window_bytes: 65 * MIB,
};
pub const KIND: Kind =
    Kind { words: &["xz", "unxz"], parse: |word, options| FORMAT.parse(word, options) };

/// Dictionary for files compressed in one piece. They are smaller, so a preset's larger dictionary would
/// waste memory.
#[cfg(feature = "xz")]
const SMALL_DICTIONARY_BYTES: u32 = 1024 * 1024;

#[cfg(feature = "xz")]
fn encoder(settings: Settings) -> Result<Box<dyn Transform>, FailureCause> {
    super::compress::Compressor::boxed(settings, |Settings { level, threads, .. }| {
        use async_compression::codecs::{
            Xz2Encoder, XzEncoder,
            lzma::params::{LzmaEncoderParams, LzmaFilter, LzmaFilters, LzmaOptions},
        };
        let preset = u32::try_from(level).unwrap_or_default();
        // The dictionaries of the presets 0 and 1 are not larger.
        if threads > 0 || preset < 2 {
            let level = async_compression::Level::Precise(level);
            return Ok(Box::new(XzEncoder::new(level)));
        }
        let options = LzmaOptions::default().preset(preset).dict_size(SMALL_DICTIONARY_BYTES);
        let filters = LzmaFilters::default().add_filter(LzmaFilter::Lzma2(options));
        let check = liblzma::stream::Check::Crc64;
        let encoder = Xz2Encoder::try_from(LzmaEncoderParams::Stream { filters, check });
        Ok(Box::new(encoder.map_err(|error| FailureCause::Failed(error.into()))?))
    })
}

#[cfg(feature = "xz")]
fn decoder(window_bytes_max: u64) -> Decoder {
    Box::new(async_compression::codecs::XzDecoder::with_memlimit(window_bytes_max))
}

/// The table of presets in xz(1).
fn encoder_bytes(preset: i32, threads: u32) -> u64 {
    match preset {
        0 => 3 * MIB,
        1 => 9 * MIB,
        _ if threads == 0 => 16 * MIB,
        2 => 17 * MIB,
        3 => 32 * MIB,
        4 => 48 * MIB,
        ..=6 => 94 * MIB,
        7 => 186 * MIB,
        8 => 370 * MIB,
        _ => 674 * MIB,
    }
}
