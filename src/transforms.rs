//! The chain of transforms of a file, as written in `--transform`, and the resulting names.

pub mod memory;

use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::{OsStrExt, OsStringExt},
    str::FromStr,
};

/// Option of gzip: each block becomes a member.
const MEMBERS: &str = "members";

/// A compressed format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    Zstd,
    Gzip,
    Brotli,
    Xz,
    Bzip2,
    Lz4,
}

/// One format: its compressing and decompressing transforms, its extensions and its levels.
struct FormatInfo {
    format: Format,
    compress: &'static str,
    decompress: &'static str,
    extension: &'static str,
    /// Extensions that abbreviate `.tar` and the format's extension.
    tar: &'static [&'static str],
    /// Extensions of older files of the format, which are stripped too.
    older: &'static [&'static str],
    levels: std::ops::RangeInclusive<i32>,
    default_level: i32,
}

#[rustfmt::skip]
const FORMATS: [FormatInfo; 6] = [
    FormatInfo { format: Format::Zstd,   compress: "zstd",   decompress: "unzstd",   extension: "zst", tar: &["tzst"],        older: &[],       levels: 1..=19, default_level: 3 },
    FormatInfo { format: Format::Gzip,   compress: "gzip",   decompress: "gunzip",   extension: "gz",  tar: &["tgz"],         older: &[],       levels: 1..=9,  default_level: 6 },
    FormatInfo { format: Format::Brotli, compress: "brotli", decompress: "unbrotli", extension: "br",  tar: &[],              older: &[],       levels: 0..=11, default_level: 5 },
    FormatInfo { format: Format::Xz,     compress: "xz",     decompress: "unxz",     extension: "xz",  tar: &["txz", "tlz"],  older: &["lzma"], levels: 0..=9,  default_level: 6 },
    FormatInfo { format: Format::Bzip2,  compress: "bzip2",  decompress: "bunzip2",  extension: "bz2", tar: &["tbz2", "tbz"], older: &[],       levels: 1..=9,  default_level: 9 },
    FormatInfo { format: Format::Lz4,    compress: "lz4",    decompress: "unlz4",    extension: "lz4", tar: &[],              older: &[],       levels: 1..=12, default_level: 1 },
];

impl Format {
    pub const ALL: [Self; 6] =
        [Self::Zstd, Self::Gzip, Self::Brotli, Self::Xz, Self::Bzip2, Self::Lz4];

    fn info(self) -> &'static FormatInfo {
        let [zstd, gzip, brotli, xz, bzip2, lz4] = &FORMATS;
        match self {
            Self::Zstd => zstd,
            Self::Gzip => gzip,
            Self::Brotli => brotli,
            Self::Xz => xz,
            Self::Bzip2 => bzip2,
            Self::Lz4 => lz4,
        }
    }

    /// Returns the extension of the format's files, without the dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        self.info().extension
    }

    /// Returns the name of the format, which is also its compressing transform.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.info().compress
    }

    /// Returns `name` without the format's extension, or `None` if it has another one.
    fn strip(self, name: &[u8]) -> Option<Vec<u8>> {
        let info = self.info();
        let extensions = std::iter::once(&info.extension).chain(info.older);
        if let Some(stem) =
            extensions.into_iter().find_map(|extension| strip_extension(name, extension))
        {
            return Some(stem.to_vec());
        }
        let stem = info.tar.iter().find_map(|tar| strip_extension(name, tar))?;
        Some([stem, b".tar"].concat())
    }
}

/// Returns `stem` of `stem.extension`, unless it is empty. The extension may have either case.
fn strip_extension<'a>(name: &'a [u8], extension: &str) -> Option<&'a [u8]> {
    let at = name.len().checked_sub(extension.len() + 1)?;
    let (stem, tail) = name.split_at_checked(at)?;
    let (dot, tail_extension) = tail.split_first()?;
    let matches = *dot == b'.' && tail_extension.eq_ignore_ascii_case(extension.as_bytes());
    (matches && !stem.is_empty()).then_some(stem)
}

/// One transform of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    Compress {
        format: Format,
        level: i32,
        /// Whether each block is a separate member (gzip only). Readers can decompress members in
        /// parallel; some readers stop after the first one.
        members: bool,
    },
    Decompress(Format),
    /// Decompress the format that the first bytes show.
    DecompressAny,
    /// Leave the bytes as they are.
    Copy,
}

impl FromStr for Transform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, options) = match text.split_once(':') {
            Some((word, options)) => (word, Some(options)),
            None => (text, None),
        };
        let transform = if word == "decompress" {
            Self::DecompressAny
        } else if word == "copy" {
            Self::Copy
        } else if let Some(info) = FORMATS.iter().find(|info| info.decompress == word) {
            Self::Decompress(info.format)
        } else if let Some(info) = FORMATS.iter().find(|info| info.compress == word) {
            return parse_compress(info, options);
        } else {
            return Err(unknown_transform(word));
        };
        match options {
            None => Ok(transform),
            Some(_) => Err(format!("`{word}` takes no options")),
        }
    }
}

/// Parses `LEVEL`, `members`, or both, as in `gzip:6:members`.
fn parse_compress(info: &FormatInfo, options: Option<&str>) -> Result<Transform, String> {
    let mut transform = (info.default_level, false);
    if let Some(text) = options {
        let (level, members) = match text.rsplit_once(':') {
            Some((level, MEMBERS)) => (Some(level), true),
            _ if text == MEMBERS => (None, true),
            _ => (Some(text), false),
        };
        if members && info.format != Format::Gzip {
            return Err(format!("only `gzip` has members, `{}` has none", info.compress));
        }
        transform.1 = members;
        if let Some(level) = level {
            transform.0 = parse_level(info, level)?;
        }
    }
    let (level, members) = transform;
    Ok(Transform::Compress { format: info.format, level, members })
}

fn parse_level(info: &FormatInfo, text: &str) -> Result<i32, String> {
    match text.parse() {
        Ok(level) if info.levels.contains(&level) => Ok(level),
        _ => Err(format!(
            "`{text}` is not a level of `{}`: it takes {} to {}",
            info.compress,
            info.levels.start(),
            info.levels.end()
        )),
    }
}

fn unknown_transform(word: &str) -> String {
    let words: Vec<&str> = FORMATS
        .iter()
        .flat_map(|info| [info.compress, info.decompress])
        .chain(["decompress", "copy"])
        .collect();
    let words = words.join("`, `");
    if word.is_empty() {
        return format!("a transform is missing: the transforms are `{words}`");
    }
    format!("`{word}` is not a transform: the transforms are `{words}`")
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compress { format, level, members } => {
                let members = if *members { ":members" } else { "" };
                write!(f, "{}:{level}{members}", format.info().compress)
            }
            Self::Decompress(format) => f.write_str(format.info().decompress),
            Self::DecompressAny => f.write_str("decompress"),
            Self::Copy => f.write_str("copy"),
        }
    }
}

/// At least one transform, in the order of application.
///
/// ```
/// let chain: tidemill::transforms::Chain = "gunzip,zstd:9".parse()?;
/// assert_eq!(chain.output_name("a.log.gz".as_ref()), "a.log.zst");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain(Vec<Transform>);

impl Chain {
    /// Returns the default chain: zstd at its default level.
    #[must_use]
    pub fn zstd() -> Self {
        let level = Format::Zstd.info().default_level;
        Self(vec![Transform::Compress { format: Format::Zstd, level, members: false }])
    }

    #[must_use]
    pub fn transforms(&self) -> &[Transform] {
        &self.0
    }

    /// Returns whether a transform can enlarge a file without an inherent bound.
    #[must_use]
    pub fn decompresses(&self) -> bool {
        !self
            .0
            .iter()
            .all(|transform| matches!(transform, Transform::Compress { .. } | Transform::Copy))
    }

    /// Returns warnings about valid but questionable combinations.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let pairs = self.0.windows(2).filter_map(|pair| match pair {
            [
                first @ Transform::Compress { format, .. },
                second @ Transform::Decompress(undone_format),
            ] if format == undone_format => Some(format!("`{second}` undoes `{first}`")),
            [first @ Transform::Compress { .. }, second @ Transform::DecompressAny] => {
                Some(format!("`{second}` undoes `{first}`"))
            }
            [first @ Transform::Compress { .. }, second @ Transform::Compress { .. }] => {
                Some(format!("`{second}` compresses the output of `{first}` again"))
            }
            _ => None,
        });
        pairs.collect()
    }

    /// Returns whether the output equals the source, byte for byte.
    #[must_use]
    pub fn only_copies(&self) -> bool {
        self.0.iter().all(|transform| *transform == Transform::Copy)
    }

    /// Returns the output name for a source name: a decompressing transform strips its extension, if
    /// present, and a compressing one appends its extension.
    #[must_use]
    pub fn output_name(&self, source: &OsStr) -> OsString {
        let mut name = source.as_bytes().to_vec();
        for transform in &self.0 {
            let stripped = match transform {
                Transform::Compress { format, .. } => {
                    name.push(b'.');
                    name.extend_from_slice(format.extension().as_bytes());
                    None
                }
                Transform::Decompress(format) => format.strip(&name),
                Transform::Copy => None,
                Transform::DecompressAny => {
                    Format::ALL.iter().find_map(|format| format.strip(&name))
                }
            };
            name = stripped.unwrap_or(name);
        }
        OsString::from_vec(name)
    }

    /// Returns the extension that the last transform appends, if any.
    #[must_use]
    pub fn added_extension(&self) -> Option<&'static str> {
        match self.0.last() {
            Some(Transform::Compress { format, .. }) => Some(format.extension()),
            _ => None,
        }
    }
}

impl FromStr for Chain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(|transform| transform.trim().parse())
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, transform) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{transform}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(text: &str) -> Chain {
        text.parse().expect(text)
    }

    #[test]
    fn names_follow_the_transforms() {
        for (transforms, source, output) in [
            ("zstd", "a.log", "a.log.zst"),
            ("gunzip,zstd:9", "a.log.gz", "a.log.zst"),
            ("gunzip", "a.tgz", "a.tar"),
            ("gunzip", "A.GZ", "A"),
            ("unxz", "a.lzma", "a"),
            ("unxz", "a.tlz", "a.tar"),
            ("gunzip", "plain", "plain"),
            ("gunzip", ".gz", ".gz"),
            ("decompress,xz", "b.bz2", "b.xz"),
            ("decompress", "b.br", "b"),
            ("zstd,gzip", "c", "c.zst.gz"),
            ("copy", "d.gz", "d.gz"),
        ] {
            assert_eq!(
                chain(transforms).output_name(source.as_ref()),
                output,
                "{transforms} {source}"
            );
        }
    }

    #[test]
    fn transforms_that_undo_or_repeat_each_other_cause_a_warning() {
        for (transforms, warning) in [
            ("gzip,gunzip", "`gunzip` undoes `gzip:6`"),
            ("gzip,decompress", "`decompress` undoes `gzip:6`"),
            ("zstd,gzip", "`gzip:6` compresses the output of `zstd:3` again"),
        ] {
            assert_eq!(chain(transforms).warnings(), [warning], "{transforms}");
        }
        for transforms in ["gzip", "gunzip,zstd", "gunzip,gunzip", "zstd,copy"] {
            assert!(chain(transforms).warnings().is_empty(), "{transforms}");
        }
    }

    #[test]
    fn a_name_that_is_not_utf8_keeps_its_bytes() {
        let name = OsStr::from_bytes(b"\xff\n.gz");
        assert_eq!(chain("gunzip").output_name(name).as_bytes(), b"\xff\n");
    }

    #[test]
    fn errors_name_the_valid_values() {
        assert!("zstd:20".parse::<Chain>().unwrap_err().contains("takes 1 to 19"));
        assert!("gzip:0:members".parse::<Chain>().unwrap_err().contains("takes 1 to 9"));
        assert!(
            "gzip:6:member".parse::<Chain>().unwrap_err().contains("`6:member` is not a level")
        );
        assert!("zstd:3:members".parse::<Chain>().unwrap_err().contains("only `gzip` has members"));
        assert!("gunzip:3".parse::<Chain>().unwrap_err().contains("takes no options"));
        assert!("zip".parse::<Chain>().unwrap_err().contains("`bunzip2`"));
        assert!("".parse::<Chain>().is_err());
        assert!("zstd,,gzip".parse::<Chain>().is_err());
    }

    #[test]
    fn a_chain_is_displayed_as_it_is_written() {
        assert_eq!(chain("gunzip, zstd").to_string(), "gunzip,zstd:3");
        assert_eq!(chain("gzip:members").to_string(), "gzip:6:members");
        assert_eq!(chain("gzip:9:members").to_string(), "gzip:9:members");
    }
}
