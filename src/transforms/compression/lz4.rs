//! LZ4.

#[cfg(feature = "lz4")]
use super::{Codec, Decoder, FailureCause, Settings, Transform};
use super::{Format, Kind, MIB};

pub static FORMAT: Format = Format {
    name: "lz4",
    inverse: "unlz4",
    extension: "lz4",
    tar: &[],
    older: &[],
    levels: 1..=12,
    default_level: 1,
    has_members: false,
    #[cfg(feature = "lz4")]
    codec: Some(Codec { encoder, decoder }),
    #[cfg(not(feature = "lz4"))]
    codec: None,
    encoder_bytes: |_, _| 2 * MIB,
    // The blocks of its legacy frames.
    decoder_bytes: |_| 18 * MIB,
    window_bytes: 4 * MIB,
};
pub const KIND: Kind =
    Kind { words: &["lz4", "unlz4"], parse: |word, options| FORMAT.parse(word, options) };

#[cfg(feature = "lz4")]
fn encoder(settings: Settings) -> Result<Box<dyn Transform>, FailureCause> {
    super::compress::Compressor::boxed(settings, |settings| {
        let level = async_compression::Level::Precise(settings.level);
        // There is no checksum of the content by default.
        let params =
            async_compression::lz4::EncoderParams::default().level(level).content_checksum(true);
        Ok(Box::new(async_compression::codecs::Lz4Encoder::new(params)))
    })
}

#[cfg(feature = "lz4")]
fn decoder(_: u64) -> Decoder {
    Box::new(super::lz4_frames::Lz4::default())
}
