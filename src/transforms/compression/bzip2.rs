//! bzip2.

#[cfg(feature = "bzip2")]
use super::{Codec, Decoder, FailureCause, Settings, Transform};
use super::{Format, Kind, MIB};

pub static FORMAT: Format = Format {
    name: "bzip2",
    inverse: "bunzip2",
    extension: "bz2",
    tar: &["tbz2", "tbz"],
    older: &[],
    levels: 1..=9,
    default_level: 9,
    has_members: false,
    #[cfg(feature = "bzip2")]
    codec: Some(Codec { encoder, decoder }),
    #[cfg(not(feature = "bzip2"))]
    codec: None,
    encoder_bytes: |_, _| 10 * MIB,
    decoder_bytes: |_| 5 * MIB,
    window_bytes: MIB,
};
pub const KIND: Kind =
    Kind { words: &["bzip2", "bunzip2"], parse: |word, options| FORMAT.parse(word, options) };

#[cfg(feature = "bzip2")]
fn encoder(settings: Settings) -> Result<Box<dyn Transform>, FailureCause> {
    super::compress::Compressor::boxed(settings, |settings| {
        let level = async_compression::Level::Precise(settings.level);
        Ok(Box::new(async_compression::codecs::BzEncoder::new(level.into(), 0)))
    })
}

#[cfg(feature = "bzip2")]
fn decoder(_: u64) -> Decoder {
    Box::new(async_compression::codecs::BzDecoder::new())
}
