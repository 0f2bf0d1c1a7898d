//! The encoder and the decoder of each compiled-in format.

use std::io;

use async_compression::codecs::{DecodeV2, EncodeV2};

use super::Error;
use crate::transforms::{Format, Transform, memory};

pub type Encoder = Box<dyn EncodeV2 + Send>;
pub type Decoder = Box<dyn DecodeV2 + Send>;

/// Dictionary of xz for files compressed in one piece. They are smaller, so a preset's larger dictionary
/// would waste memory.
#[cfg(feature = "xz")]
const SMALL_DICTIONARY_BYTES: u32 = 1024 * 1024;

/// Creates the encoder of a format except gzip, which has [`super::gzip`].
pub fn encoder(
    transform: Transform,
    format: Format,
    level: i32,
    threads: u32,
) -> Result<Encoder, Error> {
    #[cfg(feature = "zstd")]
    if format == Format::Zstd {
        return Ok(Box::new(zstd(level, threads)));
    }
    #[cfg(feature = "brotli")]
    if format == Format::Brotli {
        let level = async_compression::Level::Precise(level);
        let params = async_compression::brotli::EncoderParams::default().quality(level);
        return Ok(Box::new(async_compression::codecs::BrotliEncoder::new(params)));
    }
    #[cfg(feature = "xz")]
    if format == Format::Xz {
        return xz(transform, level, threads);
    }
    #[cfg(feature = "bzip2")]
    if format == Format::Bzip2 {
        let level = async_compression::Level::Precise(level);
        return Ok(Box::new(async_compression::codecs::BzEncoder::new(level.into(), 0)));
    }
    #[cfg(feature = "lz4")]
    if format == Format::Lz4 {
        let level = async_compression::Level::Precise(level);
        // lz4 has no checksum of the content by default.
        let params =
            async_compression::lz4::EncoderParams::default().level(level).content_checksum(true);
        return Ok(Box::new(async_compression::codecs::Lz4Encoder::new(params)));
    }
    let _ = (level, threads);
    Err(Error::NotCompiledIn { transform, format })
}

#[cfg(feature = "zstd")]
fn zstd(level: i32, threads: u32) -> async_compression::codecs::ZstdEncoder {
    use async_compression::zstd::CParameter;
    // zstd has no checksum of the content by default.
    let mut params = vec![CParameter::checksum_flag(true)];
    if threads == 0 {
        // zstd is not given the size of the input, and tables for a large one miss the caches.
        let tables = memory::ZstdTables::small(level);
        params.extend([
            CParameter::window_log(tables.window_log),
            CParameter::hash_log(tables.hash_log),
            CParameter::chain_log(tables.chain_log),
        ]);
    }
    if threads > 0 {
        params.push(CParameter::nb_workers(threads));
        params.extend(memory::zstd_job_bytes(level).map(CParameter::job_size));
    }
    async_compression::codecs::ZstdEncoder::new_with_params(level, &params)
}

#[cfg(feature = "xz")]
fn xz(transform: Transform, level: i32, threads: u32) -> Result<Encoder, Error> {
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
    let encoder = encoder.map_err(|error| Error::Encode { transform, source: error.into() })?;
    Ok(Box::new(encoder))
}

/// Creates the decoder of a format, whose window takes at most `window_bytes_max` bytes.
pub fn decoder(
    transform: Transform,
    format: Format,
    window_bytes_max: u64,
) -> Result<Decoder, Error> {
    #[cfg(feature = "zstd")]
    if format == Format::Zstd {
        use async_compression::zstd::DParameter;
        let window = DParameter::window_log_max(window_bytes_max.max(1).ilog2().clamp(10, 31));
        return Ok(Box::new(async_compression::codecs::ZstdDecoder::new_with_params(&[window])));
    }
    #[cfg(feature = "gzip")]
    if format == Format::Gzip {
        return Ok(Box::new(async_compression::codecs::GzipDecoder::new()));
    }
    #[cfg(feature = "brotli")]
    if format == Format::Brotli {
        return Ok(Box::new(super::brotli::Brotli::new(window_bytes_max)));
    }
    #[cfg(feature = "xz")]
    if format == Format::Xz {
        return Ok(Box::new(async_compression::codecs::XzDecoder::with_memlimit(window_bytes_max)));
    }
    #[cfg(feature = "bzip2")]
    if format == Format::Bzip2 {
        return Ok(Box::new(async_compression::codecs::BzDecoder::new()));
    }
    #[cfg(feature = "lz4")]
    if format == Format::Lz4 {
        return Ok(Box::new(super::lz4::Lz4::default()));
    }
    let _ = window_bytes_max;
    Err(Error::NotCompiledIn { transform, format })
}

/// Number of bytes that identify every detectable format.
pub const MAGIC_BYTES: usize = 16;

/// Detects the format by a file's first bytes. Brotli cannot be detected.
pub fn detect(bytes: &[u8]) -> Option<Format> {
    if let [0x02, 0x21, 0x4c, 0x18, ..] = bytes {
        return Some(Format::Lz4);
    }
    match infer::get(bytes)?.extension() {
        "zst" => Some(Format::Zstd),
        "gz" => Some(Format::Gzip),
        "xz" => Some(Format::Xz),
        "bz2" => Some(Format::Bzip2),
        "lz4" => Some(Format::Lz4),
        _ => None,
    }
}

/// Returns the size of a skippable frame after its eight bytes of header, if `bytes` begin with one.
/// Zstandard and LZ4 share these frames (RFC 8878, 3.1.2), so the next frame identifies the format.
pub fn skippable_bytes(bytes: &[u8]) -> Option<u64> {
    match *bytes {
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, ..] => {
            Some(u64::from(u32::from_le_bytes([a, b, c, d])))
        }
        _ => None,
    }
}

/// Class of a decoder's error. The libraries return many types of errors, and some only texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeFailure {
    Truncated,
    Memory,
    Unsupported(&'static str),
    Damaged,
}

/// Classifies a decoder's error.
pub fn classify(error: &io::Error) -> DecodeFailure {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => return DecodeFailure::Truncated,
        io::ErrorKind::OutOfMemory => return DecodeFailure::Memory,
        _ => {}
    }
    #[cfg(feature = "xz")]
    {
        use liblzma::stream::Error as Xz;
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Xz>()) {
            Some(Xz::MemLimit | Xz::Mem) => return DecodeFailure::Memory,
            Some(Xz::Options) => {
                return DecodeFailure::Unsupported("a filter or an option of this archive");
            }
            Some(Xz::UnsupportedCheck) => {
                return DecodeFailure::Unsupported("the checksum of this archive");
            }
            _ => {}
        }
    }
    match error.to_string().as_str() {
        "Frame requires too much memory for decoding" => DecodeFailure::Memory,
        "Dictionary mismatch" => DecodeFailure::Unsupported("an archive made with a dictionary"),
        "Version not supported" | "Unsupported frame parameter" => {
            DecodeFailure::Unsupported("this version of the format")
        }
        _ => DecodeFailure::Damaged,
    }
}
