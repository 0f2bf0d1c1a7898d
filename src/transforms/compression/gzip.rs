//! gzip.

#[cfg(feature = "gzip")]
use super::{Codec, Decoder, FailureCause, Settings, Transform};
use super::{Format, Kind, MIB};

pub static FORMAT: Format = Format {
    name: "gzip",
    inverse: "gunzip",
    extension: "gz",
    tar: &["tgz"],
    older: &[],
    levels: 1..=9,
    default_level: 6,
    has_members: true,
    #[cfg(feature = "gzip")]
    codec: Some(Codec { encoder, decoder }),
    #[cfg(not(feature = "gzip"))]
    codec: None,
    encoder_bytes: |_, threads| match threads {
        0 => 4 * MIB,
        // A compressor, two blocks in flight and their outputs.
        threads => 2 * MIB + u64::from(threads) * 7 * MIB,
    },
    decoder_bytes: |_| MIB,
    window_bytes: 32 * 1024,
};
pub const KIND: Kind =
    Kind { words: &["gzip", "gunzip"], parse: |word, options| FORMAT.parse(word, options) };

#[cfg(feature = "gzip")]
fn encoder(settings: Settings) -> Result<Box<dyn Transform>, FailureCause> {
    Ok(Box::new(super::gzip_blocks::Gzip::new(settings)?))
}

#[cfg(feature = "gzip")]
fn decoder(_: u64) -> Decoder {
    Box::new(async_compression::codecs::GzipDecoder::new())
}
