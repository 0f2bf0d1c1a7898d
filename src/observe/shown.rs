//! Names of files, for people to read.

use std::{
    fmt::{self, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
};

/// A path with everything escaped that could move a terminal's cursor or end a line: names are
/// bytes that anyone may choose. Two different paths are never shown alike, letters of one shape
/// left aside.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(&'a Path);

/// Shows a path.
#[must_use]
pub fn shown<P: AsRef<Path> + ?Sized>(path: &P) -> Shown<'_> {
    Shown(path.as_ref())
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.as_os_str().as_bytes().utf8_chunks() {
            for letter in chunk.valid().chars() {
                if letter.is_control() || letter == '\\' || is_invisible(letter) {
                    write!(f, "{}", letter.escape_default())?;
                } else {
                    f.write_char(letter)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Marks that turn the direction of text, or have no shape: they make a name look like another.
const fn is_invisible(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_fool_a_terminal_is_escaped() {
        let name = std::ffi::OsStr::from_bytes(b"caf\xc3\xa9\n\x1b[2J\xff");
        assert_eq!(shown(name).to_string(), "café\\n\\u{1b}[2J\\xff");
        assert_eq!(shown("a\u{202e}gpj.exe").to_string(), "a\\u{202e}gpj.exe");
    }

    #[test]
    fn a_name_that_is_written_like_an_escape_is_shown_otherwise() {
        assert_eq!(shown("a\n").to_string(), r"a\n");
        assert_eq!(shown(r"a\n").to_string(), r"a\\n");
    }
}
