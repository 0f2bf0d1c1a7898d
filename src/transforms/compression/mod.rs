//! Compression: six formats, each with a transform that compresses and one that decompresses, and
//! `decompress`, which detects the format.
//!
//! A format is a file with one [`Format`] and one [`Kind`], and a line of [`FORMATS`].

pub mod brotli;
pub mod bzip2;
mod compress;
mod decompress;
#[cfg(feature = "gzip")]
mod deflate;
mod detect;
pub mod gzip;
#[cfg(feature = "gzip")]
mod gzip_blocks;
#[cfg(feature = "brotli")]
mod large_window;
pub mod lz4;
#[cfg(feature = "lz4")]
mod lz4_frames;
mod spec;
pub mod xz;
pub mod zstd;

use std::{ffi::OsStr, ops::RangeInclusive, os::unix::ffi::OsStrExt, sync::Arc};

use async_compression::{
    codecs::{DecodeV2, EncodeV2},
    core::util::WriteBuffer,
};

use self::spec::{Compress, Decompress};
use super::{Error, FailureCause, Kind, Next, Parsed, Transform, without_options};

type Encoder = Box<dyn EncodeV2 + Send>;
type Decoder = Box<dyn DecodeV2 + Send>;

const MIB: u64 = 1 << 20;
/// Option of gzip: each block becomes a member.
const MEMBERS: &str = "members";

/// A compressed format.
#[derive(Debug)]
pub struct Format {
    /// Its compressing transform, and the feature of the build.
    name: &'static str,
    /// Its decompressing transform.
    inverse: &'static str,
    extension: &'static str,
    /// Extensions that abbreviate `.tar` and the format's extension.
    tar: &'static [&'static str],
    /// Extensions of older files of the format, which are stripped too.
    older: &'static [&'static str],
    levels: RangeInclusive<i32>,
    default_level: i32,
    /// Whether it has the option `members`.
    has_members: bool,
    /// `None` if the program was built without it.
    codec: Option<Codec>,
    /// Maximum memory of an encoder: from the formulas of the library where they exist, else measured.
    encoder_bytes: fn(level: i32, threads: u32) -> u64,
    /// Maximum memory of a decoder with a window of at most this number of bytes.
    decoder_bytes: fn(u64) -> u64,
    /// The largest window that its encoder uses, in bytes.
    window_bytes: u64,
}

/// The functions that create the codec of a format.
#[derive(Debug)]
struct Codec {
    encoder: fn(Settings) -> Result<Box<dyn Transform>, FailureCause>,
    /// Takes the maximum size of the window in bytes.
    decoder: fn(u64) -> Decoder,
}

/// The settings of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settings {
    level: i32,
    /// Whether each block is a separate member (gzip only). Readers can decompress members in
    /// parallel; some readers stop after the first one.
    members: bool,
    threads: u32,
}

pub static FORMATS: [&Format; 6] =
    [&zstd::FORMAT, &gzip::FORMAT, &brotli::FORMAT, &xz::FORMAT, &bzip2::FORMAT, &lz4::FORMAT];

/// Decompresses the format that the first bytes show. With the option `or-copy` it leaves other files as
/// they are, unless their name says that they are compressed.
pub const DETECT: Kind = Kind {
    words: &["decompress"],
    parse: |word, options| match options {
        None => Ok(Arc::new(Decompress { format: None, or_copy: false })),
        Some(OR_COPY) => Ok(Arc::new(Decompress { format: None, or_copy: true })),
        Some(other) => Err(format!("`{other}` is not an option of `{word}`: it has `{OR_COPY}`")),
    },
};
const OR_COPY: &str = "or-copy";

/// Returns `name` without the extension of a format; `None` if it has none.
fn without_extension(name: &[u8]) -> Option<Vec<u8>> {
    FORMATS.iter().find_map(|format| format.strip(name))
}

/// Returns whether a name has the extension of a format.
pub fn is_compressed(name: &OsStr) -> bool {
    without_extension(name.as_bytes()).is_some()
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Format {}

impl Format {
    /// Returns the extension of the format's files, without the dot.
    #[must_use]
    pub const fn extension(&self) -> &'static str {
        self.extension
    }

    /// Returns the word of the compressing transform.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the word of the decompressing transform.
    #[must_use]
    pub const fn inverse(&self) -> &'static str {
        self.inverse
    }

    /// Returns the largest window that its encoder uses, in bytes.
    #[must_use]
    pub const fn window_bytes(&self) -> u64 {
        self.window_bytes
    }

    fn codec(&self) -> Result<&Codec, FailureCause> {
        self.codec.as_ref().ok_or(FailureCause::NotCompiledIn(self.name))
    }

    /// Parses one of the format's two transforms.
    fn parse(&'static self, word: &str, options: Option<&str>) -> Parsed {
        if word == self.inverse {
            return without_options(
                word,
                options,
                Decompress { format: Some(self), or_copy: false },
            );
        }
        let (mut level, mut members) = (self.default_level, false);
        if let Some(text) = options {
            // `LEVEL`, `members`, or both, as in `gzip:6:members`.
            let (level_text, has_members) = match text.rsplit_once(':') {
                Some((level, MEMBERS)) => (Some(level), true),
                _ if text == MEMBERS => (None, true),
                _ => (Some(text), false),
            };
            if has_members && !self.has_members {
                return Err(format!("only `gzip` has members, `{word}` has none"));
            }
            members = has_members;
            if let Some(text) = level_text {
                level = self.parse_level(text)?;
            }
        }
        Ok(Arc::new(Compress { format: self, level, members }))
    }

    fn parse_level(&self, text: &str) -> Result<i32, String> {
        match text.parse() {
            Ok(level) if self.levels.contains(&level) => Ok(level),
            _ => Err(format!(
                "`{text}` is not a level of `{}`: it takes {} to {}",
                self.name,
                self.levels.start(),
                self.levels.end()
            )),
        }
    }

    /// Returns `name` without the format's extension, or `None` if it has another one.
    fn strip(&self, name: &[u8]) -> Option<Vec<u8>> {
        let extensions = std::iter::once(&self.extension).chain(self.older);
        if let Some(stem) =
            extensions.into_iter().find_map(|extension| strip_extension(name, extension))
        {
            return Some(stem.to_vec());
        }
        let stem = self.tar.iter().find_map(|tar| strip_extension(name, tar))?;
        Some([stem, b".tar"].concat())
    }
}

/// Returns `stem` of `stem.extension`, unless it is empty. The extension may have either case.
pub(super) fn strip_extension<'a>(name: &'a [u8], extension: &str) -> Option<&'a [u8]> {
    let at = name.len().checked_sub(extension.len() + 1)?;
    let (stem, tail) = name.split_at_checked(at)?;
    let (dot, tail_extension) = tail.split_first()?;
    let matches = *dot == b'.' && tail_extension.eq_ignore_ascii_case(extension.as_bytes());
    (matches && !stem.is_empty()).then_some(stem)
}

/// Passes the written bytes to the next transform.
fn pass(output: &WriteBuffer<'_>, next: &mut Next<'_>) -> Result<(), Error> {
    if output.written().is_empty() { Ok(()) } else { next(output.written()) }
}
