//! The chain of transforms a file goes through, as written in `--transform`, and the names that follow.

pub mod memory;

use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::{OsStrExt, OsStringExt},
    str::FromStr,
};

/// The option of a transform by which gzip makes many members.
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

/// One format's words: as a transform, as the transform that undoes it, its extension, its levels.
struct FormatInfo {
    format: Format,
    compress: &'static str,
    decompress: &'static str,
    extension: &'static str,
    /// Extensions that stand for `.tar` and the format's own.
    tar: &'static [&'static str],
    /// Extensions of its older files, which are taken off as well.
    older: &'static [&'static str],
    levels: std::ops::RangeInclusive<i32>,
    default_level: i32,
}

#[rustfmt::skip]
const TABLE: [FormatInfo; 6] = [
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

    fn row(self) -> &'static FormatInfo {
        let [zstd, gzip, brotli, xz, bzip2, lz4] = &TABLE;
        match self {
            Self::Zstd => zstd,
            Self::Gzip => gzip,
            Self::Brotli => brotli,
            Self::Xz => xz,
            Self::Bzip2 => bzip2,
            Self::Lz4 => lz4,
        }
    }

    /// The extension the format's files carry, without the dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        self.row().extension
    }

    /// The word that names the format, which is also the transform that compresses to it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().compress
    }

    /// `name` without the format's extension; `None` where it does not carry it.
    fn strip(self, name: &[u8]) -> Option<Vec<u8>> {
        let row = self.row();
        let own = std::iter::once(&row.extension).chain(row.older);
        if let Some(stem) = own.into_iter().find_map(|own| strip_extension(name, own)) {
            return Some(stem.to_vec());
        }
        let stem = row.tar.iter().find_map(|tar| strip_extension(name, tar))?;
        Some([stem, b".tar"].concat())
    }
}

/// `stem` of `stem.extension`, with the extension in either case; never an empty stem.
fn strip_extension<'a>(name: &'a [u8], extension: &str) -> Option<&'a [u8]> {
    let at = name.len().checked_sub(extension.len() + 1)?;
    let (stem, tail) = name.split_at_checked(at)?;
    let (dot, found) = tail.split_first()?;
    let matches = *dot == b'.' && found.eq_ignore_ascii_case(extension.as_bytes());
    (matches && !stem.is_empty()).then_some(stem)
}

/// One transform of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    Compress {
        format: Format,
        level: i32,
        /// gzip alone: each block is a member of its own, which a reader may decompress beside the
        /// others, and which some readers stop after.
        members: bool,
    },
    Decompress(Format),
    /// Decompress whatever the first bytes say it is.
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
        } else if let Some(row) = TABLE.iter().find(|row| row.decompress == word) {
            Self::Decompress(row.format)
        } else if let Some(row) = TABLE.iter().find(|row| row.compress == word) {
            return parse_compress(row, options);
        } else {
            return Err(unknown_transform(word));
        };
        match options {
            None => Ok(transform),
            Some(_) => Err(format!("`{word}` takes no options")),
        }
    }
}

/// `LEVEL`, `members`, or both: `gzip:6:members`.
fn parse_compress(row: &FormatInfo, options: Option<&str>) -> Result<Transform, String> {
    let mut transform = (row.default_level, false);
    if let Some(text) = options {
        let (level, members) = match text.rsplit_once(':') {
            Some((level, MEMBERS)) => (Some(level), true),
            _ if text == MEMBERS => (None, true),
            _ => (Some(text), false),
        };
        if members && row.format != Format::Gzip {
            return Err(format!("only `gzip` has members, and `{}` has none", row.compress));
        }
        transform.1 = members;
        if let Some(level) = level {
            transform.0 = parse_level(row, level)?;
        }
    }
    let (level, members) = transform;
    Ok(Transform::Compress { format: row.format, level, members })
}

fn parse_level(row: &FormatInfo, text: &str) -> Result<i32, String> {
    match text.parse() {
        Ok(level) if row.levels.contains(&level) => Ok(level),
        _ => Err(format!(
            "`{text}` is not a level of `{}`: it takes {} to {}",
            row.compress,
            row.levels.start(),
            row.levels.end()
        )),
    }
}

fn unknown_transform(word: &str) -> String {
    let known: Vec<&str> = TABLE
        .iter()
        .flat_map(|row| [row.compress, row.decompress])
        .chain(["decompress", "copy"])
        .collect();
    let known = known.join("`, `");
    if word.is_empty() {
        return format!(
            "there is nothing where a transform should be: the transforms are `{known}`"
        );
    }
    format!("`{word}` is not a transform: the transforms are `{known}`")
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compress { format, level, members } => {
                let members = if *members { ":members" } else { "" };
                write!(f, "{}:{level}{members}", format.row().compress)
            }
            Self::Decompress(format) => f.write_str(format.row().decompress),
            Self::DecompressAny => f.write_str("decompress"),
            Self::Copy => f.write_str("copy"),
        }
    }
}

/// Transforms in the order in which a file goes through them; at least one.
///
/// ```
/// let chain: tidemill::transforms::Chain = "gunzip,zstd:9".parse()?;
/// assert_eq!(chain.output_name("a.log.gz".as_ref()), "a.log.zst");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain(Vec<Transform>);

impl Chain {
    /// The default: zstd at its default level.
    #[must_use]
    pub fn zstd() -> Self {
        let level = Format::Zstd.row().default_level;
        Self(vec![Transform::Compress { format: Format::Zstd, level, members: false }])
    }

    #[must_use]
    pub fn transforms(&self) -> &[Transform] {
        &self.0
    }

    /// Whether any transform can make a file larger without a bound of its own.
    #[must_use]
    pub fn decompresses(&self) -> bool {
        !self
            .0
            .iter()
            .all(|transform| matches!(transform, Transform::Compress { .. } | Transform::Copy))
    }

    /// What is allowed in these transforms, and hardly what was meant.
    #[must_use]
    pub fn doubts(&self) -> Vec<String> {
        let pairs = self.0.windows(2).filter_map(|pair| match pair {
            [one @ Transform::Compress { format, .. }, other @ Transform::Decompress(undone)]
                if format == undone =>
            {
                Some(format!("`{other}` undoes `{one}`"))
            }
            [one @ Transform::Compress { .. }, other @ Transform::DecompressAny] => {
                Some(format!("`{other}` undoes `{one}`"))
            }
            [one @ Transform::Compress { .. }, other @ Transform::Compress { .. }] => {
                Some(format!("`{other}` compresses what `{one}` has compressed already"))
            }
            _ => None,
        });
        pairs.collect()
    }

    /// Whether the output is the source, byte for byte.
    #[must_use]
    pub fn only_copies(&self) -> bool {
        self.0.iter().all(|transform| *transform == Transform::Copy)
    }

    /// The name of the output made from a source of this name, by the words alone: a transform that
    /// decompresses takes its extension off where it is there, one that compresses adds its own.
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

    /// The extension the last transform adds, if it adds one.
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
    fn transforms_that_undo_or_repeat_each_other_are_doubted() {
        for (transforms, doubt) in [
            ("gzip,gunzip", "`gunzip` undoes `gzip:6`"),
            ("gzip,decompress", "`decompress` undoes `gzip:6`"),
            ("zstd,gzip", "`gzip:6` compresses what `zstd:3` has compressed already"),
        ] {
            assert_eq!(chain(transforms).doubts(), [doubt], "{transforms}");
        }
        for transforms in ["gzip", "gunzip,zstd", "gunzip,gunzip", "zstd,copy"] {
            assert!(chain(transforms).doubts().is_empty(), "{transforms}");
        }
    }

    #[test]
    fn a_name_that_is_not_utf8_keeps_its_bytes() {
        let name = OsStr::from_bytes(b"\xff\n.gz");
        assert_eq!(chain("gunzip").output_name(name).as_bytes(), b"\xff\n");
    }

    #[test]
    fn errors_say_what_would_be_right() {
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
    fn a_chain_prints_as_it_is_written() {
        assert_eq!(chain("gunzip, zstd").to_string(), "gunzip,zstd:3");
        assert_eq!(chain("gzip:members").to_string(), "gzip:6:members");
        assert_eq!(chain("gzip:9:members").to_string(), "gzip:9:members");
    }
}
