//! Brotli.

#[cfg(feature = "brotli")]
use super::{Codec, Decoder, FailureCause, Settings, Transform};
use super::{Format, Kind, MIB};

pub static FORMAT: Format = Format {
    name: "brotli",
    inverse: "unbrotli",
    extension: "br",
    tar: &[],
    older: &[],
    levels: 0..=11,
    default_level: 5,
    has_members: false,
    #[cfg(feature = "brotli")]
    codec: Some(Codec { encoder, decoder }),
    #[cfg(not(feature = "brotli"))]
    codec: None,
    encoder_bytes: |level, _| match level {
        ..=4 => 12 * MIB,
        5..=9 => 48 * MIB,
        _ => 80 * MIB,
    },
    // Streams without a large window have a window of up to 16 MiB.
    decoder_bytes: |window| window.max(16 * MIB) + MIB,
    window_bytes: 16 * MIB,
};
pub const KIND: Kind =
    Kind { words: &["brotli", "unbrotli"], parse: |word, options| FORMAT.parse(word, options) };

#[cfg(feature = "brotli")]
fn encoder(settings: Settings) -> Result<Box<dyn Transform>, FailureCause> {
    super::compress::Compressor::boxed(settings, |settings| {
        let level = async_compression::Level::Precise(settings.level);
        let params = async_compression::brotli::EncoderParams::default().quality(level);
        Ok(Box::new(async_compression::codecs::BrotliEncoder::new(params)))
    })
}

#[cfg(feature = "brotli")]
fn decoder(window_bytes_max: u64) -> Decoder {
    Box::new(super::large_window::Brotli::new(window_bytes_max))
}
