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

/// Names what a file's first bytes show, if it is none of the formats.
pub fn unsupported(bytes: &[u8]) -> Option<&'static str> {
    Some(match *bytes {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => "a zip archive",
        [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => "a 7z archive",
        [b'R', b'a', b'r', b'!', 0x1a, 0x07, ..] => "a rar archive",
        [0x1f, 0x9d, ..] => "a file of compress (`.Z`)",
        [b'L', b'Z', b'I', b'P', ..] => "a file of lzip (`.lz`)",
        [0x89, b'L', b'Z', b'O', 0, ..] => "a file of lzop (`.lzo`)",
        [0x1f, 0x8b, method, ..] if method != 8 => "gzip with a method other than deflate",
        [0x1e | 0x22..=0x27, 0xb5, 0x2f, 0xfd, ..] => "zstd from before version 0.8",
        _ => return None,
    })
}

/// Names what a file's first bytes show, if no format was detected by them.
pub fn undetected(bytes: &[u8]) -> Option<&'static str> {
    // Its first bytes are those of other files, too.
    let lzma = || is_lzma(bytes).then_some("the detection of lzma (`unxz` decodes it)");
    unsupported(bytes).or_else(lzma)
}

/// Returns whether these bytes begin as `lzma` writes them: the usual properties, the size of the
/// dictionary, which is a power of two or one and a half, and that of the content, which may be unknown.
fn is_lzma(bytes: &[u8]) -> bool {
    let [0x5d, d0, d1, d2, d3, s0, s1, s2, s3, s4, s5, s6, s7, ..] = *bytes else { return false };
    let dictionary = u32::from_le_bytes([d0, d1, d2, d3]);
    let size = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    let is_usual =
        dictionary.is_power_of_two() || (dictionary % 3 == 0 && (dictionary / 3).is_power_of_two());
    is_usual && dictionary >= 4096 && (size == u64::MAX || size < 1 << 38)
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
