//! The format by its first bytes, and the class of a decoder's error.

use std::io;

use super::{FORMATS, Format, lz4};

/// Number of bytes that identify every detectable format.
pub const MAGIC_BYTES: usize = 16;

/// Detects the format by a file's first bytes. Brotli cannot be detected.
pub fn detect(bytes: &[u8]) -> Option<&'static Format> {
    if let [0x02, 0x21, 0x4c, 0x18, ..] = bytes {
        return Some(&lz4::FORMAT);
    }
    let extension = infer::get(bytes)?.extension();
    FORMATS.into_iter().find(|format| format.extension == extension)
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
